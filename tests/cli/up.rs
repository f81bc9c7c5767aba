//! What `civm up` finds before anything is built or started. None of this needs QEMU or an image.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Ran, Scene, peer, run};

/// Unavailable machines, and input that cannot be read (README, exit codes).
const MACHINE: i32 = 69;
const INPUT: i32 = 2;

/// A project with one host, which nothing forwards to.
fn scene(host: &str) -> Scene {
    let scene = Scene::new();
    scene.write("hosts/x/host.yaml", host);
    scene
}

fn up(scene: &Scene, args: &[&str]) -> Ran {
    let args: Vec<&str> = ["up", "x"].iter().chain(args).copied().collect();
    run(&mut scene.civm(&args))
}

fn qemu_img(args: &[&str]) -> bool {
    Command::new("qemu-img").args(args).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Nothing was made for a machine that is refused.
fn nothing_was_built(scene: &Scene) {
    let cache = scene.path("home/.cache/civm/images");
    assert!(!cache.exists(), "{} was made", cache.display());
}

/// Puts something where the disk should be.
type Make = fn(&Path);

#[test]
fn a_disk_that_is_none_is_named_at_once() {
    let scene = scene("");
    let disk = scene.file("x.qcow2");
    let begun = Instant::now();
    let cases: [(&str, Make, &str); 6] = [
        ("an empty file", |disk| fs::write(disk, "").unwrap(), "is empty: remove it"),
        ("another format", |disk| fs::write(disk, "a".repeat(9999)).unwrap(), "is not a qcow2 disk"),
        (
            "a dangling link",
            |disk| symlink("/mnt/gone/x", disk).unwrap(),
            "is a link to /mnt/gone/x, which does not exist",
        ),
        (
            "a pipe",
            |disk| nix::unistd::mkfifo(disk, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "is a pipe, not a disk",
        ),
        ("a directory", |disk| fs::create_dir(disk).unwrap(), "is a directory, not a disk"),
        ("a device", |disk| symlink("/dev/null", disk).unwrap(), "is a device, not a disk"),
    ];
    for (what, make, words) in cases {
        make(&disk);
        let ran = up(&scene, &[]).code(MACHINE).says(words);
        assert!(ran.stderr.contains("x.qcow2: "), "{what}: {}", ran.stderr);
        up(&scene, &["--print-command"]).code(MACHINE).says(words);
        if disk.is_dir() && !disk.is_symlink() { fs::remove_dir(&disk) } else { fs::remove_file(&disk) }
            .unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "nothing was waited for");
    nothing_was_built(&scene);
}

#[test]
fn a_disk_that_refers_to_other_files_is_not_given_to_qemu() {
    let scene = scene("");
    let (disk, secret) = (text(&scene.file("x.qcow2")), text(&scene.path("home/secret")));
    fs::write(&secret, vec![7; 1 << 20]).unwrap();
    if !qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", &secret, &disk]) {
        return eprintln!("skipped: no qemu-img");
    }
    up(&scene, &[]).code(MACHINE).says("has a backing file");
    fs::remove_file(&disk).unwrap();
    let options = format!("data_file={},data_file_raw=on", text(&scene.path("home/data")));
    assert!(qemu_img(&["create", "-q", "-f", "qcow2", "-o", &options, &disk, "8M"]));
    up(&scene, &[]).code(MACHINE).says("has its data in another file");
    nothing_was_built(&scene);
}

#[test]
fn a_link_to_a_disk_is_followed_unless_it_came_with_the_project() {
    let scene = scene("");
    let (disk, real) = (scene.file("x.qcow2"), scene.path("home/real.qcow2"));
    if !qemu_img(&["create", "-q", "-f", "qcow2", &text(&real), "16G"]) || peer("git").is_none() {
        return eprintln!("skipped: no qemu-img or no git");
    }
    symlink(&real, &disk).unwrap();
    up(&scene, &["--print-command"]).ok();
    let git = |args: &[&str]| run(scene.command("git").args(args)).ok();
    git(&["init", "-q"]);
    up(&scene, &["--print-command"]).ok();
    git(&["add", "-f", "x.qcow2"]);
    up(&scene, &["--print-command"]).code(MACHINE).says("is a link that is part of the project");
    up(&scene, &[]).code(MACHINE).says("is a link that is part of the project");
}

#[test]
fn what_leads_out_of_the_project_is_not_read() {
    let scene = scene("secrets: [a]\n");
    let outside = scene.path("home/other");
    fs::create_dir_all(outside.join("rootfs")).unwrap();
    fs::write(outside.join("secrets.yaml"), "a: ENC[AES256_GCM,type:str]\n").unwrap();
    fs::write(outside.join("host.yaml"), "cpus: 3\n").unwrap();
    symlink(outside.join("secrets.yaml"), scene.file("hosts/x/secrets.yaml")).unwrap();
    up(&scene, &[]).says("hosts/x/secrets.yaml leads out of the project");
    symlink(&outside, scene.file("hosts/y")).unwrap();
    run(&mut scene.civm(&["up", "y"])).says("hosts/y/host.yaml leads out of the project");
    scene.write("hosts/z/host.yaml", "extends: y\n");
    run(&mut scene.civm(&["up", "z"])).says("hosts/y/host.yaml leads out of the project");
    nothing_was_built(&scene);
}

#[test]
fn names_and_types_of_secrets_are_checked_before_the_boot() {
    let scene = scene("cpus: 1\nsecrets:\n  vm_builder_ssh_kye: {}\n");
    let file = include_str!("../../hosts/jenkins-controller/secrets.yaml");
    let (key, rest) = file.split_once("vedenemo_builder_ssh_key: ").expect("the second secret");
    scene.write("hosts/x/secrets.yaml", format!("{key}port: {}", rest.replacen("type:str", "type:int", 1)));
    up(&scene, &[])
        .code(INPUT)
        .says("hosts/x/host.yaml:3: ")
        .says("the key 'vm_builder_ssh_kye' cannot be found; did you mean `vm_builder_ssh_key`?");
    scene.write("hosts/x/host.yaml", "secrets: [port]\n");
    let ran = up(&scene, &["--without-secrets"]).code(INPUT);
    ran.says("hosts/x/host.yaml:1: ").says("the value of key 'port' is not a string but an integer");
    scene.write("hosts/x/host.yaml", "secrets: {vm_builder_ssh_key: {restart_units: [a]}}\n");
    up(&scene, &[]).code(INPUT).says("`a` is not a unit name");
    // What is in the file and reaches no guest is said; then nobody can decrypt it here.
    scene.write("hosts/x/host.yaml", "");
    up(&scene, &[])
        .says("list them: vm_builder_ssh_key, port, jenkins_admin_password (hosts/x/secrets.yaml)");
    nothing_was_built(&scene);
}

#[test]
fn the_command_is_printed_without_building_anything() {
    let scene = scene("");
    let begun = Instant::now();
    let ran = up(&scene, &["--print-command"]);
    if ran.stderr.contains("qemu-system") && ran.code == MACHINE {
        return eprintln!("skipped: no QEMU");
    }
    let ran = ran.ok().says("its image and its disk will be created by the first `civm up x`");
    assert!(begun.elapsed() < Duration::from_secs(30));
    nothing_was_built(&scene);
    let (mkdir, qemu) = ran.out().split_once(" && ").unwrap();
    assert!(qemu.contains("-kernel ") && qemu.contains("qemu-system"), "{qemu}");
    // What it prints makes the directories of the sockets and of the share.
    run(scene.command("sh").args(["-c", mkdir])).ok();
    let share = qemu.split("path=").find(|part| part.contains("/share,")).unwrap();
    assert!(Path::new(share.split(',').next().unwrap()).is_dir(), "{share}");
}

#[test]
fn without_a_home_the_accounts_own_is_taken() {
    let scene = scene("");
    for home in [None, Some("")] {
        let mut command = scene.civm(&["ls"]);
        command.env_remove("HOME").env("XDG_STATE_HOME", scene.path("tmp/state"));
        if let Some(home) = home {
            command.env("HOME", home);
        }
        assert!(run(&mut command).ok().out().contains('x'));
        let mut command = scene.civm(&["up", "x", "--print-command"]);
        command.env_remove("HOME").env("XDG_STATE_HOME", scene.path("tmp/state"));
        let ran = run(&mut command);
        assert!(!ran.stderr.contains("HOME"), "{}", ran.stderr);
    }
}

/// Programs that note their own name and variables, and fail; or do what the real one does.
fn fake_tools(scene: &Scene, failing: &[&str]) -> PathBuf {
    let (bin, seen) = (scene.path("tmp/bin"), scene.path("tmp/seen"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&seen).unwrap();
    for name in failing {
        let tool = bin.join(name);
        let script = format!("#!/bin/sh\n/usr/bin/env >{}/{name}.$$\nexit 1\n", seen.display());
        // Written by another process: a program that a test beside this one starts would hold the file open.
        let write = ["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""];
        run(Command::new("sh").args(write).arg(&tool).arg(script)).ok();
    }
    bin
}

/// The names of the tools that were run. None of them saw a key.
fn tools_seen(scene: &Scene) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(scene.path("tmp/seen")).unwrap().flatten() {
        let seen = fs::read_to_string(entry.path()).unwrap();
        let name = entry.file_name().to_string_lossy().split('.').next().unwrap().to_owned();
        for hidden in ["SOPS_AGE_KEY", "AWS_SECRET", "HIDDEN"] {
            assert!(!seen.contains(hidden), "{name} sees {hidden}");
        }
        names.push(name);
    }
    names.sort();
    names.dedup();
    names
}

/// Files of that name, anywhere below a directory.
fn files_named(dir: &Path, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => files_named(&path, name),
            false => vec![path],
        })
        .filter(|path| path.ends_with(name))
        .collect()
}

