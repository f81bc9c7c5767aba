//! A project on a laptop: one command makes a builder, builds, and takes it away.

use std::fs;
use std::process::{Command, Stdio};

use civm::builder::place::Place;
use civm::edge::environment::Environment;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::played::REMOTE;
use crate::scene::{Scene, cache, lender, pid, told, wait_until};

pub const ALL: &[(&str, fn())] = &[
    ("one_command_builds_on_a_builder_that_is_made_for_it", one_command),
    ("a_host_yaml_that_cannot_be_used_is_told_beside_good_ones", unread),
    ("an_interrupted_command_leaves_no_builder", interrupted),
    ("a_remote_is_looked_at_and_purged", purge),
    ("the_keys_of_a_killed_keeper_go_with_the_next_civm", killed),
    ("the_real_serve_says_what_it_lacks", too_large),
];

/// A project whose controller deploys one builder, and an agent that has the key.
struct Laptop {
    scene: Scene,
    agent: std::process::Child,
}

impl Laptop {
    fn new() -> Self {
        Self::with("plain")
    }

    /// One whose builder plays this part.
    fn with(part: &str) -> Self {
        let scene = Scene::new();
        for host in ["builder", "controller"] {
            fs::create_dir_all(scene.path("project/hosts").join(host)).unwrap();
        }
        fs::write(
            scene.path("project/hosts/builder/host.yaml"),
            format!("users: {{{0}: {{}}}}\nnix: {{trusted_users: [{0}]}}\n", lender()),
        )
        .unwrap();
        let me = std::env::current_exe().unwrap();
        let controller = format!(
            "nix:\n  builders:\n    big:\n      deploy: builder\n      on: {0}@127.0.0.1:{1}\n      \
             on_public_key: {2}\n      user: {0}\n      require: any\n      run_with: [{3}, {REMOTE}, {part}]\n",
            lender(),
            scene.port,
            scene.host_key,
            me.display()
        );
        fs::write(scene.path("project/hosts/controller/host.yaml"), controller).unwrap();
        let socket = scene.path("ours/agent");
        let agent =
            Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        wait_until("the agent listens", || socket.exists().then_some(()));
        let added = Command::new("ssh-add")
            .arg(scene.path("ours/login"))
            .env("SSH_AUTH_SOCK", &socket)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(added.success());
        Self { scene, agent }
    }

    fn civm(&self, words: &[&str]) -> (Option<i32>, String, String) {
        told(self.command(words).output().unwrap())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.scene.civm(&["--project"]);
        command.arg(self.scene.path("project")).arg("builder").args(words);
        command.env("SSH_AUTH_SOCK", self.scene.path("ours/agent"));
        command.env("XDG_STATE_HOME", self.scene.path("ours/state"));
        command
    }

