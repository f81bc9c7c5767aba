use super::super::compose::{Facts, layer};
use super::super::layer::Layer;
use super::super::spec::Arch;
use super::super::spec::load::{ProjectFiles, SecretsFile, Source, load};
use super::builders::{DEPLOYED, GROUP, UNIT};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJKgz+PLpbRnMpiPUnFsbLXwSc/ypyGKJ1Bt3mXDsFPq";

fn controller(builders: &str) -> Result<Layer, String> {
    let text = format!(
        "secrets: [near, far]\nusers: {{jenkins: {{}}, alice: {{}}}}\nnix:\n  max_jobs: 0\n  trusted_users: [jenkins]\n  builders:\n{builders}"
    );
    let spec = load(
        "controller",
        Arch::X86_64,
        &|_| Some(SecretsFile { path: "secrets.yaml".into(), tree: None, project: ProjectFiles::default() }),
        &|name| {
            let text = match name {
                "builder" => "users: {vm-builder: {}}\nnix: {trusted_users: [vm-builder]}\n".to_owned(),
                _ => text.replace("KEY", KEY),
            };
            Ok(Source { file: "host.yaml".into(), text })
        },
    );
    spec.map(|spec| layer(&spec, &Facts::default())).map_err(|error| error.to_string())
}

const EPHEMERAL: &str = "
    eb-x86: {deploy: builder, on: lender@a.example.org, on_public_key: KEY, speed: 10}
    eb-arm: {deploy: builder, arch: aarch64, on: lender@b.example.org, on_public_key: KEY, key: far, hold: 1m}
    fixed: {host: c.example.org, systems: [x86_64-linux], user: u, key: near, public_key: KEY}
";

#[test]
fn builders_that_are_deployed_are_reached_through_their_keeper() {
    let layer = controller(EPHEMERAL).expect("a layer");
    let text = |path: &str| layer.files[path].text.as_str();
    assert_eq!(
        text("/etc/ssh/ssh_config.d/50-civm-ephemeral.conf"),
        "Host eb-arm
  ProxyCommand /run/civm/civm builder dial eb-arm
  User vm-builder
  IdentityFile /run/secrets/far
  IdentitiesOnly yes
  HostKeyAlias eb-arm
  UserKnownHostsFile /run/civm/builders/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  VerifyHostKeyDNS no
  UpdateHostKeys no
  BatchMode yes
  RequestTTY no
  ForwardAgent no
  ControlMaster no
  ControlPath none
  ConnectTimeout 90
  ServerAliveInterval 15
  ServerAliveCountMax 3
  IPQoS throughput
Host eb-x86
  ProxyCommand /run/civm/civm builder dial eb-x86
  User vm-builder
  IdentityFile /run/civm/builders/keys/%u/id_ed25519
  IdentitiesOnly yes
  HostKeyAlias eb-x86
  UserKnownHostsFile /run/civm/builders/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  VerifyHostKeyDNS no
  UpdateHostKeys no
  BatchMode yes
  RequestTTY no
  ForwardAgent no
  ControlMaster no
  ControlPath none
  ConnectTimeout 630
  ServerAliveInterval 15
  ServerAliveCountMax 3
  IPQoS throughput
"
    );
    assert!(
        text("/etc/nix/nix.conf").contains("\nbuilders = @/etc/nix/machines;@/run/civm/builders/machines\n")
    );
    assert!(!text("/etc/nix/machines").contains("eb-"), "the keeper writes theirs");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(text("/etc/civm/builders.json")).expect("JSON"),
        serde_json::json!({
            "aarch64-linux": "ssh-ng://vm-builder@eb-arm?trusted=true",
            "x86_64-linux": "ssh-ng://vm-builder@eb-x86?trusted=true",
        }),
        "the fastest of each system"
    );
}

#[test]
fn a_keeper_runs_where_builders_are_deployed_for_those_whom_nix_trusts() {
    let layer = controller(EPHEMERAL).expect("a layer");
    let unit = &layer.units[UNIT];
    assert!(
        unit.start && unit.text.contains("\nType=notify\n") && unit.text.contains("\nTimeoutStopSec=20\n")
    );
    assert!(layer.groups.contains(&GROUP.to_owned()));
    let groups =
        |name: &str| layer.users.iter().find(|user| user.name == name).expect("a user").groups.clone();
    assert_eq!((groups("jenkins"), groups("alice")), (vec![GROUP.to_owned()], Vec::new()));
    let fixed = "    f: {host: c, systems: [x86_64-linux], user: u, key: near, public_key: KEY}\n";
    let layer = controller(fixed).expect("a layer");
    assert!(!layer.units.contains_key(UNIT) && !layer.groups.contains(&GROUP.to_owned()));
    assert!(!layer.files["/etc/nix/nix.conf"].text.contains("builders = "));
}

#[test]
fn what_the_keeper_is_and_reads_is_nobody_elses_to_write() {
    for (own, message) in [
        (format!("files: {{{DEPLOYED}: x}}\n"), "civm writes /etc/civm/deployed from other keys"),
        (format!("units: {{{UNIT}: x}}\n"), "is the keeper of this host's builders"),
    ] {
        let error = controller(&format!("{EPHEMERAL}{own}")).expect_err("refused");
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn systemd_takes_the_unit_of_the_keeper() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join(UNIT);
    let unit = super::builders::unit().text.replace("/run/civm/civm", "/bin/true");
    std::fs::write(&path, unit).expect("written");
    let verified =
        std::process::Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
    let Ok(verified) = verified else { return eprintln!("skipped: no systemd-analyze") };
    let said = String::from_utf8_lossy(&verified.stderr);
    let about = said.lines().filter(|line| line.contains(UNIT) && !line.contains("civm-sshd"));
    assert_eq!(about.collect::<Vec<_>>(), [""; 0], "{said}");
}
