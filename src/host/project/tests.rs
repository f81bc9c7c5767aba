use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::{Project, is_name, starter};
use crate::host::error::Error;
use crate::host::rootfs::Kind;
use crate::host::spec::load::{ProjectFiles, SecretsFile, Source, load};
use crate::host::spec::{Arch, Spec};

fn project(files: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
    }
    dir
}

fn real(dir: &TempDir) -> std::path::PathBuf {
    fs::canonicalize(dir.path()).expect("a directory")
}

#[test]
fn a_project_is_found_upwards() {
    let dir = project(&[("hosts/a/host.yaml", ""), ("hosts/a/rootfs/etc/x", ""), ("src/deep/x", "")]);
    for from in ["", "hosts", "hosts/a", "hosts/a/rootfs/etc", "src/deep"] {
        let found = Project::find(&dir.path().join(from)).expect("found");
        assert_eq!(found.root(), real(&dir), "{from}");
    }
}

#[test]
fn a_directory_with_hosts_counts_more_than_one_with_rules() {
    let dir = project(&[("hosts/a/host.yaml", ""), ("sub/.sops.yaml", ""), ("sub/deep/x", "")]);
    assert_eq!(Project::find(&dir.path().join("sub/deep")).expect("found").root(), real(&dir));
    let dir = project(&[("sub/.sops.yaml", ""), ("sub/deep/x", "")]);
    assert_eq!(Project::find(&dir.path().join("sub/deep")).expect("found").root(), real(&dir).join("sub"));
}

#[test]
fn a_flake_is_a_project_and_its_configurations_are_hosts_without_a_host_yaml() {
    let dir = project(&[("flake.nix", ""), ("sub/x", "")]);
    let found = Project::find(&dir.path().join("sub")).expect("found");
    assert_eq!(found.root(), real(&dir));
    let spec = found.of_flake("vm", "git+ssh://a/b?dir=\"c\"", "vm", Arch::X86_64).expect("a host");
    assert_eq!(spec.nixos().expect("a configuration").flake, "git+ssh://a/b?dir=\"c\"");
    let dir = project(&[("flake.nix", ""), ("sub/.sops.yaml", ""), ("sub/deep/x", "")]);
    assert_eq!(Project::find(&dir.path().join("sub/deep")).expect("found").root(), real(&dir).join("sub"));
}

#[test]
fn no_project_is_an_error_that_says_what_to_do() {
    // A file called `hosts`, as in /etc, makes no project.
    let dir = project(&[("hosts", ""), ("sub/x", "")]);
    let error = Project::find(&dir.path().join("sub")).expect_err("no project");
    assert!(matches!(&error, Error::NoProject { .. }));
    assert!(error.help().iter().any(|line| line.contains("--project DIR")));
    assert!(matches!(Project::at(&dir.path().join("sub")), Err(Error::NotAProject { .. })));
    assert!(matches!(Project::at(&dir.path().join("none")), Err(Error::Read { .. })));
}

#[test]
fn hosts_are_the_directories_with_a_description() {
    let dir = project(&[
        ("hosts/b/host.yaml", ""),
        ("hosts/a/host.yaml", ""),
        ("hosts/half/secrets.yaml", ""),
        ("hosts/Not-A-Name/host.yaml", ""),
        ("hosts/host.schema.json", ""),
    ]);
    assert_eq!(Project::at(dir.path()).expect("a project").hosts().expect("hosts"), ["a", "b"]);
}

#[test]
fn a_host_that_is_not_there_has_a_suggestion() {
    let dir = project(&[("hosts/builder-demo/host.yaml", "")]);
    let project = Project::at(dir.path()).expect("a project");
    let error = project.load("bulider-demo", Arch::X86_64).expect_err("no host").to_string();
    assert!(error.contains("no host `bulider-demo`"), "{error}");
    assert!(error.contains("; did you mean `builder-demo`? (defined: builder-demo)"), "{error}");
    assert!(matches!(project.load("../x", Arch::X86_64), Err(Error::BadName { .. })));
}

