//! Files from the net that a host lays over its image: pinned by their hash, one by one or from a list.
//!
//! A list is a JSON file beside host.yaml, as update tools of CI services write it: `[{"name", "version", "url",
//! "sha256"}]`. Each of its files has a destination of its own, from a pattern with `{name}` and `{version}`.

use serde::Deserialize;

use super::error::Error;
use super::layer;
use super::project::Project;
use super::spec::{ArtifactSource, Spec, check_sha256, check_url};

/// The most bytes of a list.
const LIST_MAX: u64 = 16 << 20;
/// The most entries of all lists.
const COUNT_MAX: usize = 10_000;

/// A file to fetch and to lay over an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Where it comes from.
    pub url: String,
    /// Where it goes, and what is known of it there.
    pub layer: layer::Artifact,
}

/// An entry of a list; what else it says is for those who write it.
#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    version: String,
    url: String,
    sha256: String,
}

/// All artifacts of a host, sorted by destination.
///
/// # Errors
/// A list that cannot be read or is not one, or two files with one destination.
pub fn of(project: &Project, spec: &Spec) -> Result<Vec<Artifact>, Error> {
    let mut out: Vec<Artifact> = Vec::new();
    for wanted in &spec.artifacts {
        match &wanted.source {
            ArtifactSource::Url { url, sha256 } => out.push(Artifact {
                url: url.clone(),
                layer: layer::Artifact { sha256: sha256.clone(), ..wanted.layer.clone() },
            }),
            ArtifactSource::List(file) => {
                let chain = [&spec.name].into_iter().chain(&spec.extends);
                let mut paths = chain.map(|host| project.host_dir(host).join(file));
                let first = project.host_dir(&spec.name).join(file);
                let path = paths.find(|path| path.symlink_metadata().is_ok()).unwrap_or(first);
                let bytes = project.read(&path, LIST_MAX)?;
                let bad = |message: String| Error::List { path: path.clone(), message };
                let list: Vec<Listed> =
                    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
                if out.len() + list.len() > COUNT_MAX {
                    return Err(bad(format!("more than {COUNT_MAX} artifacts")));
                }
                for one in list {
                    out.push(listed(one, &wanted.layer).map_err(bad)?);
                }
            }
        }
    }
    out.sort_by(|one, other| one.layer.path.cmp(&other.layer.path));
    if let Some([one, _]) = out.windows(2).find(|pair| pair[0].layer.path == pair[1].layer.path) {
        return Err(Error::TwoArtifacts { path: one.layer.path.clone() });
    }
    Ok(out)
}

fn listed(one: Listed, pattern: &layer::Artifact) -> Result<Artifact, String> {
    let Listed { name, version, url, sha256 } = one;
    let is_word = |text: &str| {
        !text.starts_with('.') && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
    };
    if name.is_empty() || !is_word(&name) || !is_word(&version) {
        return Err(format!("`{name}` in version `{version}` cannot be a part of a file's name"));
    }
    let of = |message: String| format!("{name}: {message}");
    check_url(&url).map_err(of)?;
    let sha256 = check_sha256(&sha256).map_err(of)?;
    let path = pattern.path.replace("{name}", &name).replace("{version}", &version);
    Ok(Artifact { url, layer: layer::Artifact { path, sha256, ..pattern.clone() } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::spec::Arch;

    const HEX: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

    fn project(list: &str) -> (tempfile::TempDir, Project) {
        let dir = tempfile::tempdir().expect("a project");
        for (path, text) in [
            (
                "base/host.yaml",
                "artifacts:\n  /opt/plugins/{name}.jpi: {from: plugins.json, mode: 0640, owner: ci}\n",
            ),
            ("base/plugins.json", list),
            ("child/host.yaml", "extends: base\n"),
        ] {
            let path = dir.path().join("hosts").join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        let project = Project::at(dir.path()).expect("a project");
        (dir, project)
    }

    fn read(list: &str) -> Result<Vec<Artifact>, String> {
        let (_dir, project) = project(list);
        let spec = project.load("child", Arch::X86_64).expect("a host");
        of(&project, &spec).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_names_files_of_one_directory() {
        let list = format!(
            r#"[{{"name": "git", "version": "5.7.0", "url": "https://example.org/git.hpi", "sha256": "{HEX}", "more": 1}},
                {{"name": "ant", "url": "https://example.org/ant.hpi", "sha256": "1bp7cri8hplaz6hbz0v4f0nl44rl84q1sg25kgwqzipzd1mv89ic"}}]"#
        );
        let found = read(&list);
        let found = found.expect("a list");
        let paths: Vec<&str> = found.iter().map(|one| one.layer.path.as_str()).collect();
        assert_eq!(paths, ["/opt/plugins/ant.jpi", "/opt/plugins/git.jpi"]);
        assert_eq!(
            (found[1].url.as_str(), found[1].layer.sha256.as_str()),
            ("https://example.org/git.hpi", HEX)
        );
        assert_eq!((found[1].layer.mode, found[1].layer.owner.as_str()), (0o640, "ci"));
    }

    #[test]
    fn a_list_that_is_wrong_is_named_with_the_entry() {
        let entry = |name: &str, url: &str, sha256: &str| {
            format!(r#"[{{"name": "{name}", "version": "1", "url": "{url}", "sha256": "{sha256}"}}]"#)
        };
        for (list, message) in [
            (entry("../x", "https://e.org/x", HEX), "cannot be a part of a file's name"),
            (entry("x", "http://e.org/x", HEX), "plugins.json: x: `http://e.org/x` is not an https URL"),
            (entry("x", "https://e.org/x", "abc"), "plugins.json: x: `abc` is not a SHA-256"),
            ("{}".to_owned(), "plugins.json: invalid type"),
            (
                format!(
                    "{},{}",
                    entry("x", "https://e.org/x", HEX).trim_end_matches(']'),
                    &entry("x", "https://e.org/y", HEX)[1..]
                ),
                "two artifacts go to /opt/plugins/x.jpi",
            ),
        ] {
            let error = read(&list).expect_err(&list);
            assert!(error.contains(message), "{error}");
        }
    }
}
