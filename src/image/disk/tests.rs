use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use super::*;

fn environment() -> Environment {
    Environment::of_process()
}

fn image(dir: &Path) -> Image {
    let disk = dir.join("base.qcow2");
    let made = Command::new("qemu-img").args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("8M").status();
    assert!(made.expect("qemu-img").success());
    Image {
        id: "0".repeat(32),
        arch: crate::host::spec::Arch::X86_64,
        kernel: PathBuf::new(),
        initrd: PathBuf::new(),
        disk,
        append: Vec::new(),
        contents: super::super::Contents::default(),
    }
}

#[test]
fn a_disk_survives_the_loss_of_its_image_and_has_the_wanted_size() {
    let dir = tempfile::tempdir().expect("tempdir");
    let image = image(dir.path());
    let disk = dir.path().join("a:b c.qcow2");
    create(&image, &disk, 64 << 20, &environment()).expect("create");
    fs::remove_file(&image.disk).expect("remove");
    assert_eq!(inspect(&disk).expect("size").expect("there").virtual_size, 64 << 20);
    let checked = Command::new("qemu-img").args(["check", "-q"]).arg(&disk).status();
    assert!(checked.expect("qemu-img").success());
    assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 1);
}

#[test]
fn an_existing_disk_is_never_replaced() {
    let dir = tempfile::tempdir().expect("tempdir");
    let image = image(dir.path());
    let disk = dir.path().join("x.qcow2");
    fs::write(&disk, "mine").expect("write");
    assert!(create(&image, &disk, 64 << 20, &environment()).is_err());
    assert_eq!(fs::read(&disk).expect("read"), b"mine");
}

#[test]
fn a_size_below_the_base_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().expect("tempdir");
    let image = image(dir.path());
    assert!(create(&image, &dir.path().join("x.qcow2"), 1 << 20, &environment()).is_err());
    assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 1);
}

#[test]
fn an_overlay_names_its_base() {
    let dir = tempfile::tempdir().expect("tempdir");
    let image = image(dir.path());
    let disk = dir.path().join("o.qcow2");
    overlay(&image, &disk, 32 << 20, &environment()).expect("overlay");
    // It is civm's own: as a disk of a project it would be refused.
    let error = inspect(&disk).expect_err("refused").to_string();
    assert!(error.contains("has a backing file"), "{error}");
    let info = |disk: &Path| {
        let info = Command::new("qemu-img").arg("info").arg(disk).output().expect("qemu-img");
        String::from_utf8_lossy(&info.stdout).into_owned()
    };
    assert!(info(&disk).contains("backing file"));
    // The next of that size is a copy, and needs no program; of another size it is not.
    let (copy, larger) = (dir.path().join("c.qcow2"), dir.path().join("l.qcow2"));
    fs::write(&disk, "in use by now").expect("written");
    overlay(&image, &copy, 32 << 20, &Environment::empty()).expect("a copy");
    assert_eq!(fs::metadata(&copy).expect("there").permissions().mode() & 0o777, 0o600);
    overlay(&image, &larger, 64 << 20, &environment()).expect("another overlay");
    for (disk, size) in [(copy, 32), (larger, 64)] {
        let info = info(&disk);
        assert!(info.contains(&format!("virtual size: {size} MiB")), "{info}");
        assert!(info.contains(&format!("backing file: {}", image.disk.display())), "{info}");
    }
}

fn refused(path: &Path) -> String {
    let error = inspect(path).expect_err("refused").to_string();
    error.strip_prefix(&format!("{}: ", path.display())).expect("the disk is named").to_owned()
}

