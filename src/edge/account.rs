//! The accounts of this machine: the one that a program is to run under, and the names of numbers.
//!
//! The C library's look-up would load other libraries for the services of `nsswitch.conf`, which a static binary
//! cannot do safely. So the machine's files are read, and for whoever is not in them its programs are asked.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use thiserror::Error;

use super::environment::Environment;
use super::process::{capture, command};

/// Why an account could not be used.
#[derive(Debug, Error)]
pub enum AccountError {
    /// Nobody has this name.
    #[error("there is no user `{0}`")]
    Unknown(String),
    /// The system refuses, as it does to everybody but root.
    #[error("cannot become user `{name}`: {}", source.desc())]
    Refused {
        /// The user's name.
        name: String,
        /// Why.
        source: Errno,
    },
}

/// A user of this machine.
#[derive(Clone, Debug)]
pub struct Account {
    name: String,
    home: PathBuf,
    user: Uid,
    group: Gid,
    groups: Vec<Gid>,
}

impl Account {
    /// The account of a name.
    ///
    /// # Errors
    ///
    /// Nobody has that name.
    pub fn find(name: &str, environment: &Environment) -> Result<Self, AccountError> {
        let found = parse(&text_of("passwd"), name).or_else(|| {
            let line = ask("getent", &["passwd", "--", name], environment)?;
            parse(&line, name)
        });
        let mut account = found.ok_or_else(|| AccountError::Unknown(name.to_owned()))?;
        account.groups = match ask("id", &["-G", "--", name], environment) {
            Some(numbers) => numbers.split_whitespace().filter_map(number).collect(),
            None => members(&text_of("group"), name),
        };
        if !account.groups.contains(&account.group) {
            account.groups.push(account.group);
        }
        Ok(account)
    }

    /// The variables that tell a program whose it is.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, OsString); 3] {
        [
            ("HOME", self.home.clone().into_os_string()),
            ("USER", self.name.clone().into()),
            ("LOGNAME", self.name.clone().into()),
        ]
    }

    /// Makes a file the account's.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn give(&self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.user.as_raw()), Some(self.group.as_raw()))
    }

    /// Makes this process, and every program that it starts, the account's. There is no way back.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn enter(&self) -> Result<(), AccountError> {
        // The user last: without root's rights the groups could not be set any more.
        setgroups(&self.groups)
            .and_then(|()| setresgid(self.group, self.group, self.group))
            .and_then(|()| setresuid(self.user, self.user, self.user))
            .map_err(|source| AccountError::Refused { name: self.name.clone(), source })
    }
}

/// The name of a user, where it has one.
#[must_use]
pub fn user_name(user: Uid, environment: &Environment) -> Option<String> {
    name_of("passwd", user.as_raw(), environment)
}

/// The name of a group, where it has one.
#[must_use]
pub fn group_name(group: Gid, environment: &Environment) -> Option<String> {
    name_of("group", group.as_raw(), environment)
}

/// The home directory of the account that runs this process.
#[must_use]
pub fn own_home(environment: &Environment) -> Option<PathBuf> {
    let user = Uid::effective().as_raw();
    let found =
        |text: &str| users(text).find(|entry| entry.uid == user).map(|entry| PathBuf::from(entry.home));
    found(&text_of("passwd"))
        .or_else(|| found(&ask("getent", &["passwd", "--", &user.to_string()], environment)?))
}

/// The name that a number has in `passwd` or `group`.
fn name_of(database: &str, number: u32, environment: &Environment) -> Option<String> {
    let found = |text: &str| match database {
        "passwd" => users(text).find(|entry| entry.uid == number).map(|entry| entry.name.to_owned()),
        _ => groups(text).find(|entry| entry.gid == number).map(|entry| entry.name.to_owned()),
    };
    found(&text_of(database))
        .or_else(|| found(&ask("getent", &[database, "--", &number.to_string()], environment)?))
}

/// The text of a file of accounts; one that cannot be read tells of nobody.
fn text_of(database: &str) -> String {
    let text = fs::read(Path::new("/etc").join(database)).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// What a program of the machine answers; `None` where it is missing or knows nothing.
fn ask(program: &str, arguments: &[&str], environment: &Environment) -> Option<String> {
    let program = environment.find_program(program)?;
    let answer = capture(command(program, &environment.for_tools()).args(arguments), None).ok()?;
    String::from_utf8(answer.to_vec()).ok()
}

/// A line of passwd(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User<'a> {
    /// Login name.
    pub name: &'a str,
    /// Its number.
    pub uid: u32,
    /// The number of its own group; none where the line does not say so.
    pub gid: Option<u32>,
    /// Its home directory.
    pub home: &'a str,
    /// Its login shell.
    pub shell: &'a str,
}

/// A line of group(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// The group's name.
    pub name: &'a str,
    /// Its number.
    pub gid: u32,
    /// Names of its members.
    pub members: Vec<&'a str>,
}

