//! Hosts that deploy builders and lay files from the net over their image, as far as host.yaml alone tells.

use crate::support::{Ran, Scene, run};

const INPUT: i32 = 2;
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJKgz+PLpbRnMpiPUnFsbLXwSc/ypyGKJ1Bt3mXDsFPq";
const BUILDER: &str = "users: {vm: {}}\nnix: {trusted_users: [vm]}\n";

fn up(controller: &str, builder: &str) -> Ran {
    let scene = Scene::new();
    scene.write("hosts/c/host.yaml", controller.replace("KEY", KEY));
    scene.write("hosts/b/host.yaml", builder);
    run(&mut scene.civm(&["up", "c", "--print-command"]))
}

const CONTROLLER: &str = "nix:\n  max_jobs: 0\n  builders:\n    x:\n      deploy: b\n      on: lender@example.org\n      on_public_key: KEY\n";

#[test]
fn a_builder_that_cannot_be_deployed_is_refused_with_its_line() {
    let cases = [
        ("deploy: b", "deploy: bb", "hosts/c/host.yaml:5: there is no host `bb` to deploy"),
        (
            "lender@example.org",
            "example.org",
            "hosts/c/host.yaml:6: `example.org` has no user: write USER@HOST",
        ),
        (
            "deploy: b\n",
            "deploy: b\n      on_key: k\n",
            "hosts/c/host.yaml:6: `k` is not one of this host's `secrets`",
        ),
        ("deploy: b\n", "deploy: b\n      user: ci\n", "hosts/c/host.yaml:6: host `b` has no user `ci`"),
        ("deploy: b\n", "deploy: b\n      hold: 5\n", "expected a length of time such as 30m or 90s"),
        ("deploy: b\n", "deploy: b\n      hots: x\n", "unknown key `hots`; did you mean `host`?"),
    ];
    for (old, new, message) in cases {
        up(&CONTROLLER.replace(old, new), BUILDER).code(INPUT).says(message);
    }
    up(CONTROLLER, "nix: {trusted_users: [vm]}\n")
        .code(INPUT)
        .says("it needs one in `users` that `nix.trusted_users` names");
    up(CONTROLLER, "nix: {}\ncpu: 3\n")
        .code(INPUT)
        .says("hosts/b/host.yaml:2: unknown key `cpu`; did you mean `cpus`?");
}

#[test]
fn where_no_host_can_be_read_its_mistake_is_named() {
    let scene = Scene::new();
    let wrong = CONTROLLER.replace("KEY", KEY).replace("deploy: b\n", "deploy: b\n      ttl: 1s\n");
    scene.write("hosts/c/host.yaml", wrong);
    scene.write("hosts/b/host.yaml", BUILDER);
    for words in [&["builder", "run"][..], &["builder", "up", "--all"], &["builder", "up", "x"]] {
        run(&mut scene.civm(words))
            .code(INPUT)
            .says("hosts/c/host.yaml:6: ttl is 1 s: it can be 15 s to 3600 s");
    }
}

#[test]
fn an_artifact_is_pinned_or_refused() {
    let hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    for (lines, message) in [
        (
            "url: https://e.org/x",
            "hosts/c/host.yaml:2: the artifact has no `sha256`: `sha256sum FILE` prints it",
        ),
        ("url: http://e.org/x, sha256: HASH", "hosts/c/host.yaml:2: `http://e.org/x` is not an https URL"),
        ("url: https://e.org/x, sha256: abc", "hosts/c/host.yaml:2: `abc` is not a SHA-256"),
        ("from: list.json", "hosts/c/host.yaml:2: the destination of a list needs `{name}`"),
        ("from: ../list.json", "hosts/c/host.yaml:2: `../list.json` is not a file beside host.yaml"),
        ("mode: 0644", "hosts/c/host.yaml:2: an artifact has `url` and `sha256`, or `from` and neither"),
    ] {
        let host = format!("artifacts:\n  /opt/x: {{{}}}\n", lines.replace("HASH", hash));
        up(&host, "").code(INPUT).says(message);
    }
    up("artifacts:\n  /shared/x: {from: a.json}\n", "")
        .code(INPUT)
        .says("is below /shared, which the guest makes itself");
}