/// An image in the cache that looks complete, at the place that the printed command names.
fn fake_image(printed: &Ran, programs: &str) {
    let words = printed.out().split_whitespace();
    let kernel = words.skip_while(|word| *word != "-kernel").nth(1).expect("a kernel");
    let image = Path::new(kernel).parent().expect("a directory");
    fs::create_dir_all(image.join("modules")).unwrap();
    assert!(qemu_img(&["create", "-q", "-f", "qcow2", &text(&image.join("disk.qcow2")), "4G"]));
    let content = format!(
        r#"{{"passwd": "root:x:0:0::/root:/bin/sh\n", "group": "root:x:0:\n", "programs": [{programs}]}}"#
    );
    let files = [("kernel", "k"), ("early-modules", ""), ("accounts-and-programs.json", &content)];
    for (name, content) in files {
        fs::write(image.join(name), content).unwrap();
    }
    fs::write(image.join("contents.json"), r#"{"kernel": 1}"#).unwrap();
}

#[test]
fn no_tool_sees_the_callers_keys() {
    let scene = scene("");
    let sources = scene.path("tmp/sources");
    fs::write(&sources, "deb http://mirror.example.org/debian bookworm main\n").unwrap();
    let all = [
        "mmdebstrap",
        "apt-get",
        "apt-cache",
        "dpkg-deb",
        "tar",
        "mke2fs",
        "qemu-img",
        "depmod",
        "xz",
        "fakeroot",
        "newuidmap",
        "qemu-system-x86_64",
        "qemu-system-aarch64",
        "git",
        "getent",
        "id",
    ];
    let bin = fake_tools(&scene, &all);
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let civm = |args: &[&str]| {
        let mut command = scene.civm(args);
        command
            .env("PATH", &path)
            .env("CIVM_APT_SOURCES", &sources)
            .env("SOPS_AGE_KEY", "AGE-SECRET-KEY-HIDDEN")
            .env("SOPS_AGE_KEY_CMD", "echo HIDDEN")
            .env("AWS_SECRET_ACCESS_KEY", "HIDDEN");
        run(&mut command)
    };
    let ran = civm(&["up", "x"]).code(MACHINE);
    if ran.stderr.contains("subuid") {
        return eprintln!("skipped: this user has no subordinate ids");
    }
    assert!(tools_seen(&scene).contains(&"apt-get".to_owned()), "{:?}", tools_seen(&scene));
    let images = scene.path("home/.cache/civm/images");
    let left: Vec<_> = fs::read_dir(&images).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");

    // An image that looks complete leads on to QEMU.
    if peer("qemu-img").is_none() {
        return eprintln!("skipped: no qemu-img");
    }
    let printed = civm(&["up", "x", "--print-command"]).ok();
    fake_image(&printed, "");
    fs::remove_file(bin.join("qemu-img")).unwrap();
    // QEMU's own user could not enter the directory of this test.
    let start = |accel: &str| civm(&["up", "x", "--qemu-as-root", "--accel", accel]).code(MACHINE);
    civm(&["up", "x", "--qemu-as-root", "--ephemeral", "--accel", "kvm"]).code(MACHINE);
    civm(&["up", "x", "--qemu-as-root", "--ephemeral", "--accel", "tcg"]).code(MACHINE);
    let left = files_named(&scene.path("home/.local/state"), "ephemeral.qcow2");
    assert!(left.is_empty(), "a machine that did not start leaves {left:?}");
    start("tcg");
    // Where there is a /dev/kvm to try, it is tried with the same variables.
    start("kvm");
    let native = format!("qemu-system-{}", std::env::consts::ARCH);
    assert!(tools_seen(&scene).contains(&native), "{:?}", tools_seen(&scene));
    // The disk that this run had is gone: nobody takes the new one for it.
    let gone = "x.qcow2` has disappeared since the last run: creating a new, empty disk";
    assert!(scene.file("x.qcow2").is_file());
    fs::remove_file(scene.file("x.qcow2")).unwrap();
    start("tcg").says(gone);
}

#[test]
fn users_groups_and_shells_are_looked_up_in_the_image_before_the_boot() {
    if peer("qemu-img").is_none() {
        return eprintln!("skipped: no qemu-img");
    }
    let scene = scene("users:\n  alice: {shell: /bin/zsh}\n");
    let printed = up(&scene, &["--print-command"]);
    if printed.code == MACHINE {
        return eprintln!("skipped: no QEMU");
    }
    fake_image(&printed, "\"bin/sh\"");
    up(&scene, &[])
        .code(INPUT)
        .says("user `alice`: the guest has no /bin/zsh")
        .says("add a package that provides it to `packages`");
    assert!(!scene.file("x.qcow2").exists(), "no disk was made for it");
}

#[test]
fn a_flakes_configuration_is_started_with_the_users_own_nix() {
    let scene = Scene::new();
    scene.write("flake.nix", "");
    let tools = scene.file("tools");
    fs::create_dir(&tools).unwrap();
    let civm = |args: &[&str]| run(scene.civm(args).env("PATH", &tools));
    for args in [&["up", ".#vm"][..], &["up", "--flake", ".#vm"], &["ls", "--flake"]] {
        civm(args).code(MACHINE).says("nix is not installed");
    }
    civm(&["up", ".#"]).code(INPUT).says("names no configuration: write FLAKE#NAME");
    civm(&["up", "--flake", "."]).code(INPUT).says("names no configuration");
    civm(&["up", ".#a.b"]).code(INPUT).says("is not a name that civm can give a machine");
    // A Nix that does not speak JSON, and one that fails: its own words are told.
    let nix = tools.join("nix");
    for (script, told) in
        [("echo '{'", "its answer"), ("echo 'error: no such flake' >&2; exit 1", ": no such flake")]
    {
        fs::write(&nix, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&nix, fs::Permissions::from_mode(0o755)).unwrap();
        civm(&["up", ".#vm"]).code(MACHINE).says(told).says("the flake `");
    }
    nothing_was_built(&scene);
}

#[test]
fn listing_removes_what_a_killed_up_left() {
    let scene = scene("");
    let killed = scene.write(".x.qcow2.Ab12.partial.qcow2", "half");
    let disk = scene.write("x.qcow2", "a disk");
    let building = scene.path("home/.cache/civm/images/.building-0123-Ab12");
    fs::create_dir_all(building.join("work")).unwrap();
    let scratch = scene.path("tmp/civm-image-Ab12");
    fs::create_dir_all(&scratch).unwrap();
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(building.join("scratch-path"), text(&scratch)).unwrap();
    run(&mut scene.civm(&["ls"])).ok();
    assert!(!killed.exists() && !building.exists() && !scratch.exists());
    assert!(disk.exists());
}