fn qemu_img(arguments: &[&str]) {
    let done = Command::new("qemu-img").args(arguments).output().expect("qemu-img");
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn what_is_no_disk_is_refused_at_once() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = |name: &str| dir.path().join(name);
    assert_eq!(inspect(&path("none")).expect("nothing"), None);
    fs::write(path("empty"), "").expect("written");
    assert!(refused(&path("empty")).starts_with("is empty: remove it"));
    fs::write(path("short"), "QFI").expect("written");
    fs::write(path("text"), "a".repeat(4096)).expect("written");
    for name in ["short", "text"] {
        assert!(refused(&path(name)).starts_with("is not a qcow2 disk; `qemu-img convert"), "{name}");
    }
    nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).expect("made");
    fs::create_dir(path("dir")).expect("made");
    symlink("/dev/zero", path("zero")).expect("linked");
    symlink("pipe", path("to-pipe")).expect("linked");
    let kinds = [
        ("pipe", "pipe"),
        ("to-pipe", "pipe"),
        ("socket", "socket"),
        ("dir", "directory"),
        ("zero", "device"),
    ];
    for (name, kind) in kinds {
        assert_eq!(refused(&path(name)), format!("is a {kind}, not a disk"));
    }
    symlink("/mnt/gone/a.qcow2", path("dangling")).expect("linked");
    assert!(
        refused(&path("dangling")).starts_with("is a link to /mnt/gone/a.qcow2, which does not exist: mount")
    );
    symlink("loop", path("loop")).expect("linked");
    assert!(inspect(&path("loop")).is_err());
}

#[test]
fn a_disk_that_refers_to_another_file_is_refused_before_that_is_opened() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    fs::write(path("secret"), vec![7; 1 << 20]).expect("written");
    for compat in ["compat=0.10", "compat=1.1"] {
        let disk = path(&format!("backed-{compat}"));
        qemu_img(&["create", "-q", "-f", "qcow2", "-o", compat, "-F", "raw", "-b", &path("secret"), &disk]);
        assert!(refused(Path::new(&disk)).starts_with("has a backing file"), "{compat}");
    }
    let options = format!("data_file={},data_file_raw=on", path("data"));
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", &options, &path("outside"), "8M"]);
    assert!(refused(Path::new(&path("outside"))).starts_with("has its data in another file"));
    qemu_img(&["create", "-q", "-f", "vmdk", &path("vmdk"), "8M"]);
    assert!(refused(Path::new(&path("vmdk"))).starts_with("is not a qcow2 disk"));
    // A pipe as the backing file: whoever opened it would wait for ever.
    nix::unistd::mkfifo(Path::new(&path("pipe")), nix::sys::stat::Mode::S_IRWXU).expect("made");
    qemu_img(&["create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", &path("pipe"), &path("waits"), "8M"]);
    assert!(refused(Path::new(&path("waits"))).starts_with("has a backing file"));
}

#[test]
fn a_link_of_ones_own_to_a_disk_of_ones_own_is_followed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = |name: &str| dir.path().join(name);
    qemu_img(&["create", "-q", "-f", "qcow2", &path("real").to_string_lossy(), "8M"]);
    symlink("real", path("link")).expect("linked");
    let found = inspect(&path("link")).expect("a disk").expect("there");
    assert_eq!(
        found,
        Disk { virtual_size: 8 << 20, link_to: Some(path("real").canonicalize().expect("there")) }
    );
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can give a disk to somebody else");
        return;
    }
    std::os::unix::fs::chown(path("real"), Some(12345), None).expect("given away");
    assert!(refused(&path("link")).contains("must both be yours"));
    std::os::unix::fs::chown(path("real"), Some(0), None).expect("taken back");
    std::os::unix::fs::lchown(path("link"), Some(12345), None).expect("given away");
    assert!(refused(&path("link")).contains("must both be yours"));
}

#[test]
fn a_new_disk_is_its_owners_alone_and_remains_of_killed_ones_go() {
    let dir = tempfile::tempdir().expect("tempdir");
    let image = image(dir.path());
    let disks = dir.path().join("disks");
    fs::create_dir(&disks).expect("made");
    fs::write(disks.join(".x.qcow2.abc.partial.qcow2"), "x").expect("written");
    create(&image, &disks.join("x.qcow2"), 64 << 20, &environment()).expect("create");
    let names: Vec<_> = fs::read_dir(&disks).expect("dir").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["x.qcow2"]);
    assert_eq!(fs::metadata(disks.join("x.qcow2")).expect("there").permissions().mode() & 0o777, 0o600);
}
