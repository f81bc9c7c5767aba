//! A new user without the image's `useradd`, which takes a fifth of a warm start: the same lines in the same files, where
//! all is as Debian has it. Everything else is left to `useradd`.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, fchown};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::{Error, KEYS_ONLY};
use crate::host::layer::User;

/// What /etc/login.defs has to say.
const SETTINGS: [(&str, &str); 12] = [
    ("UMASK", "022"),
    ("PASS_MIN_DAYS", "0"),
    ("PASS_MAX_DAYS", "99999"),
    ("PASS_WARN_AGE", "7"),
    ("UID_MIN", "1000"),
    ("UID_MAX", "60000"),
    ("GID_MIN", "1000"),
    ("GID_MAX", "60000"),
    ("SUB_UID_MIN", "100000"),
    ("SUB_UID_COUNT", "65536"),
    ("SUB_GID_MIN", "100000"),
    ("SUB_GID_COUNT", "65536"),
];
/// A setting that it must not have.
const HOME_MODE: &str = "HOME_MODE";
const IDS: std::ops::RangeInclusive<u32> = 1_000..=60_000;
const SUB_IDS_FROM: u64 = 100_000;
const SUB_IDS: u64 = 65_536;
/// Who would have to be told of a new user.
const CACHES: [&str; 2] = ["run/nscd/socket", "var/lib/sss/pipes/nss"];
const DAY: u64 = 24 * 60 * 60;
/// Files that a new user is written to; `passwd` last: one that was cut off is not there.
const FILES: [&str; 6] = ["subuid", "subgid", "shadow", "gshadow", "group", "passwd"];

/// Makes the user with its home; `false` where that is for `useradd` to do.
pub(super) fn add(user: &User, own_group: bool, root: &Path) -> Result<bool, Error> {
    let Some(_lock) = lock(root) else { return Ok(false) };
    let home = root.join("home").join(&user.name);
    let (Some(skel), true) = (skel(root), is_usual(root)) else { return Ok(false) };
    if home.symlink_metadata().is_ok() || !root.join("home").is_dir() {
        return Ok(false);
    }
    let read = |name: &str| fs::read_to_string(root.join("etc").join(name)).ok();
    let Some(old) = FILES.iter().map(|name| read(name)).collect::<Option<Vec<String>>>() else {
        return Ok(false);
    };
    let Ok(old) = <[String; 6]>::try_from(old) else { return Ok(false) };
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() / DAY);
    let Some((new, ids)) = with(user, own_group, &old, days) else { return Ok(false) };
    make_home(&home, skel, ids)?;
    for (name, (old, new)) in FILES.iter().zip(old.iter().zip(&new)) {
        if old != new {
            replace(&root.join("etc").join(name), new)?;
        }
    }
    Ok(true)
}

/// The files with the user in them, and its ids; `None` where a line is unusual, or something is there already.
fn with(user: &User, own_group: bool, old: &[String; 6], days: u64) -> Option<([String; 6], (u32, u32))> {
    let [subuid, subgid, shadow, gshadow, group, passwd] = old;
    let name = &user.name;
    let is_plain = |text: &String| {
        let mut lines = text.lines();
        (text.is_empty() || text.ends_with('\n'))
            && lines.all(|line| !line.starts_with(['+', '-']) && line.split(':').next() != Some(name))
    };
    // Its group is there already, where it has one of its own.
    let files = if own_group { &[subuid, subgid, shadow, passwd][..] } else { &old.each_ref()[..] };
    if !files.iter().all(|text| is_plain(text)) {
        return None;
    }
    let uid = free_id(passwd, user.uid)?;
    let gid = if own_group {
        let rest = group.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.split(':').nth(1)?.parse().ok()?
    } else {
        free_id(group, Some(uid))?
    };
    let (mut group, mut gshadow) = (group.clone(), gshadow.clone());
    for one in &user.groups {
        group = with_member(&group, one, name)?;
        // A group need not have a line there.
        gshadow = with_member(&gshadow, one, name).unwrap_or(gshadow);
    }
    if !own_group {
        group += &format!("{name}:x:{gid}:\n");
        gshadow += &format!("{name}:!::\n");
    }
    let subs = |text: &String| Some(format!("{text}{name}:{}:{SUB_IDS}\n", free_sub_ids(text)?));
    let shadow = format!("{shadow}{name}:{KEYS_ONLY}:{days}:0:99999:7:::\n");
    let passwd = format!("{passwd}{name}:x:{uid}:{gid}::/home/{name}:{}\n", user.shell);
    Some(([subs(subuid)?, subs(subgid)?, shadow, gshadow, group, passwd], (uid, gid)))
}

