use std::collections::BTreeMap;
use std::path::PathBuf;

use super::load::{ProjectFiles, SecretsFile, Source, load};
use super::{Arch, Jobs, MachineType, Size, Spec};
use crate::host::error::Error;
use crate::sops::tree::Tree;
use crate::vm::network::Network;

mod deployed;
mod early;
mod templates;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJKgz+PLpbRnMpiPUnFsbLXwSc/ypyGKJ1Bt3mXDsFPq";

fn load_from(hosts: &[(&str, &str)], arch: Arch, has_secrets: bool) -> Result<Spec, Error> {
    load_with(hosts, arch, has_secrets.then_some(None))
}

/// The same with a file of secrets, whose content is known or not.
fn load_with(hosts: &[(&str, &str)], arch: Arch, secrets: Option<Option<Tree>>) -> Result<Spec, Error> {
    let texts: BTreeMap<&str, &str> = hosts.iter().copied().collect();
    let secrets = secrets.map(|tree| SecretsFile {
        path: "hosts/h/secrets.yaml".into(),
        tree,
        project: ProjectFiles::default(),
    });
    load(hosts[0].0, arch, &|_| secrets.clone(), &|name| match texts.get(name) {
        Some(text) => {
            Ok(Source { file: PathBuf::from(format!("hosts/{name}/host.yaml")), text: (*text).into() })
        }
        None => Err(Error::NoHost {
            name: name.into(),
            hosts: "hosts".into(),
            suggestion: super::super::error::alike(name, texts.keys().copied()),
            known: Vec::new(),
        }),
    })
}

fn good(text: &str) -> Spec {
    load_from(&[("h", text)], Arch::X86_64, true).unwrap_or_else(|error| panic!("{text}\n{error}"))
}

/// The message, without the path of the file in front of its line.
fn bad(text: &str) -> String {
    let error =
        load_from(&[("h", text)], Arch::X86_64, true).err().unwrap_or_else(|| panic!("accepted: {text}"));
    error.to_string().replace("hosts/h/host.yaml:", "")
}

#[test]
fn aliases_that_would_fill_the_memory_are_refused() {
    let users: String = (0..20_000).map(|at| format!("  u{at}: {{groups: *g}}\n")).collect();
    let error = bad(&format!("users:\n  a:\n    groups: &g [{}]\n{users}", "x,".repeat(100_000)));
    assert!(error.contains("aliases"), "{error}");
    let few = good("users:\n  a: {groups: &g [kvm]}\n  b: {groups: *g}\n");
    assert_eq!(few.users.iter().map(|user| user.groups.concat()).collect::<Vec<_>>(), ["kvm", "kvm"]);
}

#[test]
fn the_machine_type_is_one_of_the_architecture() {
    let on = |text: &str, arch| load_from(&[("h", text)], arch, false).map(|spec| spec.machine_type);
    assert_eq!(good("").machine_type, MachineType::Q35);
    assert_eq!(on("", Arch::Aarch64).expect("a host"), MachineType::Virt);
    assert_eq!(good("machine: microvm\n").machine_type, MachineType::Microvm);
    assert_eq!(
        bad("machine: micro\n"),
        "1: unknown machine `micro`: it can be q35 or microvm; did you mean `microvm`?"
    );
    let error = on("cpus: 2\nmachine: microvm\n", Arch::Aarch64).expect_err("not on aarch64");
    assert_eq!(
        error.to_string(),
        "hosts/h/host.yaml:2: machine is `microvm`, which is of x86_64: on aarch64 it can be virt; \
         one for each is `machine: { x86_64: microvm }`"
    );
    // A kind of machine that is not named has its usual one.
    let one = "machine: { x86_64: microvm }\n";
    assert_eq!(good(one).machine_type, MachineType::Microvm);
    assert_eq!(on(one, Arch::Aarch64).expect("a host"), MachineType::Virt);
    assert!(bad("machine: { x86_64: virt }\n").contains("on x86_64 it can be q35 or microvm"));
}

#[test]
fn an_empty_host_has_defaults() {
    for text in ["", "# nothing\n", "{}\n"] {
        let spec = good(text);
        assert_eq!(
            (spec.cpus, spec.memory.to_string(), spec.disk.to_string()),
            (2, "2G".into(), "16G".into())
        );
        assert!(spec.console_login && !spec.source && spec.forwards.is_empty() && spec.nix.is_none());
        let zram = spec.zram.expect("zram");
        assert_eq!((zram.percent, zram.algorithm.as_str()), (150, "zstd"));
        assert_eq!(spec.sysctls["vm.swappiness"], "180");
        assert_eq!(spec.sysctls.len(), 4);
    }
}

