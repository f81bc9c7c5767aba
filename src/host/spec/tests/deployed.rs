//! Builders that are deployed, and what can be wrong with them.

use std::time::Duration;

use super::{KEY, load_from};
use crate::host::spec::{Arch, Deployed, Require, Spec, Start};

const BUILDER: &str = "cpus: {x86_64: 40, aarch64: 20}\nmemory: 40G\nusers: {vm: {}, other: {}, guest: {}}\nnix:\n  trusted_users: [vm]\n";

/// A controller with one builder of these lines, and the hosts that it could be made of.
fn load(lines: &str, arch: Arch) -> Result<Spec, String> {
    let lines: String = lines.lines().map(|line| format!("      {line}\n")).collect();
    let text = format!("secrets: [k]\nnix:\n  max_jobs: 0\n  builders:\n    b:\n{lines}");
    let deploys = format!("nix:\n  builders:\n    x: {{deploy: builder, on: u@h, on_public_key: {KEY}}}\n");
    let hash = "ab".repeat(32);
    let fetches = format!("{BUILDER}artifacts: {{/opt/x: {{url: \"https://h/x\", sha256: {hash}}}}}\n");
    let hosts = [
        ("h", text.as_str()),
        ("builder", BUILDER),
        ("arm", &format!("arch: aarch64\n{BUILDER}")),
        ("two", "users: {a: {}, b: {}}\nnix: {trusted_users: [a, b]}\n"),
        ("nobody", "users: {a: {}}\nnix: {}\n"),
        ("plain", "cpus: 2\n"),
        ("broken", "cpus: 2\nmemroy: 3G\n"),
        ("deploys", &deploys),
        ("fetches", &fetches),
    ];
    load_from(&hosts, arch, true).map_err(|error| error.to_string())
}

fn good(lines: &str) -> Deployed {
    let lines = format!("on: u@lender\non_public_key: {KEY} x\n{lines}");
    let spec = load(&lines, Arch::X86_64).unwrap_or_else(|error| panic!("{lines}{error}"));
    spec.nix.expect("nix").deployed.remove(0)
}

fn bad(lines: &str) -> String {
    let lines = format!("on: u@lender\non_public_key: {KEY} x\n{lines}");
    let error = load(&lines, Arch::X86_64).err().unwrap_or_else(|| panic!("accepted: {lines}"));
    error.replace("hosts/h/host.yaml:", "")
}

#[test]
fn what_is_not_said_follows_from_the_host_that_is_deployed() {
    let builder = good("deploy: builder\n");
    assert_eq!((builder.name.as_str(), builder.host.as_str(), builder.user.as_str()), ("b", "builder", "vm"));
    assert_eq!((builder.on.to_string().as_str(), builder.on_public_key.as_str()), ("u@lender", KEY));
    assert_eq!((builder.arch, builder.max_jobs, builder.features), (Arch::X86_64, Some(4), None));
    assert_eq!((builder.start, builder.require), (Start::Always, Require::Kvm));
    let times = [builder.idle, builder.hold, builder.ttl, builder.drain].map(|time| time.as_secs());
    assert_eq!(times, [1800, 600, 60, 300]);
    assert_eq!((builder.key, builder.on_key, builder.port), (None, None, None));
}

#[test]
fn everything_can_be_said() {
    let builder = good(
        "deploy: builder\narch: aarch64\nuser: root\nmax_jobs: 7\nspeed: 10\nfeatures: [kvm]\nmandatory_features: [x]\n\
         start: on-demand\nrequire: any\nidle: 2h\nhold: 90s\nttl: 30s\ndrain: 0s\nport: 3022\nkey: k\non_key: k\n\
         run_with: [nix, shell, 'nixpkgs#qemu', -c]\n",
    );
    assert_eq!((builder.arch, builder.user.as_str(), builder.max_jobs), (Arch::Aarch64, "root", Some(7)));
    assert_eq!(builder.features, Some(vec!["kvm".to_owned()]));
    assert_eq!((builder.start, builder.require), (Start::OnDemand, Require::Any));
    assert_eq!((builder.idle, builder.drain), (Duration::from_secs(7200), Duration::ZERO));
    assert_eq!(
        (builder.port, builder.key.as_deref(), builder.on_key.as_deref()),
        (Some(3022), Some("k"), Some("k"))
    );
    assert_eq!(builder.run_with.len(), 4);
    // A word is not one of a list.
    assert_eq!(good("deploy: builder\nmax_jobs: auto\nfeatures: auto\n").features, None);
}

