//! Plugins that do not do what is asked of them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Ran, Scene, run, run_with};

/// What civm says of a file that only a plugin could open, where the plugin is this shell script.
fn with_plugin(script: &str) -> Ran {
    let scene = Scene::new();
    let recipient = "age1ega644j3ux6kqwm8tyvh4hyzfy9e9rsdtn7f8l2mrjtl7k3075vsgx0fws";
    let args = ["secrets", "encrypt", "--age", recipient, "--filename-override", "a.yaml"];
    scene.write("a.yaml", run_with(&mut scene.civm(&args), b"a: b\n").ok().stdout);
    let plugin = scene.write("bin/age-plugin-fake", format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(plugin, Permissions::from_mode(0o755)).expect("set");
    let identity = age::plugin::Identity::default_for_plugin("fake").expect("a name").to_string();
    let path = std::env::var("PATH").expect("a path");
    let path = format!("{}:{path}", scene.file("bin").display());
    let mut command = scene.civm(&["secrets", "decrypt", "a.yaml"]);
    run(command.env("PATH", path).env("SOPS_AGE_KEY", identity)).code(128)
}

#[test]
fn what_a_plugin_says_is_passed_on_in_its_own_words() {
    // "no touch" in base64, about an identity and about nothing in particular; the end, once that was read.
    for kind in ["identity 0", "internal"] {
        let script = format!("printf -- '-> error {kind}\\nbm8gdG91Y2g\\n-> done\\n\\n'; cat >/dev/null");
        let ran = with_plugin(&script).says("fake plugin: no touch. Did not");
        ran.says("age-plugin-fake failed: no touch\n");
    }
}

#[test]
fn a_plugin_that_does_not_know_the_file_is_no_error_of_its_own() {
    let ran = with_plugin("printf -- '-> done\\n\\n'; cat >/dev/null");
    ran.says("identity did not match any of the recipients: fake\n").silent_on("of no help");
}

#[test]
fn a_plugin_that_dies_or_talks_nonsense_is_named_and_the_file_is_not_called_damaged() {
    for script in ["exit 1", "echo nonsense; cat >/dev/null"] {
        with_plugin(script).says("age-plugin-fake failed: ").silent_on("damaged");
    }
}
