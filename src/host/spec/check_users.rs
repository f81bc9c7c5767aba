//! Users of a guest and the keys that log in as them.

use std::collections::BTreeMap;

use ssh_key::PublicKey;

use super::check::{Checked, entries, is_word};
use super::load::Sources;
use super::raw::{self, Mapping};
use crate::host::layer;

/// Login shell of a user that names none.
const SHELL: &str = "/bin/sh";
/// Ids of ordinary users (Debian policy 9.2.2).
const UIDS: std::ops::RangeInclusive<u32> = 1000..=59999;
/// The longest name that `useradd` takes.
const NAME_MAX: usize = 32;

/// The users, and the keys that log in as root.
pub(super) fn users(
    users: Option<Mapping<raw::User>>,
    sources: &Sources,
) -> Checked<(Vec<layer::User>, Vec<String>)> {
    let mut root = Vec::new();
    let mut out: Vec<layer::User> = Vec::new();
    let mut uids = BTreeMap::new();
    for (name, user) in entries(users) {
        let fail = |field: &str, message: String| sources.error(&["users", &name, field], message);
        let keys = user.authorized_keys.unwrap_or_default();
        for (at, key) in keys.iter().enumerate() {
            is_key_line(key).map_err(|message| {
                sources.error(&["users", &name, "authorized_keys", &at.to_string()], message)
            })?;
        }
        if name == "root" {
            if user.uid.is_some() || user.groups.is_some() || user.shell.is_some() || user.sudo.is_some() {
                return Err(fail("", "root exists already: only `authorized_keys` can be set".into()));
            }
            root = keys;
            continue;
        }
        if !is_account(&name) {
            return Err(fail(
                "",
                format!("`{name}` is not a user name: lower-case letters, digits, `_` and `-`"),
            ));
        }
        let groups = user.groups.unwrap_or_default();
        if let Some(group) = groups.iter().find(|group| !is_account(group)) {
            return Err(fail("groups", format!("`{group}` is not a group name")));
        }
        if let Some(uid) = user.uid {
            if !UIDS.contains(&uid) {
                return Err(fail(
                    "uid",
                    format!("uid is {uid}: a user's is between {} and {}", UIDS.start(), UIDS.end()),
                ));
            }
            if let Some(other) = uids.insert(uid, name.clone()) {
                return Err(fail("uid", format!("`{other}` has the uid {uid} too")));
            }
        }
        let shell = user.shell.unwrap_or_else(|| SHELL.into());
        if !shell.starts_with('/') || !is_word(&shell, "/_.+-") {
            return Err(fail("shell", format!("`{shell}` is not an absolute path")));
        }
        let (uid, sudo) = (user.uid, user.sudo.unwrap_or(false));
        out.push(layer::User { name, uid, groups, shell, authorized_keys: keys, sudo });
    }
    Ok((out, root))
}

fn is_account(name: &str) -> bool {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let fits =
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte));
    first && fits && name.len() <= NAME_MAX
}

/// Never repeats the line: what stands there by mistake may be a private key.
fn is_key_line(line: &str) -> Result<(), String> {
    let fields = fields(line);
    // Options may stand in front, the comment behind may have blanks.
    let key_at = |at: usize| match (fields.get(at), fields.get(at + 1)) {
        (Some(kind), Some(key)) => PublicKey::from_openssh(&format!("{kind} {key}")).is_ok(),
        _ => false,
    };
    let one_key = !line.contains(['\n', '\r']) && !line.trim_start().starts_with('#');
    if one_key && (key_at(0) || key_at(1)) {
        return Ok(());
    }
    Err("this is not a line of authorized_keys, such as `ssh-ed25519 AAAA… name`".into())
}

/// The fields of a line; blanks between double quotes separate nothing.
fn fields(line: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let separates = |c: char| {
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        !quoted && (c == ' ' || c == '\t')
    };
    line.split(separates).filter(|field| !field.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::is_key_line;

    #[test]
    fn keys_of_all_kinds_log_in() {
        for line in [
            "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBOokKvcfcTJGffQ4uruktpLfNZZLGts6RPoBdpN1xGCtc2ftn5LIPe2+DtRZ2pu4YeYgkBC1I6HloNzo3HoSx6s=",
            "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDX1FsEIzKAn96uNGk87Gtzypvjd2jssk8ZOPDOOVfmp8ug00p/PPpOXr+IXmQKjMNguhTtqZI4Pgb4/kn2pSNZ/wanE678L9eZRRH0vF9sbrl3ZBmd/erBXa51DC+rjzWkMfz2YCOndxcbeCe0Ciq29NcCSSJESYQ6mwqeI8JDoPZm125uaqjAjeZGYenLVfryTuu9q6nv+ERqXcfEzaP72/gCRm0QhuFnjAoxnUYIGw/n5fIQVf22QzLKVL4rHMsq7kW9YOYTnVkEMZcO/A7cvSdn3XZKwiGZqCbP5PE1rcyXpzp35tzHTNQX9CGlFl4u+huKBWIhm+r3HfxCapRUsQ7PNttLD/aO3ZT2Z/QGQ8KAJDDY/knQWevnA4OhQfZFmRPvKwmyH7oeznieyGYuJgraanVnsZY6p01N1UMIApf/R7bqQyHtvJzKPqmaWXRQDGG4d0WywkYY7j6HaFZbFfU2XWmj06FeFU6gtHF3hfQLZknYpiVCN/YUFlY9NHU=",
            "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAAAABHNzaDo=",
            "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20AAAAIbmlzdHAyNTYAAABBBOokKvcfcTJGffQ4uruktpLfNZZLGts6RPoBdpN1xGCtc2ftn5LIPe2+DtRZ2pu4YeYgkBC1I6HloNzo3HoSx6sAAAAEc3NoOg==",
        ] {
            assert_eq!(is_key_line(line), Ok(()), "{line}");
        }
    }
}
