//! The content of the guest's share.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::files::{self, Files};
use super::identity::Identity;
use crate::edge::{hex, walk};
use crate::host::compose::{self, Facts, SECRETS};
use crate::host::layer::{HOST_KEY, LAYER, MANIFEST, SOURCE, SOURCE_MOUNT, SOURCE_TREE};
use crate::host::spec::Spec;
use crate::instance::plan::{Content, Staged};
use crate::instance::{Place, ssh};
use crate::lifecycle::{Error, Observer, Site};

/// Everything that is staged, the host key first. On a new disk nothing lies that an earlier layer has brought, so that a
/// small rootfs can be a part of the layer.
pub(super) fn staged(
    site: &Site,
    spec: &Spec,
    place: &Place,
    identity: Identity,
    mut files: Files,
    disk_is_new: bool,
    observer: &mut dyn Observer,
) -> Result<Vec<Staged>, Error> {
    let client = ssh::client_key(&site.state)?;
    let facts = Facts {
        hostname: place.name.clone(),
        machine_id: machine_id(&identity.public, (place.name != spec.name).then_some(&place.name)),
        time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        client_key: client.public,
    };
    let mut layer = files.layer(spec, &facts)?;
    if disk_is_new {
        files.rootfs = layer.take_in(files.rootfs);
    }
    let layer = serde_json::to_vec_pretty(&layer).map_err(Error::Layer)?;
    let mut staged = vec![
        Staged::bytes(HOST_KEY, 0o400, identity.private),
        Staged::bytes(LAYER, 0o400, Zeroizing::new(layer)),
    ];
    if let (Some(manifest), Some(text)) = (compose::manifest(spec), identity.secrets) {
        let manifest = compose::manifest_json(&manifest).map_err(Error::Layer)?;
        staged.push(Staged::bytes(MANIFEST, 0o400, Zeroizing::new(manifest.into_bytes())));
        staged.push(Staged::bytes(SECRETS, 0o400, Zeroizing::new(text)));
        let others = compose::sops_files(spec);
        staged.extend(others.map(|(path, text)| Staged::bytes(path, 0o400, Zeroizing::new(text.to_vec()))));
    }
    staged.extend(files.staged(site, spec, observer)?);
    Ok(staged)
}

/// The hash of everything in the share that follows from the project: neither the key nor anything of this start.
pub(super) fn fingerprint(
    spec: &Spec,
    place: &Place,
    files: &Files,
    secrets: Option<&[u8]>,
) -> Result<String, Error> {
    if spec.nixos().is_some() {
        // An apply brings nothing to a guest of NixOS.
        return Ok(String::new());
    }
    let facts = Facts { hostname: place.name.clone(), ..Facts::default() };
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| files::add(&mut hash, bytes);
    part(&serde_json::to_vec(&files.layer(spec, &facts)?).map_err(Error::Layer)?);
    if let Some(manifest) = compose::manifest(spec) {
        part(compose::manifest_json(&manifest).map_err(Error::Layer)?.as_bytes());
    }
    part(secrets.unwrap_or_default());
    compose::sops_files(spec).for_each(|(_, text)| part(text));
    for Staged { path, mode, content } in &files.source {
        part(path.as_bytes());
        part(&mode.to_be_bytes());
        match content {
            Content::File(path) => {
                let failed = |error| Error::Source(format!("`{}`: {error}", path.display()));
                let mut file = Sha256::new();
                std::fs::File::open(path)
                    .and_then(|mut from| std::io::copy(&mut from, &mut file))
                    .map_err(failed)?;
                part(&file.finalize());
            }
            Content::Link(target) => part(target.as_bytes()),
            Content::Directory | Content::Bytes(_) => part(b"directory"),
        }
    }
    files::tree(&files.rootfs, &mut part);
    Ok(hex::encode(&hash.finalize()))
}

/// An instance's machine ID: as stable as its host key and its name, and unique. Instances of one host share the key.
pub(super) fn machine_id(public: &str, name: Option<&String>) -> String {
    let name = name.map(|name| format!(" {name}")).unwrap_or_default();
    hex::encode(&Sha256::digest(format!("civm machine-id {public}{name}"))[..16])
}

/// The project without `.git`, disks, and files that git ignores and does not track. `is_linked`: whether the guest
/// mounts it where its users may read it.
pub(super) fn source(site: &Site, is_linked: bool) -> Result<Vec<Staged>, Error> {
    let (below, mut staged) = if is_linked {
        let content = Content::Link(SOURCE_MOUNT.to_owned());
        let link = Staged { path: SOURCE.to_owned(), mode: 0o777, content };
        // There even where the project is empty.
        let tree = Staged { path: SOURCE_TREE.to_owned(), mode: 0o755, content: Content::Directory };
        (SOURCE_TREE, vec![link, tree])
    } else {
        (SOURCE, Vec::new())
    };
    for entry in walk::walk(site.project.root(), &site.environment) {
        let walk::Entry { inside, path, kind } = entry.map_err(|error| Error::Source(error.to_string()))?;
        let (mode, content) = match kind {
            walk::Kind::Directory => (0o755, Content::Directory),
            walk::Kind::File => {
                // Keep scripts executable.
                let executable = path.metadata().map_or(0, |found| found.permissions().mode() & 0o111);
                (0o644 | executable, Content::File(path))
            }
            walk::Kind::Link => {
                let target = std::fs::read_link(&path)
                    .map_err(|error| Error::Source(format!("`{}`: {error}", path.display())))?;
                (0o644, Content::Link(target.to_string_lossy().into_owned()))
            }
        };
        staged.push(Staged { path: format!("{below}/{}", inside.display()), mode, content });
    }
    Ok(staged)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::edge::environment::Environment;
    use crate::edge::terminal::Nobody;
    use crate::host::Project;

    fn site(dir: &std::path::Path) -> Site {
        let environment = Environment::empty().with("XDG_STATE_HOME", dir.join("target/state"));
        Site::of(Project::at(dir).unwrap(), &environment, std::sync::Arc::new(Nobody)).unwrap()
    }

    #[test]
    fn the_source_is_the_project_without_git_ignored_files_and_disks() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["hosts/x/host.yaml", ".git/HEAD", "target/out", "x.qcow2", ".sops.yaml"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(dir.path().join(".gitignore"), "/target\n").unwrap();
        symlink("hosts/x", dir.path().join("link")).unwrap();
        let script = dir.path().join("hosts/x/host.yaml");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o750)).unwrap();
        let mut staged = source(&site(dir.path()), true).unwrap();
        assert!(staged.iter().any(|one| one.path.ends_with("host.yaml") && one.mode == 0o754));
        let first: Vec<_> = staged.drain(..2).map(|one| one.path).collect();
        assert_eq!(first, [SOURCE, SOURCE_TREE]);
        let found: Vec<_> = staged
            .iter()
            .map(|one| {
                let kind = match &one.content {
                    Content::Directory => "directory".to_owned(),
                    Content::File(path) => path.is_file().to_string(),
                    Content::Link(target) => target.clone(),
                    Content::Bytes(_) => "bytes".to_owned(),
                };
                (one.path.strip_prefix(&format!("{SOURCE_TREE}/")).unwrap(), kind)
            })
            .collect();
        let wanted = [
            (".gitignore", "true"),
            (".sops.yaml", "true"),
            ("hosts", "directory"),
            ("hosts/x", "directory"),
            ("hosts/x/host.yaml", "true"),
            ("link", "hosts/x"),
        ];
        assert_eq!(found, wanted.map(|(path, kind)| (path, kind.to_owned())));
    }
}
