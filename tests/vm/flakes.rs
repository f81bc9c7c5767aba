//! Machines of NixOS configurations, with a real Nix: a flake of the tests' own, whose runners are such scripts as nixpkgs
//! has made over the years. Their guest is Debian, with a stage 1 and a stage 2 that do what NixOS' do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::machine::{Machine, Who, files};
use crate::support::{Ran, peer, run};

const CONTROLLER: &str = "vm-jenkins-controller";
const SECRETS: &str = "hosts/jenkins-controller/secrets.yaml";
/// The first lines of every runner since 2023, older ones, and the one whose shares are virtiofs.
const YEARS: [&str; 7] = ["20.09", "21.11", "22.11", "23.11", "24.11", "25.11", "26.11"];
/// Where distributions have virtiofsd.
const VIRTIOFSD: [&str; 3] = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/bin/virtiofsd"];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A project that is a flake, with no host.yaml, and a Nix of its own.
struct Flake {
    machine: Machine,
    nix: PathBuf,
    store: PathBuf,
    /// Whether there is an initrd that knows nothing of civm.
    plain: bool,
}

impl Flake {
    fn new(who: Who, name: &str) -> Option<Self> {
        let skip = |why: &str| {
            eprintln!("skipped: {name} as {who:?}: {why}");
            None
        };
        // Root has the newest Nix, the ordinary user the oldest that civm works with.
        let peers = repository().join("target/peers");
        let newest = peers.join("nix-new");
        let unpacked = if who == Who::Root && newest.is_dir() { newest } else { peers.join("nix") };
        if !unpacked.join("nix").is_file() {
            return skip("no Nix here; devshell/nix unpacks it");
        }
        if peer("debugfs").is_none() {
            return skip("no debugfs here");
        }
        let machine = Machine::new(who, name)?;
        let base = machine.dir.parent().expect("a base").to_owned();
        let image = Image::of(&machine);
        fs::remove_dir_all(machine.dir.join("hosts")).expect("no host.yaml");
        let shell = |script: &str| run(machine.command("sh").args(["-ec", script])).ok();
        let from = repository().display();
        // A user whose the repository is not may not look into it.
        let root =
            |script: &str| run(Command::new("sh").args(["-ec", script]).current_dir(&machine.dir)).ok();
        root(&format!(
            "cp -r {from}/tests/flake/project/. . && cp -r {from}/tests/flake/nixpkgs {from}/tests/flake/*.sh .
             mkdir -p civm/src civm/hosts && touch civm/src/main.rs civm/hosts/x
             cp -r {from}/flake.nix {from}/nix {from}/Cargo.toml {from}/Cargo.lock {from}/.cargo civm/
             cp {from}/{SECRETS} {SECRETS}
             rm -rf nix-here && cp -r {} nix-here && chmod -R a+rX . && chown -R {} .",
            unpacked.display(),
            machine.owner(),
        ));
        let disk = machine.dir.join("base.img");
        let stage1 = machine.dir.join("stage1.cpio");
        let busybox = [repository().join("target/peers/nix-new/root/usr/bin/busybox"), "/bin/busybox".into()];
        let busybox = busybox.into_iter().find(|path| is_static(path));
        shell(&format!("sh guest.sh {} {}", image.disk.display(), disk.display()));
        if let Some(busybox) = &busybox {
            root(&format!("cp {} busybox && chmod 755 busybox", busybox.display()));
            let directory = image.kernel.parent().expect("a directory").display();
            shell(&format!("sh stage1.sh {directory} \"$PWD/busybox\" {}", stage1.display()));
        } else {
            eprintln!(
                "skipped: a stage 1 that knows nothing of civm (no static busybox; devshell/nix new has one)"
            );
        }
        let initrds = json!({"civm": image.initrd, "plain": stage1});
        let text = json!({
            "civm": base.join("civm"),
            "bash": "/bin/bash",
            "coreutils": "/usr/bin",
            "qemu": peer("qemu-system-x86_64").expect("QEMU"),
            "qemu_img": peer("qemu-img").expect("qemu-img"),
            "virtiofsd": VIRTIOFSD.into_iter().find(|path| Path::new(path).exists()),
            "kernel": image.kernel,
            "initrds": initrds,
            "append": image.append,
            "disk": disk,
        });
        machine.write("nixpkgs/machine.json", &text.to_string());
        machine.write(".gitignore", "*.qcow2\n*.img\n*.cpio\nbusybox\nnix-here\nstore\ndemo-age-key.txt\n");
        shell("git init -q . && git add -A");
        let (nix, store) = (machine.dir.join("nix-here"), machine.dir.join("store"));
        Some(Self { machine, nix, store, plain: busybox.is_some() })
    }

