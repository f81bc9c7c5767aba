use crate::host::spec::load::{Source, load};
use crate::host::spec::{Arch, Spec};

fn read(text: &str) -> Result<Spec, String> {
    let source = |_: &str| Ok(Source { file: "host.yaml".into(), text: text.to_owned() });
    load("x", Arch::X86_64, &|_| None, &source).map_err(|error| error.to_string())
}

const CI: &str = "services:
  nix-daemon.socket: {}
  ci:
    description: The CI service
    run: java -jar /opt/ci.war --port=8081
    needs: /opt/ci.war
    before: [rm -rf plugins, cp -rL /opt/plugins plugins]
    user: ci
    environment: {HOME: /var/lib/ci, OPTIONS: 'a \"b\" 5 % \\', PORT: 8081}
    state_directory: ci
    after: [civm-builders.service, network.target]
";

#[test]
fn a_service_of_a_few_keys_is_a_unit() {
    let spec = read(CI).expect("services");
    assert_eq!(spec.services, ["nix-daemon.socket"]);
    let unit = &spec.units["ci.service"];
    assert!(unit.start);
    assert_eq!(
        unit.text,
        r#"[Unit]
Description=The CI service
Wants=civm-builders.service network.target
After=civm-builders.service network.target
ConditionPathExists=/opt/ci.war

[Service]
Type=exec
User=ci
Environment="HOME=/var/lib/ci"
Environment="OPTIONS=a \"b\" 5 %% \\"
Environment="PORT=8081"
StateDirectory=ci
WorkingDirectory=/var/lib/ci
ExecStartPre=rm -rf plugins
ExecStartPre=cp -rL /opt/plugins plugins
ExecStart=java -jar /opt/ci.war --port=8081
Restart=on-failure
"#
    );
    assert_eq!(read("services: [a.socket]\n").expect("a list").services, ["a.socket"]);
    let least = read("services: {a.service: {run: /bin/true, start: false}}\n").expect("one");
    assert!(!least.units["a.service"].start && least.services.is_empty());
}

#[test]
fn what_is_not_a_service_has_its_line() {
    for (text, message) in [
        ("services:\n  ci: {}\n", "host.yaml:2: `ci` is not a unit name"),
        ("services:\n  ci: {user: u}\n", "host.yaml:2: `ci` has no `run`"),
        ("services:\n  ci:\n    run: ''\n", "host.yaml:3: run is empty"),
        ("services:\n  ci:\n    run: \"a\\nb\"\n", "host.yaml:3: run is not one line"),
        ("services:\n  a.timer: {run: x}\n", "host.yaml:2: `a.timer` is not a service"),
        (
            "services:\n  a:\n    run: x\n    state_directory: ../x\n",
            "host.yaml:4: `../x` is not a directory below",
        ),
        ("services:\n  a:\n    run: x\n    user: a b\n", "host.yaml:4: `a b` is not the name of an account"),
        ("services:\n  a:\n    run: x\n    environment: {1A: x}\n", "host.yaml:4: `1A` is not a variable"),
        ("services:\n  a:\n    run: x\n    after: [b]\n", "host.yaml:4: `b` is not a unit name"),
        (
            "services:\n  a: {run: x}\nunits: {a.service: y}\n",
            "host.yaml:3: `a.service` is among `services` already",
        ),
        ("services:\n  a:\n", "host.yaml:2: `services.a` has no value; write `a: {}` for all defaults"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.starts_with(message), "{error}\n{message}");
    }
}

#[test]
fn systemd_takes_the_unit() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("ci.service");
    let text = CI.replace("java", "/bin/true").replace("user: ci", "user: root");
    let unit = read(&text).expect("services").units["ci.service"].text.clone();
    std::fs::write(&path, unit).expect("written");
    let verified =
        std::process::Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
    let Ok(verified) = verified else { return eprintln!("skipped: no systemd-analyze") };
    let said = String::from_utf8_lossy(&verified.stderr);
    let about = said.lines().filter(|line| line.contains("ci.service:"));
    assert_eq!(about.collect::<Vec<_>>(), [""; 0], "{said}");
}
