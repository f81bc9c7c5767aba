//! The formats that sops supports, and how one is chosen.

use std::path::Path;
use std::sync::Arc;

use super::Store;
use super::binary::Binary;
use super::dotenv::Dotenv;
use super::ini::Ini;
use super::json::Json;
use super::yaml::Yaml;

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
    /// Lines of `NAME=value`.
    Dotenv,
    /// INI.
    Ini,
    /// Anything, as one value.
    Binary,
}

/// Spaces per level as configured; each store knows what the numbers mean to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indents {
    /// Of YAML; 0 is the default of four.
    pub yaml: i64,
    /// Of JSON; -1 is a tab.
    pub json: i64,
    /// Of encrypted binary files; -1 is a tab.
    pub json_binary: i64,
}

impl Default for Indents {
    fn default() -> Self {
        Self { yaml: 0, json: -1, json_binary: -1 }
    }
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Yaml, Self::Json, Self::Dotenv, Self::Ini, Self::Binary];

    /// The format that sops assumes for a file with this name.
    #[must_use]
    pub fn of_path(path: &Path) -> Self {
        Self::of_ending(path).unwrap_or(Self::Binary)
    }

    /// The format of a file name's extension; `None` if it has no known extension.
    #[must_use]
    pub fn of_ending(path: &Path) -> Option<Self> {
        let name = path.as_os_str().as_encoded_bytes();
        let endings: [(&[u8], Self); 5] = [
            (b".yaml", Self::Yaml),
            (b".yml", Self::Yaml),
            (b".json", Self::Json),
            (b".env", Self::Dotenv),
            (b".ini", Self::Ini),
        ];
        endings.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| format)
    }

    /// The format of a name as in `--input-type`; `None` for any other.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Its name, as in `--input-type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::Json => "json",
            Self::Dotenv => "dotenv",
            Self::Ini => "ini",
            Self::Binary => "binary",
        }
    }

    /// Its store.
    #[must_use]
    pub fn store(self, indents: Indents) -> Arc<dyn Store> {
        match self {
            Self::Yaml => Arc::new(Yaml { indent: indents.yaml }),
            Self::Json => Arc::new(Json { indent: indents.json }),
            Self::Binary => Arc::new(Binary::new(indents.json_binary)),
            Self::Dotenv => Arc::new(Dotenv),
            Self::Ini => Arc::new(Ini),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_decides_and_its_case_counts() {
        for (name, format) in [
            ("a.yaml", Format::Yaml),
            ("a/b.yml", Format::Yaml),
            (".yaml", Format::Yaml),
            ("a.json", Format::Json),
            (".env", Format::Dotenv),
            ("prod.env", Format::Dotenv),
            ("a.ini", Format::Ini),
            ("a.YAML", Format::Binary),
            (".envrc", Format::Binary),
            ("a.env.enc", Format::Binary),
            ("key.der", Format::Binary),
            ("", Format::Binary),
        ] {
            assert_eq!(Format::of_path(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn names_are_those_of_the_flags() {
        for name in ["yaml", "json", "dotenv", "ini", "binary"] {
            assert_eq!(Format::of_name(name).map(Format::name), Some(name));
        }
        assert_eq!(Format::of_name("toml"), None);
        assert_eq!(Format::of_name("YAML"), None);
    }
}