#[test]
fn a_file_of_secrets_is_noticed() {
    let dir = project(&[("hosts/a/host.yaml", "secrets: [x]"), ("hosts/a/secrets.yaml", "")]);
    let spec = Project::at(dir.path()).expect("a project").load("a", Arch::X86_64).expect("a host");
    assert_eq!((spec.secrets_host.as_deref(), spec.secrets.len()), (Some("a"), 1));
}

#[test]
fn secrets_and_files_are_those_of_the_extended_host_too() {
    let dir = project(&[
        ("hosts/base/host.yaml", "secrets: [x]"),
        ("hosts/base/secrets.yaml", ""),
        ("hosts/base/rootfs/etc/both", "base"),
        ("hosts/base/rootfs/etc/only", "base"),
        ("hosts/a/host.yaml", "extends: base"),
        ("hosts/a/rootfs/etc/both", "a"),
        ("hosts/b/host.yaml", "extends: base"),
        ("hosts/b/secrets.yaml", ""),
    ]);
    let project = Project::at(dir.path()).expect("a project");
    let load = |name| project.load(name, Arch::X86_64).expect("a host");
    assert_eq!(load("a").secrets_host.as_deref(), Some("base"));
    assert_eq!(load("b").secrets_host.as_deref(), Some("b"));
    let files: Vec<_> =
        project.rootfs(&load("a")).expect("a tree").into_iter().map(|e| (e.path, e.kind)).collect();
    assert_eq!(
        files,
        [
            ("etc".into(), Kind::Directory),
            ("etc/both".into(), Kind::File(b"a".to_vec())),
            ("etc/only".into(), Kind::File(b"base".to_vec())),
        ]
    );
}

#[test]
fn a_new_host_has_a_description_that_makes_sense() {
    let text = starter(2223);
    assert!(text.starts_with("# yaml-language-server: $schema=../host.schema.json\n"));
    let dir = project(&[("hosts/new/host.yaml", &text)]);
    let spec = Project::at(dir.path()).expect("a project").load("new", Arch::X86_64).expect("a host");
    assert_eq!(spec.forwards.first().map(|forward| forward.host_port), Some(2223));
}

#[test]
fn a_host_directory_may_be_a_link() {
    let dir = project(&[("elsewhere/host.yaml", "cpus: 3"), ("hosts/b/host.yaml", "")]);
    symlink("../elsewhere", dir.path().join("hosts/a")).expect("a link");
    let project = Project::at(dir.path()).expect("a project");
    assert_eq!(project.hosts().expect("hosts"), ["a", "b"]);
    assert_eq!(project.load("a", Arch::X86_64).expect("a host").cpus, 3);
}

#[test]
fn names_are_labels_of_host_names() {
    assert!(is_name("jenkins-controller") && is_name("a") && is_name("1") && is_name(&"a".repeat(63)));
    for name in ["", "-a", "a-", "A", "a.b", "a_b", "../a", "a/b", "é", &"a".repeat(64)] {
        assert!(!is_name(name), "{name}");
    }
}

