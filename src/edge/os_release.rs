//! Which distribution this machine runs: os-release(5).

use std::fs;

/// The file's text; empty where there is none.
#[must_use]
pub fn read() -> String {
    let read = |path| fs::read_to_string(path).ok();
    read("/etc/os-release").or_else(|| read("/usr/lib/os-release")).unwrap_or_default()
}

/// The value of a field.
#[must_use]
pub fn field(os_release: &str, name: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(line.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_field_is_the_whole_name_and_loses_its_quotes() {
        let text = "NAME_X=1\nNAME=\"Debian GNU/Linux\"\nID=debian\n";
        assert_eq!(field(text, "NAME").as_deref(), Some("Debian GNU/Linux"));
        assert_eq!(field(text, "ID").as_deref(), Some("debian"));
        assert_eq!(field(text, "VERSION_ID"), None);
    }
}
