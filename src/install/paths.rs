//! Paths of a manifest, before anything is looked at on disk.

use std::path::{Component, Path, PathBuf};

use super::error::Error;

/// The path of a secret below its generation: no part leads out of it, a leading `/` means nothing.
pub(super) fn below(name: &str) -> Result<PathBuf, Error> {
    let mut out = PathBuf::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => out.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::Invalid(format!("the name of secret {name} leaves the generation")));
            }
        }
    }
    if out.as_os_str().is_empty() {
        return Err(Error::Invalid(format!("secret '{name}' has no name")));
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
        assert_eq!(below("/a//b/./c").expect("a name"), Path::new("a/b/c"));
        for name in ["", "/", ".", "..", "a/../b", "../../outside"] {
            assert!(below(name).is_err(), "{name}");
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