/// The users of a text of passwd(5): name, password, user, group, comment, home, shell. Comments, and lines of the
/// name service (`+`), are passed over.
pub fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    entries(passwd).map(|(name, uid, mut rest)| {
        let gid = rest.next().and_then(|gid| gid.parse().ok());
        let (home, shell) = (rest.nth(1).unwrap_or_default(), rest.next().unwrap_or_default());
        User { name, uid, gid, home, shell }
    })
}

/// The groups of a text of group(5): name, password, number, members.
pub fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    entries(group).map(|(name, gid, mut rest)| {
        let members = rest.next().unwrap_or_default().split(',').filter(|member| !member.is_empty());
        Group { name, gid, members: members.collect() }
    })
}

/// Both files hold the name first and the number third.
fn entries(text: &str) -> impl Iterator<Item = (&str, u32, std::str::Split<'_, char>)> {
    text.lines().filter(|line| !line.starts_with(['#', '+', '-'])).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some((name, fields.nth(1)?.parse().ok()?, fields))
    })
}

fn parse(passwd: &str, name: &str) -> Option<Account> {
    let entry = users(passwd).find(|entry| entry.name == name)?;
    Some(Account {
        name: name.to_owned(),
        home: PathBuf::from(entry.home),
        user: Uid::from_raw(entry.uid),
        group: Gid::from_raw(entry.gid?),
        groups: Vec::new(),
    })
}

/// The groups of a `group` file that name a member.
fn members(group: &str, name: &str) -> Vec<Gid> {
    groups(group)
        .filter(|group| group.members.contains(&name))
        .map(|group| Gid::from_raw(group.gid))
        .collect()
}

fn number(text: &str) -> Option<Gid> {
    text.parse().ok().map(Gid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_with_its_home_and_groups() {
        let root = Account::find("root", &Environment::of_process()).expect("every machine has one");
        assert!(root.user.is_root() && root.groups.contains(&Gid::from_raw(0)));
        let [home, user, logname] = root.variables();
        assert_eq!((home.0, user), ("HOME", ("USER", "root".into())));
        assert_eq!(logname, ("LOGNAME", "root".into()));
    }

    #[test]
    fn the_files_say_who_belongs_where() {
        let passwd = "# users\na:x:1:2::/home/a:/bin/sh\nb:x:bad:2::/:\nab:x:3:4:A, B:/home/ab:\n";
        let account = parse(passwd, "ab").expect("there");
        assert_eq!((account.user.as_raw(), account.group.as_raw()), (3, 4));
        assert_eq!(account.home, PathBuf::from("/home/ab"));
        assert!(
            parse(passwd, "b").is_none() && parse(passwd, "").is_none() && parse(passwd, "# users").is_none()
        );
        let group = "x:x:7:a,ab\ny:x:8:\nz:x:9:ab\nbad\n";
        assert_eq!(members(group, "ab"), [7, 9].map(Gid::from_raw));
    }

    #[test]
    fn lines_that_are_no_accounts_are_passed_over() {
        let passwd =
            "+::::::\n-x:x:7:7::/:/bin/sh\n:x:7:7::/:\nshort:x:8\n#c:x:9:9::/:\nlast:x:5:6::/h:/bin/zsh";
        let found: Vec<User> = users(passwd).collect();
        assert_eq!(
            found.iter().map(|user| (user.name, user.uid, user.gid)).collect::<Vec<_>>(),
            [("short", 8, None), ("last", 5, Some(6))]
        );
        assert_eq!((found[1].home, found[1].shell), ("/h", "/bin/zsh"));
    }

    #[test]
    fn the_account_of_this_process_has_a_home() {
        let mut environment = Environment::of_process().without("HOME");
        let home = own_home(&environment).expect("an account");
        environment = environment.with_account_home(Some(home.clone()));
        assert_eq!(environment.home(), Some(home.as_path()));
    }

    #[test]
    fn a_number_has_its_name_from_the_file_or_from_a_program() {
        let bin = tempfile::tempdir().expect("a folder");
        // Written by another process: a program that a test beside this one starts would hold the file open.
        let write = ["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""];
        let script =
            "#!/bin/sh\n[ \"$2 $3\" = '-- 4007' ] && echo \"far-$1:*:4007:4008::/home/far:/bin/sh\"\n";
        let path = bin.path().join("getent");
        let written = std::process::Command::new("sh").args(write).arg(path).arg(script).status();
        assert!(written.expect("sh").success());
        let environment = Environment::empty().with("PATH", bin.path());
        let user = |number| user_name(Uid::from_raw(number), &environment);
        let group = |number| group_name(Gid::from_raw(number), &environment);
        assert_eq!((user(0), group(0)), (Some("root".into()), Some("root".into())));
        assert_eq!((user(4007), group(4007)), (Some("far-passwd".into()), Some("far-group".into())));
        assert_eq!((user(4008), group(4008)), (None, None));
    }

    #[test]
    fn nobody_of_that_name_is_an_error() {
        for name in ["no-such-user-here", "", "a\0b", "0", "-h"] {
            assert!(Account::find(name, &Environment::of_process()).is_err(), "{name:?}");
        }
    }
}