    /// A program with the Nix of the tests, which has a store of its own.
    fn with_nix(&self, mut command: Command) -> Command {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let store = |name: &str| self.store.join(name);
        command
            .env("PATH", format!("{}:{path}", self.nix.display()))
            .env("NIX_STORE_DIR", store("store"))
            .env("NIX_STATE_DIR", store("state"))
            .env("NIX_LOG_DIR", store("log"))
            .env("NIX_CONFIG", "sandbox = false\nflake-registry =");
        command
    }

    fn civm(&self, args: &[&str]) -> Ran {
        run(&mut self.with_nix(self.machine.civm(args)))
    }

    fn nix(&self, args: &[&str]) -> Ran {
        run(self.with_nix(self.machine.command(&self.nix.join("nix").to_string_lossy())).args(args))
    }

    fn up(&self, name: &str, more: &[&str]) -> Ran {
        let reference = format!(".#{name}");
        self.civm(&[&["up", reference.as_str(), "-d"], more].concat()).ok().says("is ready in")
    }

    /// Whether shares can be virtiofs: QEMU's own virtiofsd, which Debian 12 has, writes where only root may.
    fn has_virtiofsd(&self) -> bool {
        let found = VIRTIOFSD.into_iter().find(|path| Path::new(path).exists());
        let fits = found.is_some_and(|path| self.machine.owner() == "0:0" || !path.contains("/qemu/"));
        if !fits {
            eprintln!("skipped: shares by virtiofs (no virtiofsd here, or one for root alone)");
        }
        fits
    }

    fn state(&self, name: &str) -> PathBuf {
        let projects =
            fs::read_dir(self.machine.home().join(".local/state/civm")).expect("a state directory");
        // A directory that is not a project may have one of that name as well.
        let project = self.machine.dir.file_name().expect("a name").to_string_lossy().into_owned() + "-";
        let projects = projects.flatten().map(|entry| entry.path());
        let projects = projects.filter(|path| path.to_string_lossy().contains(&format!("/{project}")));
        let mut found = projects.map(|path| path.join(name)).filter(|path| path.is_dir());
        found.next().expect("the state of the instance")
    }

    /// Its secrets are the file's, and its host key is the one that is pinned.
    fn has_its_secrets(&self, name: &str) {
        // The guest's agent has it serve ssh before its stage 2 is over.
        let read = "i=0; while [ ! -e /run/secrets/jenkins_admin_password ] && [ $i -lt 300 ]; do sleep 0.2; i=$((i + 1)); done
            cat /run/secrets/jenkins_admin_password || systemctl status activate.service >&2";
        let inside = self.civm(&["ssh", name, "--", read]).ok();
        let outside = self.civm(&["secrets", "get", SECRETS, "jenkins_admin_password"]).ok();
        assert_eq!(inside.stdout, outside.stdout, "{name}");
        let mode =
            self.civm(&["exec", name, "--", "stat", "-Lc", "%a", "/run/secrets/vm_builder_ssh_key"]).ok();
        assert_eq!(mode.out(), "440\n");
        let private = self.civm(&["secrets", "get", SECRETS, "ssh_host_ed25519_key"]).ok();
        let key = tempfile::NamedTempFile::new().expect("a file");
        fs::write(key.path(), &private.stdout).expect("the key");
        let public = run(Command::new("ssh-keygen").arg("-yf").arg(key.path())).ok();
        let public: Vec<&str> = public.out().split_whitespace().take(2).collect();
        let known = fs::read_to_string(self.state(name).join("known_hosts")).expect("a pinned key");
        assert!(known.contains(&public.join(" ")), "{known}");
    }

