//! Which of the files that a rule matches are meant to be secret: a rule such as `\.ya?ml$` matches far more.

use super::Config;
use crate::store::Format;

/// The name of the file that holds the rules.
pub const FILE: &str = ".sops.yaml";

/// Files that configure git and civm, which could not read them if they were encrypted.
const STEERING: [&str; 6] = [FILE, ".gitignore", ".gitattributes", ".gitmodules", ".gitkeep", ".civmignore"];
/// A rule that matches one of these is not specifically for secrets: it is for all files, or for all with an extension.
const PLAIN: [&str; 8] = [
    "LICENSE",
    "README.md",
    "lib/main.rs",
    "lib/logo.png",
    "lib/package.json",
    "lib/tox.ini",
    ".github/workflows/ci.yml",
    ".pre-commit-config.yaml",
];
/// Files that tools keep in the formats that sops supports, where no secret belongs.
const OF_TOOLS: [&str; 26] = [
    "Chart.yaml",
    "biome.json",
    "composer.json",
    "deno.json",
    "host.yaml",
    "jsconfig.json",
    "kustomization.yaml",
    "kustomization.yml",
    "lerna.json",
    "manifest.json",
    "mkdocs.yml",
    "mypy.ini",
    "npm-shrinkwrap.json",
    "nx.json",
    "package-lock.json",
    "package.json",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "pubspec.yaml",
    "pytest.ini",
    "renovate.json",
    "rustfmt.yaml",
    "tox.ini",
    "tsconfig.json",
    "turbo.json",
    "vercel.json",
];
/// Parts of a name that say that the file is encrypted.
const ENCRYPTED: [&str; 3] = ["enc", "encrypted", "sops"];
/// Ends of a name that say that the file shows how to write another.
const EXAMPLES: [&str; 6] = ["dist", "example", "sample", "schema", "template", "tmpl"];

impl Config {
    /// Whether the rule at an index, which matches a path, means that the file must be encrypted. This never applies to the
    /// rules file itself and git's own files. A rule for all files, or for all with an extension, applies only to files whose
    /// name suggests secrets and is not one that tools use.
    #[must_use]
    pub fn wants_encrypted(&self, index: usize, path: &[u8]) -> bool {
        let path = String::from_utf8_lossy(path);
        let name = path.rsplit('/').next().unwrap_or_default();
        if STEERING.contains(&name) {
            return false;
        }
        !self.is_broad(index) || looks_like_a_store(name) && !belongs_to_a_tool(&path, name)
    }

    fn is_broad(&self, index: usize) -> bool {
        match self.entries().get(index).map(|entry| &entry.pattern) {
            Some(Some(Ok(pattern))) => PLAIN.iter().any(|path| pattern.is_match(path.as_bytes())),
            _ => true,
        }
    }
}

fn looks_like_a_store(name: &str) -> bool {
    let mut parts = name.split('.').skip(1);
    Format::of_ending(name.as_ref()).is_some()
        || name.starts_with(".env.") && !is_an_example(name)
        || parts.any(|part| ENCRYPTED.contains(&part))
}

fn is_an_example(name: &str) -> bool {
    name.split('.').skip(1).any(|part| EXAMPLES.contains(&part))
}

fn belongs_to_a_tool(path: &str, name: &str) -> bool {
    let says_secret = || name.contains("secret") || name.split('.').any(|part| ENCRYPTED.contains(&part));
    let hidden = path.split('/').any(|part| part.starts_with('.') && part.len() > 1);
    let is_dotenv = name == ".env" || name.starts_with(".env.");
    OF_TOOLS.contains(&name) || is_an_example(name) || hidden && !is_dotenv && !says_secret()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(path_regex: &str, paths: &[&str]) -> Vec<String> {
        let rule =
            if path_regex.is_empty() { String::new() } else { format!("path_regex: '{path_regex}'\n    ") };
        let text = format!("creation_rules:\n  - {rule}age: age1x\n");
        let config = Config::parse(&text).expect("rules");
        let is_wanted = |path: &&&str| {
            let index = config.position(path.as_bytes()).expect("a pattern");
            index.is_some_and(|index| config.wants_encrypted(index, path.as_bytes()))
        };
        paths.iter().filter(is_wanted).map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn a_rule_that_names_files_is_for_all_that_it_names_but_the_rules_themselves() {
        let paths = [".sops.yaml", "a/.sops.yaml", "k/secret.sops.yaml", "k/x.sops.yml", "k/plain.yaml"];
        for rule in [r".*\.sops\.ya?ml", r"\.sops\.ya?ml$", r".*\.sops\.ya?ml$"] {
            assert_eq!(wanted(rule, &paths), ["k/secret.sops.yaml", "k/x.sops.yml"], "{rule}");
        }
        let hosts = ["hosts/key.bin", "hosts/a/README.md", "hosts/.gitkeep", "hosts/.hidden.yaml", "other"];
        assert_eq!(wanted("^hosts/", &hosts), ["hosts/key.bin", "hosts/a/README.md", "hosts/.hidden.yaml"]);
    }

    #[test]
    fn a_rule_for_an_ending_is_for_all_but_what_tools_have_for_themselves() {
        let paths = [
            ".sops.yaml",
            ".github/workflows/ci.yml",
            ".pre-commit-config.yaml",
            ".secrets.yaml",
            "Chart.yaml",
            "app/kustomization.yaml",
            "app/secret.yaml",
            "compose.yml",
            "values.example.yaml",
        ];
        assert_eq!(wanted(r"\.ya?ml$", &paths), [".secrets.yaml", "app/secret.yaml", "compose.yml"]);
        assert_eq!(wanted(r".*\.yaml", &paths), [".secrets.yaml", "app/secret.yaml"]);
    }

    #[test]
    fn a_rule_for_everything_is_for_the_names_of_stores() {
        let paths = [
            ".env",
            ".env.example",
            ".env.production",
            ".sops.yaml",
            "Cargo.lock",
            "LICENSE",
            "README.md",
            "app.ini",
            "config.json",
            "devshell/run",
            "k/secret.yaml",
            "key.pem",
            "logo.png",
            "package.json",
            "prod.env",
            "tox.ini",
            "tls.key.enc",
            "x.yaml.enc",
        ];
        let stores = [
            ".env",
            ".env.production",
            "app.ini",
            "config.json",
            "k/secret.yaml",
            "prod.env",
            "tls.key.enc",
            "x.yaml.enc",
        ];
        for rule in ["", ".*", ".", "^.*$", "(.+)"] {
            assert_eq!(wanted(rule, &paths), stores, "{rule}");
        }
    }
}
