//! Users and groups by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::edge::account;

/// One below the number that means "leave alone" to chown.
const NOBODYS: u32 = u32::MAX - 1;

/// The numbers of users and groups, from the text of `passwd` and `group` files.
///
/// The files are read as they are. The C library's look-up would load other libraries for the services of
/// `nsswitch.conf`, which a static binary cannot do safely.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Accounts {
    /// Reads the text of a `passwd` and of a `group` file; of a repeated name the first counts.
    #[must_use]
    pub fn parse(passwd: &str, group: &str) -> Self {
        Self {
            users: first(account::users(passwd).map(|user| (user.name, user.uid))),
            groups: first(account::groups(group).map(|group| (group.name, group.gid))),
        }
    }

    /// The accounts below a root directory (`/` on the machine itself). A file that is not there holds no name.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn read(root: &Path) -> Result<Self, super::Error> {
        let text = |name: &str| {
            let path = root.join(name);
            match fs::read(&path) {
                Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
                Err(error) => Err(super::Error::io("read", path)(error)),
            }
        };
        Ok(Self::parse(&text("etc/passwd")?, &text("etc/group")?))
    }

    /// The same with users and groups that will be there: for a dry run, they have a number that nobody has.
    #[must_use]
    pub fn with_missing<'a>(
        mut self,
        users: impl Iterator<Item = &'a str>,
        groups: impl Iterator<Item = &'a str>,
    ) -> Self {
        for (known, names) in
            [(&mut self.users, users.collect::<Vec<_>>()), (&mut self.groups, groups.collect::<Vec<_>>())]
        {
            for name in names {
                known.entry(name.to_owned()).or_insert(NOBODYS);
            }
        }
        self
    }

    /// The number of a user. A name made of digits that no user has is the number itself.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<u32> {
        number(&self.users, name)
    }

    /// The number of a group. A name made of digits that no group has is the number itself.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<u32> {
        number(&self.groups, name)
    }
}

fn number(known: &BTreeMap<String, u32>, name: &str) -> Option<u32> {
    known.get(name).copied().or_else(|| {
        let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        // The highest number means "leave alone" to chown.
        digits.then(|| name.parse().ok()).flatten().filter(|id| *id != u32::MAX)
    })
}

/// Of a repeated name the first counts.
fn first<'a>(entries: impl Iterator<Item = (&'a str, u32)>) -> BTreeMap<String, u32> {
    let mut out = BTreeMap::new();
    for (name, id) in entries {
        out.entry(name.to_owned()).or_insert(id);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::parse(
            "root:x:0:0::/root:/bin/sh\nalice:x:4001:4001::/:/bin/sh\n224:x:7:7::/:/bin/sh\n+::::::\n",
            "keys:x:96:\n",
        )
    }

    #[test]
    fn a_name_has_its_number() {
        assert_eq!(accounts().user("alice"), Some(4001));
        assert_eq!(accounts().group("keys"), Some(96));
        assert_eq!(accounts().user("keys"), None);
        assert_eq!(accounts().user(""), None);
    }

    #[test]
    fn digits_are_a_number_unless_they_are_a_name() {
        assert_eq!(accounts().user("4002"), Some(4002));
        assert_eq!(accounts().user("224"), Some(7));
        assert_eq!(accounts().user("-1"), None);
        assert_eq!(accounts().user("+1"), None);
        assert_eq!(accounts().user("4294967295"), None);
    }
}