    fn place(&self) -> Place {
        let root = fs::canonicalize(self.scene.path("project")).unwrap();
        Place::of_project(&root, &Environment::of_process()).unwrap()
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        let _ = self.civm(&["down", "--all", "--now"]);
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

fn one_command() {
    let laptop = Laptop::new();
    let script = "echo \"$CIVM_STORE\"; echo \"$NIX_CONFIG\"; ssh $NIX_SSHOPTS big echo built; exit 5";
    let (code, out, err) = laptop.civm(&["exec", "big", "--", "sh", "-c", script]);
    assert_eq!(code, Some(5), "{out}{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], format!("ssh-ng://{}@big?trusted=true", lender()));
    assert_eq!(lines[1], format!("builders = @{}", laptop.place().machines().display()));
    assert!(lines.contains(&"max-jobs = 0") && lines.contains(&"built"), "{out}{err}");
    wait_until("the keeper has ended with its last builder", || (!laptop.place().dir.exists()).then_some(()));
    laptop.scene.nothing_is_left();

    // One that was there before stays.
    let file = laptop.scene.path("ours/machines");
    let (code, _, err) = laptop.civm(&["up", "big", "--machines-file", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{err}");
    assert!(fs::read_to_string(&file).unwrap().contains("@big?trusted=true"), "{err}");
    assert!(err.contains("export NIX_SSHOPTS='-F "), "{err}");
    assert_eq!(laptop.civm(&["exec", "big", "--", "true"]).0, Some(0));
    let (_, out, _) = laptop.civm(&["ls", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(list[0]["state"], "ready", "{out}");
    assert_eq!(laptop.civm(&["exec", "big", "--", "/no/such"]).0, Some(127));
    let (code, out, err) = laptop.civm(&["ls"]);
    assert!(code == Some(0) && out.contains("big ") && !err.contains("not made"), "{out}{err}");
    let (code, _, err) = laptop.civm(&["up", "bog"]);
    assert_eq!(code, Some(1));
    assert!(err.starts_with("error: no builder `bog`"), "{err}");
    assert_eq!(laptop.civm(&["down", "--all"]).0, Some(0));
    wait_until("the keeper has ended", || (!laptop.place().dir.exists()).then_some(()));
    laptop.scene.nothing_is_left();
    assert_eq!(laptop.civm(&["ls", "--json"]).1, "[]\n");
    assert_eq!(laptop.civm(&["ls"]).2, "not made: big; `civm builder up NAME` makes one\n");
}

fn unread() {
    let laptop = Laptop::new();
    let bad = laptop.scene.path("project/hosts/bad");
    fs::create_dir(&bad).unwrap();
    fs::write(bad.join("host.yaml"), "cpus: many\n").unwrap();
    let told_so = |err: &str| {
        let told = err.contains("warning: the builders of host `bad` are left out: ");
        assert!(told && err.contains("hosts/bad/host.yaml") && err.contains("cpus"), "{err}");
    };
    let (code, _, err) = laptop.civm(&["up", "--all"]);
    told_so(&err);
    assert_eq!(code, Some(2), "{err}");
    assert_eq!(laptop.civm(&["ls", "--json"]).1.matches("\"state\": \"ready\"").count(), 1);
    // Who wants another one is not told.
    let (code, _, err) = laptop.civm(&["up", "big"]);
    assert!(code == Some(0) && !err.contains("bad"), "{err}");
    assert_eq!(laptop.civm(&["down", "--all"]).0, Some(0));
    wait_until("the keeper has ended", || (!laptop.place().dir.exists()).then_some(()));
    let mut run = laptop.command(&["run"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it runs", || laptop.civm(&["ls", "--json"]).1.contains("\"big\"").then_some(()));
    kill(pid(&run), Signal::SIGTERM).unwrap();
    run.wait().unwrap();
    told_so(&told(run.wait_with_output().unwrap()).2);
    laptop.scene.nothing_is_left();
}

fn interrupted() {
    let laptop = Laptop::with("never");
    let exec = laptop.command(&["exec", "big", "--", "true"]);
    // Whatever the tests were started with: a shell's background job ignores SIGINT.
    let mut heard = Command::new("env");
    heard.arg("--default-signal").arg(exec.get_program()).args(exec.get_args());
    for (name, value) in exec.get_envs() {
        match value {
            Some(value) => heard.env(name, value),
            None => heard.env_remove(name),
        };
    }
    let exec = heard.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it boots", || {
        let list: serde_json::Value = serde_json::from_str(&laptop.civm(&["ls", "--json"]).1).ok()?;
        (list[0]["state"] == "starting").then_some(())
    });
    kill(pid(&exec), Signal::SIGINT).unwrap();
    let (code, _, err) = told(exec.wait_with_output().unwrap());
    assert_eq!(code, Some(130), "{err}");
    assert!(err.contains("civm: interrupted"), "{err}");
    wait_until("the keeper has ended with its last builder", || (!laptop.place().dir.exists()).then_some(()));
    laptop.scene.nothing_is_left();
    drop(laptop);
    // The command runs already: it is told, and its end is that of the whole.
    let laptop = Laptop::new();
    let mark = laptop.scene.path("ours/runs");
    let script = format!("touch {}; exec sleep 600", mark.display());
    let mut exec = laptop.command(&["exec", "big", "--", "sh", "-c", &script]);
    let exec = exec.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the command runs", || mark.exists().then_some(()));
    kill(pid(&exec), Signal::SIGTERM).unwrap();
    let (code, _, err) = told(exec.wait_with_output().unwrap());
    assert_eq!(code, Some(143), "{err}");
    wait_until("the keeper has ended with its last builder", || (!laptop.place().dir.exists()).then_some(()));
    laptop.scene.nothing_is_left();
}

fn killed() {
    let laptop = Laptop::new();
    assert_eq!(laptop.civm(&["up", "big"]).0, Some(0));
    let project = laptop.scene.path("project");
    let keeper = format!("--project {} builder run", fs::canonicalize(&project).unwrap().display());
    let found = Command::new("pgrep").args(["-f", "--", &keeper]).output().unwrap();
    let keeper: i32 = String::from_utf8(found.stdout).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
    laptop.scene.nothing_is_left();
    assert!(laptop.place().dir.join("keys").exists());
    // Whoever only looks removes them.
    assert_eq!(laptop.civm(&["ls", "--json"]).1, "[]\n");
    assert!(!laptop.place().dir.exists());
}

fn too_large() {
    let mut scene = Scene::new();
    let mut builder = scene.builder("big", "");
    builder.run_with.clear();
    scene.put_with(&builder, 1 << 30);
    scene.keep();
    let reason = scene.until("big", "failed").reason.unwrap();
    assert!(reason.message.starts_with(&format!("{} (", builder.on)), "{reason}");
    assert!(reason.message.contains(" lacks: ") && reason.message.contains("memory"), "{reason}");
    scene.end();
    scene.nothing_is_left();
}

fn purge() {
    let scene = Scene::new();
    // The real civm serves here.
    let mut builder = scene.builder("big", "");
    builder.run_with.clear();
    scene.put(&builder);
    fs::create_dir(scene.path("run")).unwrap();
    std::os::unix::fs::symlink(scene.path("parcels"), scene.path("run/parcels")).unwrap();
    let (code, out, err) = scene.run(&["ls", "--remote", "big"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("processors") && out.contains("kept: "), "{out}");
    let on = builder.on.to_string();
    let (code, out, err) = scene.run(&["purge", &on, "--dry-run"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("/civm/bin/") && err.contains("would be removed"), "{out}{err}");
    // What somebody uses stays, and it is said.
    let pushed = fs::read_dir(cache().join("civm/bin")).unwrap().flatten();
    let used: Vec<_> = pushed.map(|one| fs::File::open(one.path()).unwrap()).collect();
    used.iter().for_each(|file| file.lock_shared().unwrap());
    let (code, _, err) = scene.run(&["purge", "big", "--dry-run"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("stays: it is in use by"), "{err}");
    drop(used);
    let (code, out, err) = scene.run(&["purge", "big", "--json"]);
    assert_eq!(code, Some(0), "{err}");
    let gone: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(gone["bytes"].as_u64().unwrap() > 1_000_000, "{out}");
    let (code, _, err) = scene.run(&["purge", "nobody@nowhere"]);
    assert_eq!(code, Some(1));
    assert!(err.starts_with("error: no builder is made on `nobody@nowhere`"), "{err}");
}