/// An id that no line has as its third field: the one that is wanted, or the one after the highest.
fn free_id(text: &str, wanted: Option<u32>) -> Option<u32> {
    let taken = text.lines().map(|line| line.split(':').nth(2)?.parse::<u32>().ok());
    let taken = taken.collect::<Option<Vec<u32>>>()?;
    let highest = taken.iter().copied().filter(|id| IDS.contains(id)).max();
    let id = wanted.unwrap_or_else(|| highest.map_or(*IDS.start(), |id| id + 1));
    (IDS.contains(&id) && !taken.contains(&id)).then_some(id)
}

/// A group's line with one more member in its last field; `None` where there is no such group, or it has the member of
/// an earlier user of that name.
fn with_member(text: &str, group: &str, member: &str) -> Option<String> {
    let mut lines = text.lines().filter(|line| line.split(':').next() == Some(group));
    if lines.any(|line| line.rsplit(':').next().is_some_and(|last| last.split(',').any(|one| one == member)))
    {
        return None;
    }
    let mut found = false;
    let with = text.lines().map(|line| match line.split_once(':') {
        Some((name, _)) if name == group => {
            found = true;
            let comma = if line.ends_with(':') { "" } else { "," };
            format!("{line}{comma}{member}\n")
        }
        _ => format!("{line}\n"),
    });
    let with: String = with.collect();
    found.then_some(with)
}

/// The first ids for a user of its own that nobody has.
fn free_sub_ids(text: &str) -> Option<u64> {
    let range = |line: &str| -> Option<(u64, u64)> {
        let mut fields = line.split(':').skip(1).map(str::parse::<u64>);
        Some((fields.next()?.ok()?, fields.next()?.ok()?))
    };
    let mut taken = text.lines().map(range).collect::<Option<Vec<_>>>()?;
    taken.sort_unstable();
    let mut free = SUB_IDS_FROM;
    for (from, count) in taken {
        if from >= free + SUB_IDS {
            break;
        }
        free = free.max(from + count);
    }
    Some(free)
}

/// Whether all is as Debian has it.
fn is_usual(root: &Path) -> bool {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let definitions = read("etc/login.defs");
    let setting = |name: &str| {
        let mut words = definitions.lines().map(str::split_whitespace);
        words.find_map(|mut words| (words.next() == Some(name)).then(|| words.next().unwrap_or_default()))
    };
    let defaults = read("etc/default/useradd");
    let mut defaults = defaults.lines().map(str::trim).filter(|line| !line.is_empty());
    SETTINGS.iter().all(|(name, value)| setting(name) == Some(value))
        && setting(HOME_MODE).is_none()
        && defaults.all(|line| line.starts_with('#') || line.starts_with("SHELL="))
        && CACHES.iter().all(|path| !root.join(path).exists())
}

/// The files of a new home, with their modes; `None` where there are others than plain files.
fn skel(root: &Path) -> Option<Vec<(std::ffi::OsString, u32, Vec<u8>)>> {
    let entries = fs::read_dir(root.join("etc/skel")).ok()?;
    let files = entries.map(|entry| {
        let entry = entry.ok()?;
        let found = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some((entry.file_name(), found.mode() & 0o7777, fs::read(entry.path()).ok()?))
    });
    files.collect()
}