#[test]
fn the_kind_of_machine_is_that_hosts_own_or_is_chosen() {
    assert_eq!(good("deploy: arm\n").arch, Arch::Aarch64);
    assert_eq!(good("deploy: arm\narch: aarch64\n").arch, Arch::Aarch64);
    assert_eq!(
        bad("deploy: arm\narch: x86_64\n"),
        "9: arch is `x86_64`, but hosts/arm/host.yaml says aarch64"
    );
    assert_eq!(bad("deploy: arm\narch: arm64\n"), "9: arch is `arm64`: it can be `x86_64` or `aarch64`");
    let lines = format!("on: u@h\non_public_key: {KEY}\ndeploy: builder\n");
    let spec = load(&lines, Arch::Aarch64).expect("a controller of the other kind");
    assert_eq!(spec.nix.expect("nix").deployed[0].system(), "aarch64-linux");
}

#[test]
fn a_host_that_cannot_be_a_builder_is_named() {
    assert_eq!(bad("deploy: bilder\n"), "8: there is no host `bilder` to deploy; did you mean `builder`?");
    assert_eq!(bad("deploy: ../x\n"), "8: there is no host `../x` to deploy");
    assert_eq!(bad("deploy: h\n"), "8: `h` cannot deploy itself");
    assert_eq!(bad("deploy: plain\n"), "8: host `plain` has no `nix:`, so it cannot be a builder");
    assert_eq!(
        bad("deploy: fetches\n"),
        "8: host `fetches` has artifacts, which a builder that is deployed is not given"
    );
    assert_eq!(
        bad("deploy: broken\n"),
        "hosts/broken/host.yaml:2: unknown key `memroy`; did you mean `memory`?"
    );
    assert_eq!(
        bad("deploy: deploys\n"),
        "hosts/deploys/host.yaml:3: `deploys` is deployed as a builder itself, so it cannot deploy others"
    );
}

#[test]
fn the_user_is_one_whom_the_builders_nix_trusts() {
    assert_eq!(bad("deploy: builder\nuser: nobody\n"), "9: host `builder` has no user `nobody`");
    assert!(
        bad("deploy: builder\nuser: other\n")
            .starts_with("9: the Nix of host `builder` does not trust `other`")
    );
    assert_eq!(bad("deploy: two\n"), "5: host `two` has several trusted users: say which one with `user`");
    assert!(bad("deploy: nobody\n").starts_with("5: host `nobody` has no user whom its Nix trusts"));
    assert_eq!(good("deploy: two\nuser: b\n").user, "b");
}

#[test]
fn where_it_is_made_has_a_user_and_a_known_key() {
    let whole = format!("deploy: builder\non: u@lender:2222\non_public_key: {KEY}\n");
    let on = |on: &str| {
        let lines = whole.replace("u@lender:2222", on);
        load(&lines, Arch::X86_64).map(|spec| spec.nix.expect("nix").deployed[0].on.clone())
    };
    let seen = on("u@lender:2222").expect("a machine");
    assert_eq!((seen.user.as_str(), seen.host.as_str(), seen.port), ("u", "lender", 2222));
    assert_eq!(on("'a.b@[fe80::1]:22'").expect("a machine").to_string(), "a.b@[fe80::1]");
    let error = on("lender.example.org").expect_err("no user");
    assert_eq!(
        error,
        "hosts/h/host.yaml:7: `lender.example.org` has no user: write USER@HOST, the account there that civm may use"
    );
    for wrong in ["u@", "'@h'", "u@h:0", "u@h:x", "u@-oProxyCommand=x", "'-l@h'", "u@h:22:22", "'u@[::1]x'"] {
        let error = on(wrong).expect_err(wrong);
        assert!(error.contains(":7: "), "{wrong}: {error}");
    }
    let without = |key: &str| {
        let lines: String = whole
            .lines()
            .filter(|line| !line.starts_with(&format!("{key}:")))
            .map(|line| format!("{line}\n"))
            .collect();
        load(&lines, Arch::X86_64).expect_err(key)
    };
    assert!(without("on").contains(":5: the builder has no `on`: where it is made, such as `on: user@host"));
    let error = without("on_public_key");
    assert!(
        error.contains(":5: the builder has no `on_public_key`") && error.contains("trusted blindly"),
        "{error}"
    );
    assert!(
        load(&whole.replace(KEY, "AAAA"), Arch::X86_64)
            .expect_err("no key")
            .contains(":8: this is not a public key")
    );
}