#[test]
fn an_unknown_key_is_an_error_with_its_line_and_a_suggestion() {
    assert_eq!(bad("cpus: 2\nmemroy: 4G\n"), "2: unknown key `memroy`; did you mean `memory`?");
    assert_eq!(
        bad("users:\n  one:\n    grops: [a]\n"),
        "3: users.one: unknown key `grops`; did you mean `groups`?"
    );
    assert_eq!(
        bad("nix:\n  builders:\n    b:\n      hots: x\n").split(';').next_back(),
        Some(" did you mean `host`?")
    );
    assert_eq!(bad("qqqq: 1\n"), "1: unknown key `qqqq`");
}

#[test]
fn a_value_of_another_type_is_an_error_with_its_line() {
    assert_eq!(bad("\ncpus: many\n"), "2: cpus: invalid type: string \"many\", expected a whole number");
    assert_eq!(
        bad("memory: 4096\n"),
        "1: memory: invalid type: integer `4096`, expected a size such as 4G or 512M"
    );
    assert_eq!(bad("- a\n"), "1: invalid type: sequence, expected a mapping");
    assert_eq!(bad("users:\n  a: b\n"), "2: users.a: invalid type: string \"b\", expected a mapping");
    assert!(bad("memory: 4X\n").starts_with("1: memory: `4X` is not a size"));
    assert!(bad("a: [\n").starts_with("1: unknown key `a`") || bad("a: [\n").contains("did not find"));
    assert!(bad("cpus: 1\ncpus: 2\n").contains("duplicate field `cpus`"));
    assert!(bad("users:\n  a: {}\n  a: {}\n").contains("duplicate entry with key \"a\""));
}

#[test]
fn a_network_is_one_of_three_and_not_the_hosts_where_nothing_is_said() {
    assert_eq!(good("").network, Network::NoHost);
    for (text, network) in [("no-host", Network::NoHost), ("open", Network::Open), ("none", Network::None)] {
        assert_eq!(good(&format!("network: {text}\n")).network, network);
    }
    assert_eq!(
        bad("cpus: 1\nnetwork: no-hosts\n"),
        "2: network is `no-hosts`: it can be `no-host`, `open`, `none`; did you mean `no-host`?"
    );
    assert!(!bad("network: bridge\n").contains("did you mean"));
}

#[test]
fn a_host_can_be_a_configuration_of_a_flake_which_says_the_rest_itself() {
    let spec = good("image: {provider: nixos, configuration: vm-x}\ncpus: 4\nforwards: [2222:22]\n");
    let nixos = spec.nixos().expect("a configuration");
    assert_eq!((nixos.flake.as_str(), nixos.configuration.as_str()), (".", "vm-x"));
    assert_eq!((nixos.given.cpus, nixos.given.memory), (Some(4), None));
    assert_eq!(nixos.given.forwards.len(), 1);
    assert!(good("cpus: 4\n").nixos().is_none());
    let image = "image: {provider: nixos, configuration: x}\n";
    for (text, message) in [
        (
            format!("{image}packages: [git]\n"),
            "2: `packages` is for Debian guests: here it belongs in the flake's configuration",
        ),
        (
            format!("{image}users: {{a: {{}}}}\n"),
            "2: `users` is for Debian guests: here it belongs in the flake's configuration",
        ),
        (
            "image: nixos\n".to_owned(),
            "1: `nixos` needs `configuration`: a name among the flake's nixosConfigurations",
        ),
        ("image: {configuration: x}\n".to_owned(), "1: a flake's configuration needs `provider: nixos`"),
        (
            "image: {provider: arch}\n".to_owned(),
            "1: unknown image provider `arch`: it can be `debian` or `nixos`",
        ),
    ] {
        assert_eq!(bad(&text), message, "{text}");
    }
}

#[test]
fn a_key_without_a_value_is_no_default() {
    assert_eq!(
        bad("cpus: 1\npackages:\n"),
        "2: `packages` has no value, and no extended host has one to take away"
    );
    assert_eq!(bad("users:\n  a:\n"), "2: `users.a` has no value; write `a: {}` for all defaults");
    assert_eq!(
        bad("secrets:\n  deploy_key:\n"),
        "2: `secrets.deploy_key` has no value; write `deploy_key: {}` for all defaults"
    );
}