    /// The guest reads the share that civm fills, and cannot change it.
    fn sees_its_share(&self, name: &str, kind: &str) {
        let seen = self
            .civm(&["ssh", name, "--", "stat -fc %T /shared; ls /shared; touch /shared/x 2>&1; true"])
            .ok();
        for part in ["source", "host", "Read-only file system"] {
            assert!(seen.out().contains(part), "{part}: {}", seen.out());
        }
        let mounted = self.civm(&["ssh", name, "--", "grep ' /shared ' /proc/mounts"]).ok();
        assert!(mounted.out().contains(&format!(" {kind} ")), "{}", mounted.out());
    }

    /// Down: no process, no directory of the runner's, in memory or on the disk.
    fn down(&self, name: &str) {
        self.civm(&["down", name, "--timeout", "3"]).ok();
        self.machine.nothing_remains();
        assert!(!self.state(name).join("runner-files").exists());
        let left =
            ["/tmp", "/var/tmp"].into_iter().flat_map(|place| fs::read_dir(place).expect("a directory"));
        let left: Vec<_> = left
            .flatten()
            .map(|one| one.file_name())
            .filter(|name| name.to_string_lossy().starts_with("nix-vm."))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The image that the tests' guests are made of.
struct Image {
    kernel: PathBuf,
    initrd: PathBuf,
    disk: PathBuf,
    append: String,
}

impl Image {
    fn of(machine: &Machine) -> Self {
        run(&mut machine.civm(&["image", "build", "builder-demo"])).ok();
        let line = run(&mut machine.civm(&["up", "builder-demo", "--print-command"])).ok();
        let words = shlex::split(&line.out().replace("\\\n", " ")).expect("a command line");
        let after = |option: &str| {
            words.iter().skip_while(|word| *word != option).nth(1).expect("the option").clone()
        };
        let kernel = PathBuf::from(after("-kernel"));
        let append = after("-append");
        let append: Vec<&str> =
            append.split_whitespace().filter(|word| !word.starts_with("console=")).collect();
        let append = append.join(" ");
        Self { disk: kernel.with_file_name("disk.qcow2"), initrd: after("-initrd").into(), kernel, append }
    }
}

fn is_static(path: &Path) -> bool {
    path.is_file() && run(Command::new("ldd").arg(path)).code != 0
}

#[test]
fn configurations_are_started_without_a_host_yaml_by_an_ordinary_user() {
    let Some(flake) = Flake::new(Who::Ordinary, "flakes") else { return };
    lists(&flake);
    own_flake(&flake);
    every_year_is_understood(&flake);
    flake.up("vm-agent", &[]);
    flake.has_its_secrets("vm-agent");
    verbs(&flake, "vm-agent");
    flake.civm(&["down", "vm-agent"]).ok().says("the guest powered off");
    flake.machine.nothing_remains();
    flake.civm(&["rm", "vm-agent", "--yes"]).ok();
    if flake.plain {
        three_have_one_host_name(&flake);
        flake.up("vm-jenkins-controller-ephemeral", &["--ephemeral"]);
        flake.has_its_secrets("vm-jenkins-controller-ephemeral");
        flake.sees_its_share("vm-jenkins-controller-ephemeral", "9p");
        flake.down("vm-jenkins-controller-ephemeral");
        assert!(
            !files(&flake.machine.dir).iter().any(|path| path.extension().is_some_and(|end| end == "qcow2"))
        );
    }
    let _ = fs::remove_dir_all(&flake.machine.dir);
}

#[test]
fn and_by_root_over_9p_and_virtiofs() {
    let Some(flake) = Flake::new(Who::Root, "flakes") else { return };
    own_flake(&flake);
    if !flake.plain {
        return;
    }
    flake.up(CONTROLLER, &[]);
    flake.has_its_secrets(CONTROLLER);
    flake.sees_its_share(CONTROLLER, "9p");
    // What it is made of is not collected as long as it exists.
    let runner = fs::canonicalize(flake.state(CONTROLLER).join("runner")).expect("a runner");
    flake.nix(&["store", "gc"]).ok();
    assert!(runner.join("system/activate").exists());
    flake.down(CONTROLLER);
    // It is known by its name now, and its disk stays.
    flake.civm(&["up", CONTROLLER, "-d"]).ok().says("is ready in");
    flake.has_its_secrets(CONTROLLER);
    flake.down(CONTROLLER);
    flake.civm(&["rm", CONTROLLER, "--yes"]).ok();
    flake.nix(&["store", "gc"]).ok();
    assert!(!runner.exists(), "{}", runner.display());
    // With the module the guest has a copy of its key, and serves ssh with that.
    flake.up("vm-module", &[]);
    flake.has_its_secrets("vm-module");
    let key = flake.civm(&[
        "ssh",
        "vm-module",
        "--",
        "stat -fc %T /run/civm; stat -c %a /run/civm/ssh_host_ed25519_key",
    ]);
    assert_eq!(key.ok().out(), "ramfs\n400\n");
    flake.down("vm-module");
    if flake.has_virtiofsd() {
        flake.up("vm-virtiofs", &[]);
        flake.has_its_secrets("vm-virtiofs");
        flake.sees_its_share("vm-virtiofs", "virtiofs");
        flake.down("vm-virtiofs");
        flake.civm(&["rm", "vm-virtiofs", "--yes"]).ok();
    }
    let _ = fs::remove_dir_all(&flake.machine.dir);
}

fn lists(flake: &Flake) {
    let listed = flake.civm(&["ls", "--flake"]).ok();
    for name in ["vm-builder-demo", "vm-builder-x86", CONTROLLER, "vm-jenkins-controller-ephemeral"] {
        assert!(listed.out().lines().any(|line| line == format!(".#{name}")), "{}", listed.out());
    }
    let json: Value =
        serde_json::from_str(flake.civm(&["ls", "--flake", "--json"]).ok().out()).expect("JSON");
    assert!(json.as_array().is_some_and(|all| all.iter().any(|one| one["name"] == CONTROLLER)), "{json}");
    flake.civm(&["up", ".#nobody"]).code(69).says("the flake has no configuration `nobody`");
    // From a directory that is not a project.
    let elsewhere = flake.machine.dir.with_file_name("other");
    run(flake.machine.command("mkdir").arg("-p").arg(&elsewhere)).ok();
    let there = format!("git+file://{}#vm-module", flake.machine.dir.display());
    let mut plan = flake.with_nix(flake.machine.civm(&["up", "--flake", &there, "--dry-run"]));
    let plan = run(plan.current_dir(&elsewhere)).ok();
    assert!(plan.out().contains("vm-module"), "{}", plan.out());
    flake.civm(&["up", ".#a.b"]).says("is not a name that civm can give a machine");
}

/// The scripts of seven years come as far as a QEMU that answers, with its ports where civm wants them.
fn every_year_is_understood(flake: &Flake) {
    for year in YEARS {
        if year == "26.11" && !flake.has_virtiofsd() {
            continue;
        }
        let name = format!("year-{}", year.replace('.', "-"));
        let reference = format!(".#{name}");
        let line = flake.civm(&["up", &reference, "--print-command", "--accel", "tcg"]).ok();
        for part in ["NIX_DISK_IMAGE=", "USE_TMPDIR=1", "CIVM_SHARE=", "-machine accel=tcg -cpu max"] {
            assert!(line.out().contains(part), "{year}: {part}: {}", line.out());
        }
        let ran = flake.civm(&["up", &reference, "-d", "-v", "--ephemeral", "--timeout", "1"]);
        assert!(ran.code != 0 && ran.stderr.contains("not ready after"), "{year}: {}", ran.stderr);
        let record = fs::read_to_string(flake.state(&name).join("instance.json")).expect("a record");
        let record: Value = serde_json::from_str(&record).expect("JSON");
        assert_eq!(record["accel"], "tcg", "{year}: {record}");
        assert_eq!(record["forwards"][0]["address"], "127.0.0.1", "{year}: {record}");
        flake.civm(&["rm", &name, "--yes"]).ok();
    }
    flake.machine.nothing_remains();
}

/// civm's own flake: what it offers, and that its parts are used.
fn own_flake(flake: &Flake) {
    let dir = flake.machine.dir.display().to_string();
    let (own, nixpkgs) = (format!("path:{dir}/civm"), format!("path:{dir}/nixpkgs"));
    let over = ["--override-input", "nixpkgs", &nixpkgs, "--no-write-lock-file"];
    let program = flake.nix.join("nix").display().to_string();
    let nix = |verb: &[&str], args: &[&str]| {
        run(flake.with_nix(flake.machine.command(&program)).args(verb).args(over).args(args))
    };
    let shown = nix(&["flake", "show", "--json"], &[&own]).ok();
    let shown: Value = serde_json::from_str(shown.out()).expect("JSON");
    for name in ["civm", "default", "sops", "ssh-to-age", "sops-install-secrets", "update-sops-files"] {
        assert_eq!(shown["packages"]["x86_64-linux"][name]["type"], "derivation", "{name}: {shown}");
    }
    assert_eq!(shown["apps"]["x86_64-linux"]["civm"]["type"], "app");
    assert_eq!(shown["overlays"]["default"]["type"], "nixpkgs-overlay");
    assert_eq!(shown["nixosModules"]["default"]["type"], "nixos-module");
    let commands = nix(
        &["eval", "--json"],
        &["--apply", "map (one: one.name)", &format!("{own}#devShells.x86_64-linux.default.packages")],
    );
    for name in ["sops", "ssh-to-age", "update-sops-files"] {
        assert!(commands.out().contains(&format!("\"{name}\"")), "{}", commands.out());
    }
    let version = nix(&["run"], &[&format!("{own}#civm"), "--", "--version"]).ok();
    assert!(version.out().starts_with("civm "), "{}", version.out());
}

/// Three configurations have the host name `builder`: names and disks go by civm's.
fn three_have_one_host_name(flake: &Flake) {
    flake.up("vm-builder-demo", &[]);
    flake.up("vm-builder-x86", &["-p", "auto:22"]);
    let list: Value = serde_json::from_str(flake.civm(&["ls", "--json"]).ok().out()).expect("JSON");
    let ready = list.as_array().expect("a list").iter().filter(|one| one["state"] == "ready").count();
    assert_eq!(ready, 2, "{list}");
    for name in ["vm-builder-demo", "vm-builder-x86"] {
        assert!(flake.machine.dir.join(format!("{name}.qcow2")).exists());
        let cpus = flake.civm(&["ssh", name, "--", "nproc"]).ok();
        assert_eq!(cpus.out(), if name == "vm-builder-demo" { "2\n" } else { "1\n" });
    }
    assert!(!flake.machine.dir.join("builder.qcow2").exists());
    flake.civm(&["down", "vm-builder-demo", "--timeout", "3"]).ok();
    flake.down("vm-builder-x86");
    flake.civm(&["rm", "vm-builder-demo", "vm-builder-x86", "--yes"]).ok();
}

/// Every verb works on it.
fn verbs(flake: &Flake, name: &str) {
    let status: Value =
        serde_json::from_str(flake.civm(&["status", name, "--json"]).ok().out()).expect("JSON");
    assert_eq!(status["state"], "ready", "{status}");
    flake.civm(&["wait", name, "--for", "ready"]).ok();
    flake.civm(&["logs", name]).ok();
    flake.civm(&["port", name]).ok().says("");
    flake.civm(&["cp", ".sops.yaml", &format!("{name}:/tmp/x")]).ok();
    flake.civm(&["up", &format!(".#{name}"), "-d"]).ok().says("already running");
    flake.civm(&["apply", name]).says("only a restart changes");
    let console =
        run(flake.with_nix(flake.machine.civm(&["console", name])).stdin(std::process::Stdio::null()));
    assert!(console.code == 0 || !console.stderr.is_empty());
}