fn shipped(name: &str, arch: Arch) -> Spec {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("hosts");
    let secrets = |name: &str| {
        let file = || SecretsFile {
            path: hosts.join(name).join("secrets.yaml"),
            tree: None,
            project: ProjectFiles::default(),
        };
        (name == "jenkins-controller").then(file)
    };
    load(name, arch, &secrets, &|name| {
        let file = hosts.join(name).join("host.yaml");
        let text = fs::read_to_string(&file).map_err(|source| Error::Read { path: file.clone(), source })?;
        Ok(Source { file, text })
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_hosts_that_ship_have_their_figures() {
    let figures = |spec: &Spec| (spec.cpus, spec.memory.to_string(), spec.disk.to_string());
    let ssh = |spec: &Spec| {
        let to_sshd = spec.forwards.iter().find(|forward| forward.guest_port == 22);
        to_sshd.map(|f| format!("{}:{}", f.address, f.host_port)).expect("a forward")
    };

    let demo = shipped("builder-demo", Arch::X86_64);
    assert_eq!(figures(&demo), (2, "4G".into(), "16G".into()));
    assert_eq!(ssh(&demo), "127.0.0.1:2322");
    assert!(demo.secrets.is_empty());
    assert_eq!(demo.image.packages, ["nix-bin", "nix-setup-systemd"]);
    assert_eq!(demo.users[0].name, "vm-builder");

    let builder = shipped("builder", Arch::X86_64);
    assert_eq!(figures(&builder), (40, "40G".into(), "300G".into()));
    assert_eq!(figures(&shipped("builder", Arch::Aarch64)), (20, "40G".into(), "200G".into()));
    assert_eq!(ssh(&builder), "127.0.0.1:2322");

    let controller = shipped("jenkins-controller", Arch::X86_64);
    assert_eq!(figures(&controller), (4, "16G".into(), "200G".into()));
    assert_eq!(ssh(&controller), "127.0.0.1:2222");
    assert!(
        controller.forwards.iter().any(|forward| forward.host_port == 8081 && forward.guest_port == 8081)
    );
    let secrets: Vec<_> =
        controller.secrets.iter().map(|secret| (secret.name.as_str(), secret.mode)).collect();
    let names = ["jenkins_admin_password", "vedenemo_builder_ssh_key", "vm_builder_ssh_key"];
    assert_eq!(secrets, names.map(|name| (name, 0o400)));
    assert!(controller.secrets.iter().all(|secret| secret.owner == "jenkins"));
    assert_eq!(controller.nix.expect("nix").builders.len(), 2);
}

#[test]
fn the_ephemeral_controller_has_no_builders_but_those_it_makes() {
    let ephemeral = shipped("jenkins-controller-ephemeral", Arch::X86_64);
    let nix = ephemeral.nix.expect("nix");
    assert!(nix.builders.is_empty());
    let seen: Vec<_> =
        nix.deployed.iter().map(|one| (one.system(), one.host.as_str(), one.user.as_str())).collect();
    assert_eq!(
        seen,
        [("aarch64-linux".into(), "builder", "vm-builder"), ("x86_64-linux".into(), "builder", "vm-builder")]
    );
    assert_eq!(nix.deployed.iter().map(|one| one.max_jobs).collect::<Vec<_>>(), [Some(4), Some(4)]);
}

#[test]
fn jenkins_is_a_service_of_plain_files_that_only_its_admin_enters() {
    use crate::host::{artifacts, compose};
    let project = Project::at(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("this project");
    let spec = shipped("jenkins-controller", Arch::X86_64);
    assert_eq!(
        artifacts::of(&project, &spec).expect("lists"),
        [],
        "nobody can know a hash that was not looked up"
    );
    assert_eq!(
        compose::layer(&spec, &compose::Facts::default()).units["jenkins.service"].text,
        "[Unit]
Description=Jenkins
Wants=nix-daemon.socket civm-builders.service
After=nix-daemon.socket civm-builders.service
ConditionPathExists=/usr/share/jenkins/jenkins.war

[Service]
Type=exec
User=jenkins
Environment=\"CASC_JENKINS_CONFIG=/etc/jenkins/casc\"
Environment=\"JENKINS_HOME=/var/lib/jenkins\"
StateDirectory=jenkins
WorkingDirectory=/var/lib/jenkins
ExecStartPre=rm -rf plugins
ExecStartPre=sh -c 'test ! -d /usr/share/jenkins/plugins || cp -rL /usr/share/jenkins/plugins plugins'
ExecStart=java -Djava.awt.headless=true -Djenkins.install.runSetupWizard=false -jar /usr/share/jenkins/jenkins.war --httpPort=8081
Restart=on-failure
"
    );
    let casc = project.host_dir("jenkins-controller").join("rootfs/etc/jenkins/casc/jenkins.yaml");
    let casc: serde_yaml::Value =
        serde_yaml::from_str(&fs::read_to_string(casc).expect("a file")).expect("YAML");
    let jenkins = &casc["jenkins"];
    assert_eq!(jenkins["securityRealm"]["local"]["allowsSignup"], false);
    let password = jenkins["securityRealm"]["local"]["users"][0]["password"].as_str().expect("a password");
    let secret = password.trim_start_matches("${").trim_end_matches('}');
    assert!(spec.secrets.iter().any(|one| one.name == secret && one.owner == "jenkins"), "{password}");
    assert_eq!(jenkins["authorizationStrategy"]["loggedInUsersCanDoAnything"]["allowAnonymousRead"], false);
    // Outside, only this machine reaches it.
    assert!(spec.forwards.iter().all(|forward| forward.address.is_loopback()));
}

#[test]
fn the_hosts_that_ship_name_their_schema() {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("hosts");
    for name in ["builder-demo", "builder", "jenkins-controller", "jenkins-controller-ephemeral"] {
        let text = fs::read_to_string(hosts.join(name).join("host.yaml")).expect("a host");
        assert!(text.starts_with("# yaml-language-server: $schema=../host.schema.json\n"), "{name}");
    }
    assert_eq!(
        fs::read_to_string(hosts.join("host.schema.json")).expect("a schema"),
        crate::host::schema::text()
    );
}

#[test]
fn what_leads_out_of_the_project_is_not_read() {
    let outside =
        project(&[("hosts/victim/secrets.yaml", "key: ENC[x]"), ("hosts/victim/host.yaml", "cpus: 3")]);
    let victim = outside.path().join("hosts/victim");
    let dir = project(&[("hosts/own/host.yaml", ""), ("inside/host.yaml", "cpus: 4")]);
    let hosts = dir.path().join("hosts");
    symlink(&victim, hosts.join("whole")).expect("a link");
    for name in ["file", "tree", "dangling"] {
        fs::create_dir(hosts.join(name)).expect("a folder");
    }
    symlink(victim.join("host.yaml"), hosts.join("file/host.yaml")).expect("a link");
    symlink("/nowhere/host.yaml", hosts.join("dangling/host.yaml")).expect("a link");
    fs::write(hosts.join("tree/host.yaml"), "").expect("a file");
    symlink(&victim, hosts.join("tree/rootfs")).expect("a link");
    symlink(victim.join("secrets.yaml"), hosts.join("own/secrets.yaml")).expect("a link");

    let project = Project::at(dir.path()).expect("a project");
    for name in ["whole", "file"] {
        let error = project.load(name, Arch::X86_64).expect_err("outside").to_string();
        assert!(error.contains("leads out of the project, to ") && error.contains("victim"), "{error}");
    }
    assert!(project.load("dangling", Arch::X86_64).is_err());
    let tree = project.load("tree", Arch::X86_64).expect("a host");
    assert!(matches!(project.rootfs(&tree), Err(Error::Outside { .. })));
    let own = project.load("own", Arch::X86_64).expect("a host without secrets");
    assert_eq!(own.secrets_host.as_deref(), Some("own"));
    let error = project.read(&project.secrets_file("own"), 1 << 20).expect_err("outside");
    assert!(matches!(error, Error::Outside { .. }), "{error}");
    // A link within the project is the project's own affair.
    symlink("../inside", hosts.join("linked")).expect("a link");
    assert_eq!(project.load("linked", Arch::X86_64).expect("a host").cpus, 4);
}

#[test]
fn what_is_not_a_file_is_refused_and_waited_for_by_nobody() {
    let dir = project(&[("hosts/a/x", ""), ("hosts/b/x", ""), ("hosts/c/x", "")]);
    let file = |name: &str| dir.path().join("hosts").join(name).join("host.yaml");
    nix::unistd::mkfifo(&file("a"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    fs::create_dir(file("b")).expect("a folder");
    fs::File::create(file("c")).expect("a file").set_len(2 << 20).expect("sparse");
    let project = Project::at(dir.path()).expect("a project");
    let message = |name: &str| project.load(name, Arch::X86_64).expect_err("refused").to_string();
    assert!(message("a").ends_with("hosts/a/host.yaml is not a file"), "{}", message("a"));
    assert!(message("b").ends_with("hosts/b/host.yaml is not a file"), "{}", message("b"));
    assert!(message("c").ends_with("hosts/c/host.yaml is larger than 1 MiB"), "{}", message("c"));
}

#[test]
fn a_host_is_never_looked_for_outside_of_hosts() {
    let dir = project(&[("hosts/a/host.yaml", "extends: ../../outside"), ("outside/host.yaml", "cpus: 4")]);
    let project = Project::at(dir.path()).expect("a project");
    assert!(project.load("../outside", Arch::X86_64).is_err());
    let error = project.load("a", Arch::X86_64).expect_err("refused").to_string();
    assert!(error.contains("hosts/a/host.yaml:1: `../../outside` cannot be the name of a host"), "{error}");
}