#[test]
fn sizes_are_powers_of_1024() {
    assert_eq!(Size::parse("4G"), Size::parse("4096M"));
    assert_eq!(Size::parse("4GiB").map(Size::bytes), Ok(4 << 30));
    assert_eq!(Size::parse("1 T").map(Size::in_mebibytes), Ok(1 << 20));
    for wrong in ["", "G", "4", "4.5G", "-4G", "4GB", "4Gi", "4 G B", "99999999999T", "4MM"] {
        assert!(Size::parse(wrong).is_err(), "{wrong}");
    }
    assert_eq!(Size::mebibytes(1536).to_string(), "1536M");
}

#[test]
fn figures_may_differ_between_machines() {
    let text = "cpus: {x86_64: 40, aarch64: 20}\nmemory: 40G\n";
    assert_eq!(load_from(&[("h", text)], Arch::X86_64, false).expect("a host").cpus, 40);
    assert_eq!(load_from(&[("h", text)], Arch::Aarch64, false).expect("a host").cpus, 20);
    let foreign = "extends: base\narch: aarch64\n";
    let foreign = load_from(&[("h", foreign), ("base", text)], Arch::X86_64, false).expect("a host");
    assert_eq!((foreign.arch, foreign.cpus), (Arch::Aarch64, 20));
    let error = load_from(&[("h", "cpus: 1\narch: arm64\n")], Arch::X86_64, false).expect_err("no such kind");
    assert_eq!(error.to_string(), "hosts/h/host.yaml:2: arch is `arm64`: it can be `x86_64` or `aarch64`");
    let error = load_from(&[("h", "memory: {x86_64: 4G}\n")], Arch::Aarch64, false).expect_err("no figure");
    assert_eq!(error.to_string(), "hosts/h/host.yaml:1: memory is not given for aarch64");
    assert_eq!(bad("cpus:\n  x86_64: 0\n"), "2: cpus is 0: a machine can have 1 to 255");
    assert_eq!(bad("memory: 64M\n"), "1: memory is 64M: a guest needs at least 256M");
    assert_eq!(bad("disk: 20000001K\n"), "1: disk is 20000001K: it must be whole mebibytes");
}

#[test]
fn forwards_listen_on_loopback_unless_an_address_is_written() {
    let seen = |text: &str| -> Vec<String> {
        let forwards = good(text).forwards;
        forwards.iter().map(|f| format!("{}:{}:{}", f.address, f.host_port, f.guest_port)).collect()
    };
    assert_eq!(seen("forwards:\n  ssh: 2322\n  web: 8081\n"), ["127.0.0.1:2322:22", "127.0.0.1:8081:8081"]);
    assert_eq!(seen("forwards: [2322:22, 0.0.0.0:80:8080, 9]\n").len(), 3);
    for wrong in ["0", "70000", "a", "1:2:3:4", "::1:2:3", "1:", "localhost:1:2", "-1", "22/tcp"] {
        let message = bad(&format!("cpus: 1\nforwards:\n- 1\n- '{wrong}'\n"));
        assert!(message.starts_with(&format!("4: `{wrong}` is not a forward")), "{message}");
    }
    assert_eq!(bad("forwards:\n  a: 80\n  b: 0.0.0.0:80:81\n"), "3: port 80 is forwarded twice");
}

#[test]
fn secrets_have_names_owners_and_modes() {
    let spec = good(
        "secrets:\n  one: {mode: 0440, owner: alice}\n  a/two: {key: x/y, mode: \"400\", path: /etc/two}\n",
    );
    let [two, one] = &spec.secrets[..] else { panic!("two secrets") };
    assert_eq!(
        (one.name.as_str(), one.key.as_str(), one.owner.as_str(), one.mode),
        ("one", "one", "alice", 0o440)
    );
    assert_eq!((two.key.as_str(), two.mode, two.path.as_deref()), ("x/y", 0o400, Some("/etc/two")));
    assert_eq!(good("secrets: [one, two]\n").secrets.len(), 2);
    assert_eq!(good("secrets: {one: {mode: 440}}\n").secrets[0].mode, 0o440);
    assert!(
        bad("secrets:\n  one:\n    mode: 0888\n").starts_with("3: secrets.one.mode: `0888` is not a mode")
    );
    assert!(bad("secrets:\n  one:\n    mode: 04755\n").starts_with("3: "));
    assert!(bad("secrets:\n  ../one: {}\n").starts_with("2: `../one` cannot be the name of a secret"));
    assert!(bad("secrets: [a, a/b]\n").starts_with("1: `a/b` and another secret would have the same path"));
    assert!(bad("secrets:\n  a:\n    path: /shared/x\n").starts_with("3: `/shared/x` is below /shared"));
    assert!(bad("secrets:\n  a:\n    path: x\n").starts_with("3: `x` must be an absolute path"));
}