/// Makes the home under another name first: half of one, of a guest that was killed meanwhile, would stay as it is for
/// ever, for `useradd` fills none that is there.
fn make_home(
    home: &Path,
    files: Vec<(std::ffi::OsString, u32, Vec<u8>)>,
    (uid, gid): (u32, u32),
) -> Result<(), Error> {
    let failed = || Error::io("create", home);
    let dir = home.parent().unwrap_or(Path::new("/"));
    let name = format!(".civm-{}", home.file_name().unwrap_or_default().display());
    // The accounts are locked, so that it can only be of a boot that was cut off.
    let _ = fs::remove_dir_all(dir.join(&name));
    let new = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir_in(dir).map_err(failed())?;
    for (name, mode, content) in files {
        let path = new.path().join(name);
        let mut file = File::create_new(&path).map_err(failed())?;
        file.write_all(&content).map_err(failed())?;
        file.set_permissions(Permissions::from_mode(mode)).map_err(failed())?;
        fchown(&file, Some(uid), Some(gid)).map_err(failed())?;
    }
    fs::set_permissions(new.path(), Permissions::from_mode(0o755)).map_err(failed())?;
    chown(new.path(), Some(uid), Some(gid)).map_err(failed())?;
    fs::rename(new.path(), home).map_err(failed())?;
    let _ = new.keep();
    Ok(())
}

/// Puts another content in a file's place, with its mode and owner. ext4 writes it before it renames it.
fn replace(path: &Path, content: &str) -> Result<(), Error> {
    let failed = || Error::io("write", path);
    let found = fs::metadata(path).map_err(failed())?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".civm-").tempfile_in(dir).map_err(failed())?;
    file.write_all(content.as_bytes()).map_err(failed())?;
    fchown(file.as_file(), Some(found.uid()), Some(found.gid())).map_err(failed())?;
    let mode = Permissions::from_mode(found.mode() & 0o7777);
    file.as_file().set_permissions(mode).map_err(failed())?;
    file.persist(path).map(drop).map_err(|error| failed()(error.error))
}

