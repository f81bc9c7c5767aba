//! The accounts of this machine: the one that a program is to run under, and the name of a number.
//!
//! The C library's look-up would load other libraries for the services of `nsswitch.conf`, which a static binary
//! cannot do safely. So the machine's files are read, and for whoever is not in them its programs are asked.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use thiserror::Error;

use super::environment::Environment;
use super::process::{capture, command};

/// An account that cannot be had.
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
    /// There is none.
    pub fn find(name: &str, environment: &Environment) -> Result<Self, AccountError> {
        let found = look_up(name, environment, |account| account.name == name);
        let mut account = found.ok_or_else(|| AccountError::Unknown(name.to_owned()))?;
        account.groups = match ask("id", &["-G", "--", name], environment) {
            Some(numbers) => numbers.split_whitespace().filter_map(number).collect(),
            None => members(&text_of("/etc/group"), name),
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
pub fn name_of(user: Uid, environment: &Environment) -> Option<String> {
    look_up(&user.to_string(), environment, |account| account.user == user).map(|account| account.name)
}

/// A user by what `getent` would be asked, without the groups that name it as a member.
fn look_up(key: &str, environment: &Environment, wanted: impl Fn(&Account) -> bool) -> Option<Account> {
    parse(&text_of("/etc/passwd"), &wanted).or_else(|| {
        let line = ask("getent", &["passwd", "--", key], environment)?;
        parse(&line, &wanted)
    })
}

/// The text of a file of the machine; one that cannot be read tells of nobody.
fn text_of(path: &str) -> String {
    fs::read(path).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
}

/// What a program of the machine answers; `None` where it is missing or knows nothing.
fn ask(program: &str, arguments: &[&str], environment: &Environment) -> Option<String> {
    let program = environment.find_program(program)?;
    let answer = capture(command(program, environment).args(arguments), None).ok()?;
    String::from_utf8(answer.to_vec()).ok()
}

/// The first user of a `passwd` file that is wanted; a line holds name, password, user, group, comment, home, shell.
fn parse(passwd: &str, wanted: impl Fn(&Account) -> bool) -> Option<Account> {
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, user, group, _, home, ..] = fields.as_slice() else { return None };
        (!name.is_empty()).then_some(())?;
        Some(Account {
            name: (*name).to_owned(),
            home: PathBuf::from(home),
            user: Uid::from_raw(user.parse().ok()?),
            group: number(group)?,
            groups: Vec::new(),
        })
    };
    passwd.lines().filter_map(of_line).find(wanted)
}

/// The groups of a `group` file that name a member: name, password, number, members.
fn members(group: &str, name: &str) -> Vec<Gid> {
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, id, members] = fields.as_slice() else { return None };
        members.split(',').any(|member| member == name).then(|| number(id)).flatten()
    };
    group.lines().filter_map(of_line).collect()
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
        let named = |name| parse(passwd, |account| account.name == name);
        let account = named("ab").expect("there");
        assert_eq!((account.user.as_raw(), account.group.as_raw()), (3, 4));
        assert_eq!(account.home, PathBuf::from("/home/ab"));
        assert!(named("b").is_none() && named("").is_none() && named("# users").is_none());
        let numbered = |number| parse(passwd, |account| account.user == Uid::from_raw(number));
        assert_eq!(numbered(3).expect("there").name, "ab");
        assert!(numbered(2).is_none(), "the number of a group");
        let group = "x:x:7:a,ab\ny:x:8:\nz:x:9:ab\nbad\n";
        assert_eq!(members(group, "ab"), [7, 9].map(Gid::from_raw));
    }

    #[test]
    fn a_number_has_its_name_from_the_file_or_from_a_program() {
        let bin = tempfile::tempdir().expect("a folder");
        let getent = bin.path().join("getent");
        let script =
            "#!/bin/sh\n[ \"$*\" = 'passwd -- 4007' ] && echo 'far:*:4007:4007::/home/far:/bin/sh'\n";
        // Written by another process: a program that a test beside this one starts would hold the file open.
        let write = ["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""];
        let written = std::process::Command::new("sh").args(write).arg(&getent).arg(script).status();
        assert!(written.expect("sh").success());
        let environment = Environment::empty().with("PATH", bin.path());
        assert_eq!(name_of(Uid::from_raw(0), &environment).as_deref(), Some("root"));
        assert_eq!(name_of(Uid::from_raw(4007), &environment).as_deref(), Some("far"));
        assert_eq!(name_of(Uid::from_raw(4008), &environment), None);
    }

    #[test]
    fn nobody_of_that_name_is_an_error() {
        for name in ["no-such-user-here", "", "a\0b", "0", "-h"] {
            assert!(Account::find(name, &Environment::of_process()).is_err(), "{name:?}");
        }
    }
}
