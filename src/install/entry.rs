//! A file of a generation, be it a secret or a rendered template: its name, place, owner and mode.

use std::path::{Component, Path, PathBuf};

use super::Options;
use super::error::Error;

/// Owner of a file, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A file of a generation.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name in the manifest.
    pub name: String,
    /// Its path below a generation.
    pub below: PathBuf,
    /// Where a link to it is wanted.
    pub link: Option<PathBuf>,
    /// Who owns it.
    pub owner: Owner,
    /// Permission bits.
    pub mode: u32,
    /// Units to restart when its content changes.
    pub restart: Vec<String>,
    /// Units to reload when its content changes.
    pub reload: Vec<String>,
}

/// What a manifest says of a file, as it is written there.
pub(super) struct Wanted<'a> {
    /// `secret` or `template`.
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    /// Below a generation.
    pub(super) below: PathBuf,
    pub(super) path: &'a str,
    pub(super) owner: Option<&'a String>,
    pub(super) uid: i64,
    pub(super) group: Option<&'a String>,
    pub(super) gid: i64,
    pub(super) mode: &'a str,
    pub(super) restart: &'a [String],
    pub(super) reload: &'a [String],
}

/// The permission bits that have an effect.
const PERMISSIONS: u32 = 0o777;

impl Wanted<'_> {
    /// Checks it, with the link to the active generation.
    pub(super) fn entry(&self, symlink: &Path, user_mode: bool, options: &Options) -> Result<Entry, Error> {
        let Self { kind, name, .. } = *self;
        let mode = mode(self.mode)?;
        let path = expand(self.path, user_mode, options.runtime_dir.as_deref())?;
        if !path.is_absolute() {
            let what = if self.path.is_empty() { "no path" } else { "a path that is not absolute" };
            return invalid(format!("{kind} {name} has {what}"));
        }
        if path == symlink {
            return invalid(format!(
                "the path of {kind} {name} is the link to all secrets, {}",
                symlink.display()
            ));
        }
        Ok(Entry {
            name: name.to_owned(),
            link: (path != symlink.join(&self.below)).then_some(path),
            below: self.below.clone(),
            owner: self.owner(options)?,
            mode,
            restart: self.restart.to_vec(),
            reload: self.reload.to_vec(),
        })
    }

    fn owner(&self, options: &Options) -> Result<Owner, Error> {
        if options.ignore_passwd {
            return Ok(Owner { uid: 0, gid: 0 });
        }
        let id = |what: &str, named: Option<(&String, Option<u32>)>, number: i64| match named {
            Some((name, None)) => invalid(format!("failed to lookup {what} '{name}'")),
            Some((_, Some(id))) => Ok(id),
            // The highest number means "leave alone" to chown.
            None => match u32::try_from(number) {
                Ok(id) if id != u32::MAX => Ok(id),
                _ => {
                    invalid(format!("{} {} has the impossible {what} number {number}", self.kind, self.name))
                }
            },
        };
        let user = self.owner.map(|name| (name, options.accounts.user(name)));
        let group = self.group.map(|name| (name, options.accounts.group(name)));
        Ok(Owner { uid: id("user", user, self.uid)?, gid: id("group", group, self.gid)? })
    }
}

pub(super) fn invalid<T>(reason: String) -> Result<T, Error> {
    Err(Error::Invalid(reason))
}

fn mode(text: &str) -> Result<u32, Error> {
    match u32::from_str_radix(text, 8) {
        // A sign is not a digit, and the field of the mode has 16 bits.
        Ok(mode) if mode <= u32::from(u16::MAX) && !text.starts_with('+') => Ok(mode & PERMISSIONS),
        _ => invalid(format!("invalid number in mode: {text}")),
    }
}

/// The path of a file below its directory: no part leads out of it, a leading `/` means nothing.
pub(super) fn below(kind: &str, name: &str) -> Result<PathBuf, Error> {
    let mut out = PathBuf::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => out.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return invalid(format!("the name of {kind} {name} leads out of its directory"));
            }
        }
    }
    if out.as_os_str().is_empty() {
        return invalid(format!("{kind} '{name}' has no name"));
    }
    Ok(out)
}

/// A path as written, or with `%r` and `%%` replaced (user mode).
pub(super) fn expand(path: &str, user_mode: bool, runtime_dir: Option<&Path>) -> Result<PathBuf, Error> {
    if !user_mode || !path.contains('%') {
        return Ok(path.into());
    }
    let mut out = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(behind) = rest.strip_prefix("%r") {
            let dir = runtime_dir.filter(|dir| dir.is_absolute()).ok_or(Error::NoRuntimeDir)?;
            out.push_str(&dir.to_string_lossy());
            rest = behind;
        } else {
            out.push('%');
            rest = rest.strip_prefix("%%").unwrap_or(&rest[1..]);
        }
    }
    out.push_str(rest);
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_below_its_generation() {
        assert_eq!(below("secret", "/a//b/./c").expect("a name"), Path::new("a/b/c"));
        for name in ["", "/", ".", "..", "a/../b", "../../outside"] {
            assert!(below("secret", name).is_err(), "{name}");
        }
    }

    #[test]
    fn percent_signs_count_in_user_mode_only() {
        let run = Some(Path::new("/run/user/1"));
        assert_eq!(expand("%r/a", false, run).expect("as it is"), Path::new("%r/a"));
        assert_eq!(expand("%r/a%%b%x%", true, run).expect("expanded"), Path::new("/run/user/1/a%b%x%"));
        assert!(matches!(expand("%r", true, None), Err(Error::NoRuntimeDir)));
        assert!(matches!(expand("%r", true, Some(Path::new(""))), Err(Error::NoRuntimeDir)));
        assert_eq!(expand("%%r", true, None).expect("a percent sign"), Path::new("%r"));
    }
}
