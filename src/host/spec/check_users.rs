//! Users of a guest and the keys that log in as them.

use std::collections::BTreeMap;

use ssh_key::authorized_keys::Entry;

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
                return Err(fail("", "root is there already: only `authorized_keys` can be given".into()));
            }
            root = keys;
            continue;
        }
        if !is_account(&name) {
            return Err(fail(
                "",
                format!("`{name}` is no user name: lower-case letters, digits, `_` and `-`"),
            ));
        }
        let groups = user.groups.unwrap_or_default();
        if let Some(group) = groups.iter().find(|group| !is_account(group)) {
            return Err(fail("groups", format!("`{group}` is no name of a group")));
        }
        if let Some(uid) = user.uid {
            if !UIDS.contains(&uid) {
                return Err(fail(
                    "uid",
                    format!("uid is {uid}: users have {} to {}", UIDS.start(), UIDS.end()),
                ));
            }
            if let Some(other) = uids.insert(uid, name.clone()) {
                return Err(fail("uid", format!("`{other}` has the uid {uid} as well")));
            }
        }
        let shell = user.shell.unwrap_or_else(|| SHELL.into());
        if !shell.starts_with('/') || !is_word(&shell, "/_.+-") {
            return Err(fail("shell", format!("`{shell}` is no absolute path")));
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
    let one = !line.contains(['\n', '\r']);
    if one && line.parse::<Entry>().is_ok() {
        return Ok(());
    }
    Err("this is no line of authorized_keys, such as `ssh-ed25519 AAAA… name`".into())
}