#[test]
fn secrets_need_a_file_of_secrets() {
    let error = load_from(&[("h", "cpus: 1\nsecrets: [a]\n")], Arch::X86_64, false).expect_err("no file");
    assert_eq!(error.to_string(), "hosts/h/host.yaml:2: secrets are named, but hosts/h has no secrets.yaml");
}

#[test]
fn users_have_keys_and_numbers_of_users() {
    let spec = good(&format!(
        "users:\n  root: {{authorized_keys: ['{KEY} me']}}\n  b: {{uid: 1001, sudo: true}}\n  a: {{groups: [wheel], shell: /bin/bash}}\n"
    ));
    assert_eq!(spec.root_authorized_keys, [format!("{KEY} me")]);
    assert_eq!(spec.users.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((spec.users[0].shell.as_str(), spec.users[1].shell.as_str()), ("/bin/bash", "/bin/sh"));
    for line in [
        "restrict,pty KEY",
        "KEY two words",
        "KEY KEY",
        r#"from="a b",command="say \"x\" y" KEY me"#,
        "  KEY  ",
    ] {
        let line = line.replace("KEY", KEY);
        good(&format!("users: {{a: {{authorized_keys: ['{line}']}}}}\n"));
    }
    for line in ["a b KEY", "AAAA", "# KEY", "ssh-ed25519 AAAA", ""] {
        let message = bad(&format!("users: {{a: {{authorized_keys: ['{}']}}}}\n", line.replace("KEY", KEY)));
        assert!(message.starts_with("1: this is not a line of authorized_keys"), "{line}");
    }
    assert!(bad("users:\n  root:\n    uid: 0\n").starts_with("2: root exists already"));
    assert!(bad("users:\n  a:\n    uid: 12\n").starts_with("3: uid is 12"));
    assert!(bad("users:\n  a: {uid: 1000}\n  b: {uid: 1000}\n").starts_with("3: `a` has the uid 1000 too"));
    assert!(bad("users:\n  A: {}\n").starts_with("2: `A` is not a user name"));
    assert!(bad("users:\n  a:\n    shell: bash\n").starts_with("3: `bash` is not an absolute path"));
}

#[test]
fn a_private_key_where_a_public_one_belongs_is_not_repeated() {
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----";
    let message = bad(&format!("users:\n  a:\n    authorized_keys:\n      - x{private}SECRET\n"));
    assert!(
        message.starts_with("4: this is not a line of authorized_keys") && !message.contains("SECRET"),
        "{message}"
    );
    let message = bad(&format!("known_hosts:\n  a: {private}SECRET\n"));
    assert!(message.starts_with("2: this is not a public key") && !message.contains("SECRET"), "{message}");
}

#[test]
fn units_and_services_have_names_of_units() {
    let spec = good(
        "units:\n  a.service: |\n    [Service]\n  b@1.timer: {text: x, start: false}\nservices: [c.socket]\n",
    );
    assert!(spec.units["a.service"].start && !spec.units["b@1.timer"].start);
    assert!(bad("units:\n  a: x\n").starts_with("2: `a` is not a unit name"));
    assert!(bad("units:\n  ../a.service: x\n").starts_with("2: `../a.service` is not a unit name"));
    assert!(bad("services:\n  - ok.service\n  - ssh\n").starts_with("3: `ssh` is not a unit name"));
    assert!(bad("units:\n  a.service: {start: true}\n").starts_with("2: the unit has no `text`"));
}

#[test]
fn files_stay_out_of_places_that_the_guest_makes() {
    assert_eq!(
        good("files: {/etc/motd: hello, /etc/x: {text: y, mode: 0600}}\n").files["/etc/x"].mode,
        0o600
    );
    for wrong in ["/run/secrets/a", "/shared", "/proc/x", "etc/motd", "/etc/../x", "/etc//x", "/", "/etc/x/"]
    {
        assert!(bad(&format!("files:\n  {wrong}: x\n")).starts_with("2: "), "{wrong}");
    }
    good("files: {/shared-by-all: x, /run/secretsx: y}\n");
    assert!(
        bad("nix: {}\nfiles:\n  /etc/nix/nix.conf: x\n")
            .starts_with("3: civm writes /etc/nix/nix.conf from other keys")
    );
}

#[test]
fn swap_in_memory_can_be_tuned_or_left_out() {
    let spec = good("zram: {percent: 50, algorithm: lz4}\nsysctls: {vm.swappiness: 10, kernel.panic: -1}\n");
    assert_eq!(spec.zram.expect("zram").percent, 50);
    assert_eq!((spec.sysctls["vm.swappiness"].as_str(), spec.sysctls["kernel.panic"].as_str()), ("10", "-1"));
    assert_eq!(spec.sysctls["vm.page-cluster"], "0");
    let spec = good("zram: false\n");
    assert!(spec.zram.is_none() && spec.sysctls.is_empty());
    assert!(bad("zram:\n  percent: 0\n").starts_with("2: percent is 0"));
    assert!(bad("zram:\n  algorithm: zst\n").starts_with("2: unknown algorithm `zst`"));
    assert!(bad("sysctls:\n  'a b': 1\n").starts_with("2: `a b` is not a sysctl key"));
}

#[test]
fn a_builder_is_complete_or_refused() {
    let whole = format!(
        "secrets: [k]\nnix:\n  max_jobs: 0\n  builders:\n    b:\n      host: b.example.org\n      systems: [x86_64-linux]\n      user: u\n      key: k\n      public_key: {KEY} comment\n"
    );
    let nix = good(&whole).nix.expect("nix");
    assert_eq!(nix.max_jobs, Some(Jobs::Count(0)));
    assert_eq!((nix.builders[0].port, nix.builders[0].public_key.as_str()), (22, KEY));
    for (field, line) in [("host", 5), ("systems", 5), ("user", 5), ("key", 5), ("public_key", 5)] {
        let text: String = whole
            .lines()
            .filter(|l| !l.trim_start().starts_with(&format!("{field}:")))
            .map(|l| format!("{l}\n"))
            .collect();
        assert!(bad(&text).starts_with(&format!("{line}: the builder has no `{field}`")), "{}", bad(&text));
    }
    assert!(
        bad(&whole.replace("key: k", "key: other"))
            .starts_with("9: `other` is not one of this host's `secrets`")
    );
    assert!(
        bad(&whole.replace("user: u", "user: -oProxyCommand=x"))
            .starts_with("8: `-oProxyCommand=x` is not a user")
    );
    assert!(bad("nix:\n  max_jobs: 0\n").starts_with("2: max_jobs is 0 and there is no builder"));
    assert!(bad("nix:\n  max_jobs: some\n").starts_with("2: max_jobs is `some`"));
    assert!(bad("nix:\n  substituters:\n    - a b\n").starts_with("3: `a b` is not one word"));
}

#[test]
fn an_extended_host_is_patched() {
    let base = "cpus: 4\nmemory: 4G\npackages: [git, nix]\nforwards: {ssh: 2222, web: 80}\nsysctls: {kernel.panic: 1}\n";
    let child = "extends: base\ncpus: 8\npackages: [vim]\nforwards: {web: null, api: 90}\nsysctls:\n";
    let spec = load_from(&[("child", child), ("base", base)], Arch::X86_64, false).expect("a host");
    assert_eq!((spec.cpus, spec.memory.to_string()), (8, "4G".into()));
    assert_eq!(spec.image.packages, ["vim"]);
    let ports: Vec<_> = spec.forwards.iter().map(|forward| forward.host_port).collect();
    assert_eq!(ports, [90, 2222]);
    assert!(!spec.sysctls.contains_key("kernel.panic"));
    assert_eq!(spec.extends, ["base"]);
}

#[test]
fn an_error_names_the_file_that_says_so() {
    let hosts = [("child", "extends: base\ncpus: 8\n"), ("base", "memory: 1M\n")];
    let error = load_from(&hosts, Arch::X86_64, false).expect_err("too little");
    assert_eq!(error.to_string(), "hosts/base/host.yaml:1: memory is 1M: a guest needs at least 256M");
    let hosts = [("child", "extends: base\ncpus: 8\n"), ("base", "\ncpsu: 1\n")];
    let error = load_from(&hosts, Arch::X86_64, false).expect_err("unknown");
    assert_eq!(error.to_string(), "hosts/base/host.yaml:2: unknown key `cpsu`; did you mean `cpus`?");
}

#[test]
fn hosts_cannot_extend_each_other() {
    let error =
        |hosts: &[(&str, &str)]| load_from(hosts, Arch::X86_64, false).expect_err("refused").to_string();
    assert_eq!(error(&[("a", "cpus: 1\nextends: a\n")]), "hosts/a/host.yaml:2: `a` extends itself");
    assert_eq!(
        error(&[("a", "extends: b\n"), ("b", "cpus: 1\nextends: a\n")]),
        "hosts/b/host.yaml:2: `b` extends `a`, which extends it in turn"
    );
    assert_eq!(
        error(&[("a", "extends: bass\n"), ("base", "")]),
        "hosts/a/host.yaml:1: there is no host `bass` to extend; did you mean `base`?"
    );
}
