//! What a file has besides its content stays at every write: owner, group, mode, ACL, extended attributes, and its
//! further names.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{Scene, run};

/// A throw-away identity; it protects nothing.
const ALICE: &str = "AGE-SECRET-KEY-1E9VMDZS6RHZH4LXZLWLM47QKCY7E59LTC3AKKARMHCA6U5UUL4HSHQLNLK";
const ALICE_AGE: &str = "age1e63wmgw3vaj3veyfsae6ca73qpx8j8xj38r6yk7nk9nvhcr92vvsexht4t";
const BOB_AGE: &str = "age12h7333pd5phz20zqy2xqurkpuanr288ud8lyjxvgh2j6jdu3w4asgvy23q";
const PLAIN: &str = "a: one\nb: two\n";
const ACL: &str = "system.posix_acl_access";
/// A user and a group that this machine does not know.
const STRANGER: u32 = 54_321;

/// Every verb that writes a file in place, under the name that has it.
const VERBS: [(&str, &[&str]); 17] = [
    ("civm", &["set", "s.yaml", "a", "z"]),
    ("civm", &["unset", "s.yaml", "a"]),
    ("civm", &["edit", "s.yaml"]),
    ("civm", &["replace", "s.yaml", "--from", "new.yaml"]),
    ("civm", &["rotate", "s.yaml"]),
    ("civm", &["groups", "add", "s.yaml", ALICE_AGE, "--threshold", "2"]),
    ("civm", &["updatekeys", "--yes", "s.yaml"]),
    ("civm", &["update-all"]),
    ("civm", &["decrypt", "-i", "s.yaml"]),
    ("civm", &["encrypt", "-i", "plain.yaml"]),
    ("sops", &["set", "s.yaml", "[\"a\"]", "\"z\""]),
    ("sops", &["unset", "s.yaml", "[\"a\"]"]),
    ("sops", &["edit", "s.yaml"]),
    ("sops", &["rotate", "-i", "s.yaml"]),
    ("sops", &["updatekeys", "-y", "s.yaml"]),
    ("sops", &["decrypt", "-i", "s.yaml"]),
    ("sops", &["encrypt", "-i", "plain.yaml"]),
];

/// A project whose `s.yaml` is behind the rules, and whose `plain.yaml` is plain.
fn scene() -> Scene {
    let scene = Scene::new();
    symlink(assert_cmd::cargo::cargo_bin!("civm"), scene.path("sops")).expect("a link");
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE}\n"));
    scene.write("s.yaml", PLAIN);
    run(&mut command(&scene, "civm", &["encrypt", "-i", "s.yaml"])).ok();
    scene.write(".sops.yaml", format!("creation_rules:\n  - age: {ALICE_AGE},{BOB_AGE}\n"));
    scene.write("plain.yaml", PLAIN);
    scene.write("new.yaml", "a: other\n");
    scene
}

fn command(scene: &Scene, name: &str, args: &[&str]) -> Command {
    let mut command = match name {
        "sops" => scene.command(scene.path("sops")),
        _ => scene.civm(&["secrets"]),
    };
    command.args(args).env("SOPS_AGE_KEY", ALICE).env("EDITOR", "sed -i s/one/other/");
    command
}

/// The file that a verb writes.
fn written(args: &[&str]) -> &'static str {
    if args.contains(&"plain.yaml") { "plain.yaml" } else { "s.yaml" }
}

/// `user::rw-,user:STRANGER:rw-,group::---,mask::rw-,other::---` in the kernel's form.
fn acl() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 6, STRANGER), (4, 0, u32::MAX), (16, 6, u32::MAX), (32, 0, u32::MAX)];
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    bytes
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A directory that everybody can reach and the stranger's group can write in.
fn open_to_stranger(scene: &Scene) {
    for place in [".", "home", "project"] {
        fs::set_permissions(scene.path(place), Permissions::from_mode(0o775)).expect("set");
    }
    chown(scene.path("project"), None, Some(STRANGER)).expect("given");
}

fn as_stranger(command: &mut Command) -> &mut Command {
    command.uid(STRANGER).gid(STRANGER)
}

/// The temporary directories of tests may be where another user cannot run the program.
fn can_be_run_by_others() -> bool {
    let program = assert_cmd::cargo::cargo_bin!("civm");
    let reachable = |directory: &Path| fs::metadata(directory).is_ok_and(|meta| meta.mode() & 0o001 != 0);
    program.ancestors().skip(1).all(reachable)
}