/// The lock that all programs take which change accounts, until it is dropped; `None` where another has it.
fn lock(root: &Path) -> Option<File> {
    let path = root.join("etc/.pwd.lock");
    // Whoever can read it can keep others from the lock.
    let file =
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).ok()?;
    let whole = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).ok()?,
        l_whence: i16::try_from(libc::SEEK_SET).ok()?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLK(&whole)).ok().map(|_| file)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn user(name: &str, uid: Option<u32>, groups: &[&str]) -> User {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        User { name: name.to_owned(), uid, groups, shell: "/bin/bash".to_owned(), ..User::default() }
    }

    /// A root as Debian has it, with two users and some groups.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("tempdir");
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            fs::write(path, text).expect("write");
        };
        let settings: String = SETTINGS.iter().map(|(name, value)| format!("{name}\t\t{value}\n")).collect();
        put("etc/login.defs", &format!("# A comment\n{settings}ENCRYPT_METHOD SHA512\n"));
        put("etc/default/useradd", "# GROUP=100\nSHELL=/bin/sh\n");
        put("etc/skel/.profile", "# ~/.profile\n");
        put("etc/passwd", "root:x:0:0:root:/root:/bin/bash\nold:x:1003:1003::/home/old:/bin/sh\n");
        put("etc/shadow", "root:*:19000:0:99999:7:::\nold:!:19000:0:99999:7:::\n");
        put("etc/group", "root:x:0:\nold:x:1003:\nnix-users:x:999:old\nextra:x:998:\nown:x:997:\n");
        put("etc/gshadow", "root:*::\nold:!::\nnix-users:!::old\nextra:!::\nown:!::\n");
        put("etc/subuid", "old:100000:65536\nother:300000:65536\n");
        put("etc/subgid", "");
        put("home/old/x", "");
        root
    }

    fn all(root: &Path, home: &str) -> Vec<String> {
        let mut texts: Vec<String> = FILES
            .iter()
            .map(|name| fs::read_to_string(root.join("etc").join(name)).expect("a file"))
            .collect();
        let home = root.join("home").join(home);
        for path in [home.clone(), home.join(".profile")] {
            let found = fs::metadata(path).expect("its home");
            texts.push(format!("{:o} {} {}", found.mode(), found.uid(), found.gid()));
        }
        texts
    }

    #[test]
    fn a_user_is_made_as_useradd_makes_it() {
        if !nix::unistd::geteuid().is_root() || Command::new("useradd").arg("-D").output().is_err() {
            return eprintln!("skipped: only root has `useradd -P`");
        }
        for (user, own_group) in [
            (user("any", None, &[]), false),
            (user("member", None, &["nix-users", "extra"]), false),
            (user("fixed", Some(1200), &["extra"]), false),
            (user("own", None, &["nix-users"]), true),
        ] {
            let (ours, theirs) = (root(), root());
            assert!(add(&user, own_group, ours.path()).expect("made"), "{}", user.name);
            let step = super::super::add(&user, own_group);
            let (prefix, args) = (theirs.path().to_string_lossy().into_owned(), &step.args);
            let ran =
                Command::new("useradd").arg("-P").arg(prefix).args(args).output().expect("useradd runs");
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            assert_eq!(all(ours.path(), &user.name), all(theirs.path(), &user.name), "{}", user.name);
        }
    }

    #[test]
    fn a_home_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().expect("tempdir");
        let home = dir.path().join("one");
        let ids = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let file = || (".profile".into(), 0o644, Vec::new());
        make_home(&home, vec![file(), file()], ids).expect_err("the second cannot be created");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
        fs::create_dir(dir.path().join(".civm-one")).expect("what a killed boot left");
        make_home(&home, vec![file()], ids).expect("made");
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 1);
        assert!(home.join(".profile").is_file());
    }

    #[test]
    fn the_lock_is_not_for_others_to_read() {
        let root = root();
        drop(lock(root.path()).expect("locked"));
        let found = fs::metadata(root.path().join("etc/.pwd.lock")).expect("the lock");
        assert_eq!(found.mode() & 0o7777, 0o600);
    }

    #[test]
    fn what_is_unusual_is_left_to_useradd() {
        let is_left = |change: &dyn Fn(&Path), user: User| {
            let root = root();
            change(root.path());
            let before: Vec<_> =
                FILES.iter().map(|name| fs::read(root.path().join("etc").join(name)).ok()).collect();
            let is_left = !add(&user, false, root.path()).expect("no failure");
            let after: Vec<_> =
                FILES.iter().map(|name| fs::read(root.path().join("etc").join(name)).ok()).collect();
            is_left && before == after
        };
        let append = |path: &'static str, text: &'static str| {
            move |root: &Path| {
                let old = fs::read_to_string(root.join(path)).unwrap_or_default();
                fs::write(root.join(path), old + text).expect("write");
            }
        };
        let one = || user("one", None, &[]);
        assert!(is_left(&append("etc/login.defs", "HOME_MODE 0700\n"), one()));
        assert!(is_left(&append("etc/default/useradd", "SKEL=/etc/other\n"), one()));
        assert!(is_left(&append("etc/passwd", "+::::::\n"), one()));
        assert!(is_left(&append("etc/shadow", "one:*:1:0:99999:7:::\n"), one()));
        assert!(is_left(&append("etc/group", "one:x:5000:\n"), one()));
        let member = user("one", None, &["stale"]);
        assert!(is_left(&append("etc/group", "stale:x:996:old,one\n"), member));
        assert!(is_left(&|root| fs::create_dir(root.join("home/one")).expect("mkdir"), one()));
        assert!(is_left(&|root| fs::create_dir(root.join("etc/skel/bin")).expect("mkdir"), one()));
        assert!(is_left(&|root| fs::remove_file(root.join("etc/subuid")).expect("gone"), one()));
        assert!(is_left(&|_| {}, user("one", Some(1003), &[])), "an id that is taken");
        assert!(is_left(&|_| {}, user("one", None, &["nowhere"])), "a group that is not there");
    }
}