#[test]
fn values_that_cannot_be_are_refused_with_their_line() {
    for (line, message) in [
        ("on_key: other", "9: `other` is not one of this host's `secrets`"),
        ("key: other", "9: `other` is not one of this host's `secrets`"),
        (
            "hold: 10",
            "9: nix.builders.b.hold: invalid type: integer `10`, expected a length of time such as 30m or 90s",
        ),
        (
            "hold: 10d",
            "9: nix.builders.b.hold: `10d` is not a length of time: write a whole number and one of s, m, h, as in 30m",
        ),
        ("ttl: 5s", "9: ttl is 5 s: it can be 15 s to 3600 s"),
        ("idle: 48h", "9: idle is 172800 s: it can be 1 s to 86400 s"),
        ("max_jobs: many", "9: max_jobs is `many`: it can be a number or `auto`"),
        ("max_jobs: 0", "9: max_jobs is 0: it must be at least 1"),
        ("features: all", "9: features is `all`: it can be a list or `auto`"),
        ("start: later", "9: start is `later`: it can be `always` or `on-demand`"),
        ("require: tcg", "9: require is `tcg`: it can be `kvm` or `any`"),
        ("port: 22", "9: port is 22: the port of the controller's loopback can be 1024 to 65535"),
    ] {
        assert_eq!(bad(&format!("deploy: builder\n{line}\n")), message);
    }
    assert!(
        bad("deploy: builder\nhost: x\n").starts_with("9: `host` is for builders that are there already")
    );
    let error =
        load(&format!("host: x\nsystems: [a]\nuser: u\nkey: k\npublic_key: {KEY}\nhold: 1m\n"), Arch::X86_64);
    assert!(
        error
            .expect_err("no deploy")
            .contains(":11: `hold` is for builders that civm makes: it goes with `deploy: HOST`")
    );
}

#[test]
fn builders_do_not_stand_in_each_others_way() {
    let one = |name: &str, more: &str| {
        format!("    {name}: {{deploy: builder, on: u@h, on_public_key: {KEY}{more}}}\n")
    };
    let both = |builders: &str| {
        let text = format!("secrets: [k]\nnix:\n  builders:\n{builders}");
        load_from(&[("h", &text), ("builder", BUILDER)], Arch::X86_64, true)
            .map_err(|error| error.to_string())
    };
    let ports = one("a", ", port: 3022") + &one("b", ", port: 3022");
    assert_eq!(both(&ports).expect_err("a port"), "hosts/h/host.yaml:5: `a` has the port 3022 too");
    assert!(
        both(&one("localhost", "")).expect_err("a name").contains("Nix builds on `localhost` without ssh")
    );
    for name in ["keys", "machines", ".x", "-x"] {
        assert!(both(&one(name, "")).expect_err(name).contains("cannot be the name of a builder"), "{name}");
    }
    let fixed = format!("    c: {{host: a, systems: [x], user: u, key: k, public_key: {KEY}}}\n");
    let error = both(&(one("a", "") + &fixed)).expect_err("an address");
    assert!(error.contains("`a` is the address of the builder `c`"), "{error}");
}

#[test]
fn an_extended_host_gives_up_its_builders() {
    let base = format!(
        "secrets: [k]\nnix:\n  max_jobs: 0\n  builders:\n    old: {{host: x, systems: [x86_64-linux], user: u, key: k, public_key: {KEY}}}\n"
    );
    let child = format!(
        "extends: base\nnix:\n  builders:\n    old:\n    new: {{deploy: builder, on: u@h, on_public_key: {KEY}}}\n"
    );
    let spec = load_from(&[("h", &child), ("base", &base), ("builder", BUILDER)], Arch::X86_64, true);
    let nix = spec.expect("a host").nix.expect("nix");
    assert_eq!((nix.builders.len(), nix.deployed.len()), (0, 1));
}

#[test]
fn lines_of_nix_conf_are_lines() {
    let nix = |line: &str| {
        let text = format!("nix:\n  extra:\n    - {line}\n");
        load_from(&[("h", &text)], Arch::X86_64, false).map_err(|error| error.to_string())
    };
    assert_eq!(nix("keep-outputs = true").expect("a line").nix.expect("nix").extra, ["keep-outputs = true"]);
    assert_eq!(
        nix("max-jobs = 3").expect_err("another key's"),
        "hosts/h/host.yaml:3: `max-jobs` is written by civm: use `max_jobs` of `nix:`, or `extra-max-jobs` where nix has it"
    );
    for wrong in ["x", "'!include /etc/passwd'", "'a b = c'"] {
        assert!(nix(wrong).expect_err(wrong).contains("is not a line of nix.conf"), "{wrong}");
    }
    let text = "nix: {min_free: 9G, max_free: 3G}\n";
    let error = load_from(&[("h", text)], Arch::X86_64, false).expect_err("a range").to_string();
    assert_eq!(error, "hosts/h/host.yaml:1: max_free is 3G, less than min_free (9G)");
}