#[test]
fn acl_and_attributes_stay() {
    for (name, args) in VERBS {
        let scene = scene();
        let file = scene.file(written(args));
        if let Err(error) =
            xattr::set(&file, "user.note", b"kept").and_then(|()| xattr::set(&file, ACL, &acl()))
        {
            eprintln!("skipped: no ACLs in {}: {error}", file.display());
            return;
        }
        let before = (fs::metadata(&file).expect("there").mode(), fs::read(&file).expect("there"));
        assert_eq!(before.0 & 0o777, 0o660, "the mask");
        run(&mut command(&scene, name, args)).ok();
        assert_ne!(fs::read(&file).expect("there"), before.1, "{name} {args:?}: it was written");
        assert_eq!(fs::metadata(&file).expect("there").mode(), before.0, "{name} {args:?}");
        let attribute = |attribute| xattr::get(&file, attribute).expect("read").unwrap_or_default();
        assert_eq!(attribute("user.note"), b"kept", "{name} {args:?}");
        assert_eq!(attribute(ACL), acl(), "{name} {args:?}");
    }
}

/// A directory's default ACL is for files that are made in it, not for those that are written again.
#[test]
fn a_default_acl_gives_no_rights_to_a_file_that_was_there() {
    let scene = scene();
    let file = scene.file("s.yaml");
    if let Err(error) = xattr::set(scene.path("project"), "system.posix_acl_default", &acl()) {
        eprintln!("skipped: no ACLs in {}: {error}", file.display());
        return;
    }
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
    run(&mut command(&scene, "civm", &["set", "s.yaml", "a", "z"])).ok();
    assert_eq!(xattr::get(&file, ACL).expect("read"), None);
    assert_eq!(fs::metadata(&file).expect("there").mode() & 0o777, 0o600);
    run(&mut command(&scene, "civm", &["edit", "fresh.yaml"])).ok();
    assert!(xattr::get(scene.file("fresh.yaml"), ACL).expect("read").is_some(), "a new file has it");
}

#[test]
fn further_names_of_a_file_stay() {
    for (name, args) in VERBS {
        let scene = scene();
        let file = scene.file(written(args));
        fs::hard_link(&file, scene.path("second")).expect("linked");
        let before = fs::read(&file).expect("there");
        run(&mut command(&scene, name, args)).ok();
        let after = fs::read(&file).expect("there");
        assert_ne!(after, before, "{name} {args:?}");
        assert_eq!(fs::read(scene.path("second")).expect("there"), after, "{name} {args:?}");
    }
}

#[test]
fn a_file_of_somebody_else_stays_theirs() {
    if !is_root() || !can_be_run_by_others() {
        eprintln!("skipped: only root can give files away and become somebody else");
        return;
    }
    for (name, args) in VERBS {
        let scene = scene();
        let file = scene.file(written(args));
        open_to_stranger(&scene);
        chown(&file, Some(0), Some(STRANGER)).expect("given");
        fs::set_permissions(&file, Permissions::from_mode(0o664)).expect("set");
        let before = fs::read(&file).expect("there");
        run(as_stranger(&mut command(&scene, name, args))).ok();
        let metadata = fs::metadata(&file).expect("there");
        assert_ne!(fs::read(&file).expect("there"), before, "{name} {args:?}");
        assert_eq!(
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o777),
            (0, STRANGER, 0o664),
            "{name} {args:?}"
        );
        let names = fs::read_dir(scene.path("project")).expect("listed").count();
        assert_eq!(names, 4, "{name} {args:?}: nothing is left beside it");
    }
}

#[test]
fn what_its_user_may_not_write_is_not_written() {
    if !is_root() || !can_be_run_by_others() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    for (name, args) in VERBS {
        let scene = scene();
        let file = scene.file(written(args));
        open_to_stranger(&scene);
        chown(&file, Some(STRANGER), Some(STRANGER)).expect("given");
        fs::set_permissions(&file, Permissions::from_mode(0o444)).expect("set");
        let before = fs::read(&file).expect("there");
        let ran = run(as_stranger(&mut command(&scene, name, args)));
        // As in sops, whose updatekeys has the code of a failure of any kind.
        let several = args[0].starts_with("update") || (name, args[0]) == ("civm", "rotate");
        assert!(ran.code == 3 || several && ran.code == 1, "{name} {args:?}: {} {}", ran.code, ran.stderr);
        assert!(ran.stderr.to_lowercase().contains("permission denied"), "{name} {args:?}: {}", ran.stderr);
        assert_eq!(fs::read(&file).expect("there"), before, "{name} {args:?}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    if !is_root() || !can_be_run_by_others() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let scene = scene();
    open_to_stranger(&scene);
    fs::set_permissions(scene.path("project"), Permissions::from_mode(0o755)).expect("set");
    chown(scene.file("s.yaml"), Some(STRANGER), Some(STRANGER)).expect("given");
    let before = scene.read("s.yaml");
    let ran = run(as_stranger(&mut command(&scene, "civm", &["set", "s.yaml", "a", "z"])));
    ran.code(3).says("cannot create a file in its directory");
    assert_eq!(scene.read("s.yaml"), before);
}
