//! Semantic versions, as far as sops looks at them.

use std::cmp::Ordering;

use super::Error;

/// Major, minor, patch, and the part after the hyphen.
type Version<'a> = ([u64; 3], Option<&'a str>);

pub(super) fn check(text: &str) -> Result<(), Error> {
    // sops 1 did not use semantic versions.
    if text.starts_with("1.") {
        return Ok(());
    }
    parse(text).map(|_| ())
}

/// Whether one version is newer than another; a malformed one is older than all others.
#[must_use]
pub fn is_newer(one: &str, other: &str) -> bool {
    match (parse(one), parse(other)) {
        (Ok(one), Ok(other)) => compare(one, other) == Ordering::Greater,
        (one, _) => one.is_ok(),
    }
}

fn compare(one: Version<'_>, other: Version<'_>) -> Ordering {
    one.0.cmp(&other.0).then_with(|| match (one.1, other.1) {
        // A pre-release comes before its release.
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(one), Some(other)) => one.cmp(other),
    })
}

fn parse(text: &str) -> Result<Version<'_>, Error> {
    let text = text.strip_prefix('v').unwrap_or(text);
    if text.is_empty() {
        return Err(Error::Version("version string empty"));
    }
    let mut parts = text.splitn(3, '.');
    let (Some(major), Some(minor), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Error::Version("No Major.Minor.Patch elements found"));
    };
    let rest = rest.split_once('+').map_or(rest, |(before, _)| before);
    let (patch, pre) = rest.split_once('-').map_or((rest, None), |(patch, pre)| (patch, Some(pre)));
    let mut numbers = [0; 3];
    for (number, part) in numbers.iter_mut().zip([major, minor, patch]) {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || (part.len() > 1 && part.starts_with('0')) {
            return Err(Error::Version("its components are not all plain numbers"));
        }
        *number = part.parse().map_err(|_| Error::Version("a number is too large"))?;
    }
    Ok((numbers, pre))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semantic_versions_and_those_of_sops_1_pass() {
        for text in ["3.13.3", "v3.6.1", "3.7.0-rc1+5", "1.9", "1.x"] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in ["", "3.6", "abc", "3.6.x", "3.06.1", "3.6.", "2"] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn newer_is_by_number_not_by_text() {
        assert!(is_newer("3.13.3", "3.9.4"));
        assert!(!is_newer("3.9.4", "3.13.3"));
        assert!(!is_newer("3.13.3", "3.13.3"));
        assert!(is_newer("3.13.3", "3.13.3-rc1"));
        assert!(is_newer("3.13.3", ""));
    }
}
