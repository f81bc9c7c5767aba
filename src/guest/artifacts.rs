//! Files from the net, which are large: a copy of each lies on the disk, by its hash, and is not read again at the
//! next boot. Where a layer wants one, there is a link to it.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::notes::Notes;
use super::{Error, share, state};
use crate::edge::hex;
use crate::host::layer::{ARTIFACTS, Artifact, Layer};
use crate::host::rootfs::{Entry, Kind};
use crate::install::Accounts;

/// Below the state's directory: the copies.
const COPIES: &str = "artifacts";
/// What a copy is called that is not complete.
const PARTIAL: &str = ".partial";
/// Bytes at a time: as much as the share gives at once.
const CHUNK: usize = 256 << 10;

/// The links to them, which are laid over the image like other files.
pub(super) fn entries(layer: &Layer) -> impl Iterator<Item = Entry> {
    let dir = Path::new(state::DIR).join(COPIES);
    layer.artifacts.iter().map(move |artifact| Entry {
        path: PathBuf::from(&artifact.path),
        mode: 0o777,
        kind: Kind::Link(dir.join(name(artifact))),
    })
}

/// Copies those that are not there yet, before anything links to them.
pub(super) fn bring(layer: &Layer) -> Result<(), Error> {
    let dir = Path::new(state::DIR).join(COPIES);
    copy_all(layer, &share::in_share(ARTIFACTS), &dir)
}

/// Gives them their owners, once these are there, and removes those that nobody links to any more.
pub(super) fn finish(layer: &Layer, notes: &mut Notes) -> Result<(), Error> {
    let dir = Path::new(state::DIR).join(COPIES);
    let accounts = Accounts::read(Path::new("/")).map_err(|error| Error::content(&dir, error.to_string()))?;
    for artifact in &layer.artifacts {
        match (accounts.user(&artifact.owner), accounts.group(&artifact.group)) {
            (Some(user), Some(group)) => {
                let path = dir.join(name(artifact));
                chown(&path, Some(user), Some(group)).map_err(Error::io("give away", &path))?;
            }
            _ => notes.warn(format!(
                "{}: the guest has no user `{}` or no group `{}`",
                artifact.path, artifact.owner, artifact.group
            )),
        }
    }
    sweep(layer, &dir)
}

/// Those of one content that differ in who may read them are two.
fn name(artifact: &Artifact) -> String {
    let Artifact { sha256, mode, owner, group, .. } = artifact;
    format!("{sha256}-{mode:o}-{owner}-{group}")
}

fn copy_all(layer: &Layer, from: &Path, dir: &Path) -> Result<(), Error> {
    let missing = layer.artifacts.iter().filter(|artifact| !dir.join(name(artifact)).exists());
    for artifact in missing {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o755).create(dir).map_err(Error::io("create", dir))?;
        let (source, partial) = (from.join(&artifact.sha256), dir.join(PARTIAL));
        let found = copy(&source, &partial)?;
        if found != artifact.sha256 {
            let reason = format!(
                "has the SHA-256 {found}: it was damaged after it was fetched; remove it from civm's cache on the host"
            );
            return Err(Error::content(&source, reason));
        }
        let failed = || Error::io("write", &partial);
        fs::set_permissions(&partial, Permissions::from_mode(artifact.mode)).map_err(failed())?;
        fs::rename(&partial, dir.join(name(artifact))).map_err(failed())?;
    }
    Ok(())
}

/// Copies a file, and says its SHA-256.
fn copy(from: &Path, to: &Path) -> Result<String, Error> {
    let mut source = File::open(from).map_err(Error::io("open", from))?;
    let _ = fs::remove_file(to);
    let mut target = File::create_new(to).map_err(Error::io("create", to))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match source.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", from)(error)),
        };
        let piece = chunk.get(..count).unwrap_or_default();
        hash.update(piece);
        target.write_all(piece).map_err(Error::io("write", to))?;
    }
    target.sync_all().map_err(Error::io("write", to))?;
    Ok(hex::encode(&hash.finalize()))
}

fn sweep(layer: &Layer, dir: &Path) -> Result<(), Error> {
    let wanted: BTreeSet<String> = layer.artifacts.iter().map(name).collect();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("read", dir)(error)),
    };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_none_or(|name| !wanted.contains(name)) {
            let path = entry.path();
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_copied_once_checked_and_removed_when_nobody_wants_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (from, to) = (dir.path().join("share"), dir.path().join("state/artifacts"));
        fs::create_dir(&from).expect("mkdir");
        let sha256 = hex::encode(&Sha256::digest(b"foo"));
        let artifact = |mode, sha256: &str| Artifact {
            path: "/opt/a".to_owned(),
            sha256: sha256.to_owned(),
            mode,
            owner: "root".to_owned(),
            group: "root".to_owned(),
            restart_units: Vec::new(),
        };
        let layer =
            Layer { artifacts: vec![artifact(0o644, &sha256), artifact(0o755, &sha256)], ..Layer::default() };
        assert!(copy_all(&layer, &from, &to).is_err(), "it is not in the share");
        fs::write(from.join(&sha256), "fox").expect("write");
        let error = copy_all(&layer, &from, &to).expect_err("damaged").to_string();
        assert!(error.contains("it was damaged after it was fetched"), "{error}");
        assert!(!to.join(name(&layer.artifacts[0])).exists());
        fs::write(from.join(&sha256), "foo").expect("write");
        copy_all(&layer, &from, &to).expect("copied");
        for artifact in &layer.artifacts {
            let path = to.join(name(artifact));
            assert_eq!(fs::read(&path).expect("a copy"), b"foo");
            assert_eq!(path.metadata().expect("a copy").permissions().mode() & 0o7777, artifact.mode);
        }
        // At the next boot nothing is read.
        fs::remove_file(from.join(&sha256)).expect("removed");
        copy_all(&layer, &from, &to).expect("there already");
        let one = Layer { artifacts: layer.artifacts[..1].to_vec(), ..Layer::default() };
        sweep(&one, &to).expect("swept");
        let names: Vec<_> =
            fs::read_dir(&to).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, [name(&one.artifacts[0]).as_str()]);
    }
}
