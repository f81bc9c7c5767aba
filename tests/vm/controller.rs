//! The whole of it: a controller whose CI service has a job built by a builder that was made for it on another user's
//! machine, and that leaves nothing there.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::lender::Lender;
use super::machine::{Machine, Who};
use crate::support::https::{Server, certificates};
use crate::support::{Ran, run, run_with};

const HOST: &str = "ci";
const BUILDER: &str = "small-builder";
/// What the CI service is made of: the ancestor of Jenkins, which runs on today's Java in another launcher than its own.
const PARTS: [(&str, &str); 2] = [
    ("hudson.war", "https://repo1.maven.org/maven2/org/eclipse/hudson/hudson-war/3.3.2/hudson-war-3.3.2.war"),
    (
        "jetty-runner.jar",
        "https://repo1.maven.org/maven2/org/eclipse/jetty/jetty-runner/9.4.54.v20240208/jetty-runner-9.4.54.v20240208.jar",
    ),
];

/// The parts of the CI service, fetched once and then kept, and served over https on loopback.
struct Parts {
    server: Server,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Parts {
    fn new() -> Option<Self> {
        let kept = Path::new("/var/tmp/civm-test-artifacts");
        fs::create_dir_all(kept).expect("a directory");
        let files: Option<Vec<_>> =
            PARTS.iter().map(|(name, url)| Some((*name, fetched(kept, name, url)?))).collect();
        let files = files?;
        let served = files.clone();
        let server = Server::start(move |path| {
            let found = served.iter().find(|(name, _)| path.trim_start_matches('/') == *name);
            found.map_or((404, String::new(), Vec::new()), |(_, bytes)| (200, String::new(), bytes.clone()))
        });
        Some(Self { server, files })
    }

    fn sha256(&self, name: &str) -> String {
        let (_, bytes) = self.files.iter().find(|(known, _)| *known == name).expect("a part");
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A file from the net, or `None` with a word why not.
fn fetched(kept: &Path, name: &str, url: &str) -> Option<Vec<u8>> {
    let path = kept.join(name);
    if !path.exists() {
        let part = kept.join(format!("{name}.part"));
        let status = Command::new("curl").args(["-sSfL", "-m", "120", "-o"]).arg(&part).arg(url).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("skipped: the controller with a CI service: {url} cannot be had");
            return None;
        }
        fs::rename(&part, &path).expect("a file");
    }
    Some(fs::read(path).expect("a file"))
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// Waits until `what` gives something, for minutes that `CIVM_TIMEOUT_SCALE` stretches.
#[track_caller]
pub fn until<T>(what: &str, minutes: u64, look: impl FnMut() -> Option<T>) -> T {
    until_or_tell(what, minutes, look, String::new)
}

/// The same; what `told` says then is said where it does not happen.
#[track_caller]
pub fn until_or_tell<T>(
    what: &str,
    minutes: u64,
    mut look: impl FnMut() -> Option<T>,
    told: impl FnOnce() -> String,
) -> T {
    let scale: u64 = std::env::var("CIVM_TIMEOUT_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(60 * minutes * scale);
    loop {
        if let Some(found) = look() {
            return found;
        }
        if Instant::now() > end {
            panic!("{what} did not happen in {minutes} minutes {}", told());
        }
        thread::sleep(Duration::from_millis(250));
    }
}

/// A derivation whose output names the machine that built it, in so many seconds.
pub fn expression(name: &str, seconds: u32) -> String {
    format!(
        "derivation {{ name = \"{name}\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; args = [ \"-c\" \
         \"read id < /proc/sys/kernel/random/boot_id; i=0; while [ $i -lt {seconds} ]; do /bin/sleep 1; i=$((i+1)); done; \
         echo $id > $out\" ]; }}"
    )
}

/// The CI service as a browser reaches it.
struct Service {
    port: u16,
}

impl Service {
    fn curl(&self, args: &[&str], path: &str) -> Ran {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        run(Command::new("curl").args(["-sS", "-g", "-m", "60"]).args(args).arg(url))
    }

    fn wait(&self) {
        until("the CI service's answer", 6, || {
            (self.curl(&["-o", "/dev/null", "-w", "%{http_code}"], "/api/json").out() == "200").then_some(())
        });
    }

    fn start(&self, job: &str, script: &str) {
        let script = script.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let job_xml = format!(
            "<project><builders><hudson.tasks.Shell><command>{script}</command></hudson.tasks.Shell></builders></project>"
        );
        let create = ["-f", "-X", "POST", "-H", "Content-Type: text/xml", "--data-binary", &job_xml];
        self.curl(&create, &format!("/createItem?name={job}")).ok();
        self.curl(&["-f", "-X", "POST"], &format!("/job/{job}/build?delay=0sec")).ok();
    }

    /// The result of a job's last build, and what it said.
    fn result(&self, job: &str) -> (String, String) {
        let outcome = until("the job's end", 6, || {
            let seen = self.curl(&[], &format!("/job/{job}/lastBuild/api/json"));
            let seen: serde_json::Value = serde_json::from_slice(&seen.stdout).ok()?;
            seen["result"].as_str().map(str::to_owned)
        });
        (outcome, self.curl(&[], &format!("/job/{job}/lastBuild/consoleText")).out().to_owned())
    }
}

/// The project with the two hosts of this test; the controller's key for the remote is one of its secrets.
fn write_project(machine: &Machine, lender: &Lender, parts: &Parts, port: u16) {
    let secrets = "hosts/jenkins-controller/secrets.yaml";
    let set = ["secrets", "set", "--value-stdin", secrets, "remote_key"];
    run_with(&mut machine.civm(&set), lender.client_key.as_bytes()).ok();
    for dir in ["hosts/ci/rootfs/etc/ci", "hosts/small-builder", "hosts/desk"] {
        fs::create_dir_all(machine.dir.join(dir)).expect("a directory");
    }
    let remote =
        |text: &str| text.replace("SSHD", &lender.port.to_string()).replace("REMOTE", &lender.host_key);
    let host = remote(include_str!("ci/host.yaml"))
        .replace("PORT", &port.to_string())
        .replace("URL", &parts.server.url(""))
        .replace("WAR", &parts.sha256("hudson.war"))
        .replace("RUNNER", &parts.sha256("jetty-runner.jar"));
    machine.write("hosts/ci/host.yaml", &host);
    machine.write("hosts/desk/host.yaml", &remote(include_str!("ci/desk.yaml")));
    machine.write("hosts/small-builder/host.yaml", include_str!("ci/builder.yaml"));
    machine.write("hosts/ci/rootfs/etc/ci/jetty.xml", include_str!("ci/jetty.xml"));
    machine.write("hosts/ci/rootfs/etc/ci/config.xml", include_str!("ci/config.xml"));
    machine.write("hosts/ci/rootfs/etc/ci/realm.properties", "");
}

#[test]
fn a_controller_has_its_job_built_by_a_builder_that_it_made_for_itself() {
    let Some(machine) = Machine::new(Who::Ordinary, "controller") else { return };
    let (Some(lender), Some(parts)) = (Lender::new("0"), Parts::new()) else { return };
    let port = free_port();
    write_project(&machine, &lender, &parts, port);
    let begun = Instant::now();
    let told = |what: &str| eprintln!("{:>6.1} s  {what}", begun.elapsed().as_secs_f32());

    run(&mut machine.civm(&["image", "build", BUILDER, HOST])).ok();
    lender.take_images(machine.home());
    told("images built");
    let up = run(machine.civm(&["up", HOST, "-d"]).env("SSL_CERT_FILE", certificates())).ok();
    assert!(up.stderr.contains("ready in"), "{}", up.stderr);
    told("controller ready");

    // A build that is there before its builder is waits for it.
    let ci = Service { port };
    let early = machine.guest(
        HOST,
        &format!(
            "systemd-run -q --unit early --uid jenkins -p StandardOutput=file:/tmp/early \
         -E HOME=/var/lib/ci nix-build --no-out-link -E '{}'",
            expression("early", 0)
        ),
    );
    early.ok();
    let list = || -> serde_json::Value {
        let listed = machine.guest(HOST, "/run/civm/civm builder ls --json").ok();
        serde_json::from_slice(&listed.stdout).expect("JSON")
    };
    until("the builder's readiness", 4, || list().to_string().contains("\"ready\"").then_some(()));
    told("builder ready");
    let boot_id =
        machine.guest(HOST, "ssh big cat /proc/sys/kernel/random/boot_id").ok().out().trim().to_owned();
    let own = machine.guest(HOST, "cat /proc/sys/kernel/random/boot_id").ok().out().trim().to_owned();
    assert_ne!(boot_id, own);
    let ended = || {
        let path = machine.guest(HOST, "! systemctl is-active -q early && cat $(tail -n1 /tmp/early)");
        (path.code == 0).then(|| path.out().trim().to_owned())
    };
    let early = until_or_tell("the early build", 3, ended, || {
        let look = "tail -v /tmp/early; journalctl --no-pager -n 60 -u early -u nix-daemon -u civm-builders; \
             /run/civm/civm builder ls; ps -eo pid,ppid,user,etimes,wchan:20,args | grep -v '\\['";
        machine.guest(HOST, look).out().to_owned()
    });
    assert_eq!(early, boot_id, "a build waited for its builder");
    told("a build that was there before its builder");

    // The CI user reads its own key, and nobody else's; who builds nothing gets nowhere.
    let reads = |user: &str, whose: &str| {
        let key = format!("/run/civm/builders/keys/{whose}/id_ed25519");
        machine.guest(HOST, &format!("runuser -u {user} -- cat {key} > /dev/null")).code == 0
    };
    let all = [("jenkins", "jenkins"), ("jenkins", "root"), ("nobody", "jenkins")];
    assert_eq!(all.map(|(user, whose)| reads(user, whose)), [true, false, false]);
    // What packages have enabled is there.
    machine.guest(HOST, "systemctl is-active timers.target multi-user.target").ok();
    ci.wait();
    told("CI service answers");
    let build = format!("cat $(nix-build --no-out-link -E '{}')", expression("job", 0));
    ci.start("job", &build);
    let (outcome, said) = ci.result("job");
    assert_eq!(outcome, "SUCCESS", "{said}");
    assert!(said.contains(&boot_id), "built elsewhere than on {boot_id}:\n{said}");
    told("job built by the builder");

    // The same through the builder's own store.
    let store = format!(
        "set -e; s=$(sed -n 's/.*\"x86_64-linux\": \"\\(.*\\)\".*/\\1/p' /etc/civm/builders.json); \
         p=$(nix build --store \"$s\" --eval-store auto --json --no-link --impure --expr '{}' | \
         sed 's/.*\"out\":\"\\([^\"]*\\)\".*/\\1/'); nix copy --from \"$s\" --no-check-sigs $p; cat $p",
        expression("stored", 0)
    );
    ci.start("stored", &store);
    let (outcome, said) = ci.result("stored");
    assert_eq!(outcome, "SUCCESS", "{said}");
    assert!(said.contains(&boot_id), "built elsewhere than on {boot_id}:\n{said}");
    told("job built in the builder's store");

    // A builder that dies takes its build along; the next one is built by the next machine.
    ci.start("long", &format!("nix-build --no-out-link -E '{}'", expression("long", 600)));
    until("the long build's start", 3, || {
        let running = machine.guest(HOST, "ssh big pgrep -u nixbld1,nixbld2 sh");
        (running.code == 0).then_some(())
    });
    let qemu = lender.qemu().expect("the builder's QEMU");
    nix::sys::signal::kill(qemu, nix::sys::signal::Signal::SIGKILL).expect("it is killed");
    let (outcome, said) = ci.result("long");
    assert_eq!(outcome, "FAILURE", "{said}");
    ci.start("after", &build.replace("job", "after"));
    let (outcome, said) = ci.result("after");
    assert_eq!(outcome, "SUCCESS", "{said}");
    assert!(!said.contains(&boot_id) && !said.contains(&own), "built by a new machine:\n{said}");
    told("builder killed, made again, built on");

    machine.down(HOST).ok();
    lender.nothing_remains();
    machine.nothing_remains();
    told("down; nothing is left");

    on_a_laptop(&machine);
    lender.nothing_remains();
    machine.nothing_remains();
    told("a build from a laptop with one command; nothing is left");
}

/// One command makes a builder, has Nix build on it, and takes it away.
fn on_a_laptop(machine: &Machine) {
    let nix = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/nix");
    if !nix.join("nix-build").exists() {
        return eprintln!("skipped: a build from a laptop (devshell/nix has not unpacked Nix)");
    }
    // Where the user who runs it can read it.
    let here = Path::new(&machine.base()).join("nix");
    let _ = fs::remove_dir_all(&here);
    run(Command::new("cp").arg("-a").arg(nix).arg(&here)).ok();
    let store = format!("local?root={}/store", machine.base());
    let program = here.join("nix-build").to_string_lossy().into_owned();
    let derivation = expression("laptop", 0);
    let build = [&program, "--no-out-link", "--store", &store, "-E", &derivation];
    let built = run(&mut machine.civm(&[&["builder", "exec", "near", "--"], &build[..]].concat())).ok();
    let output = Path::new(&machine.base()).join("store").join(built.out().trim().trim_start_matches('/'));
    let boot_id = fs::read_to_string(&output).unwrap_or_else(|error| panic!("{}: {error}", output.display()));
    let own = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("this machine's");
    assert!(boot_id.trim().len() == own.trim().len() && boot_id != own, "{boot_id}: {}", built.stderr);
}
