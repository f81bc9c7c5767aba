//! The files of a project that go into a guest's share, besides its key and its secrets: what is laid over its image,
//! from the project or from the net, and what the builders are made of that it deploys.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::edge::environment::Environment;
use crate::edge::hex;
use crate::host;
use crate::host::artifacts::Artifact;
use crate::host::compose::{self, Facts};
use crate::host::generated::builders::{DEPLOYED, UNIT};
use crate::host::layer::{File, Layer, ROOTFS};
use crate::host::parcel::{self, BINARIES, BUILDERS, PARCEL, Packed};
use crate::host::rootfs::{Entry, Kind};
use crate::host::spec::{Arch, Spec};
use crate::image;
use crate::instance::plan::{Content, Staged};
use crate::lifecycle::{Error, Observer, Progress, Site, artifacts, share};

/// Read from the project for one host.
pub(super) struct Files {
    /// What is laid over the host's image.
    pub(super) rootfs: Vec<Entry>,
    builders: Vec<Packed>,
    artifacts: Vec<Artifact>,
    /// The project itself, where its guest wants it.
    pub(super) source: Vec<Staged>,
    /// Whether the guest only says what it would do with them.
    is_trial: bool,
}

impl Files {
    /// Those of a host.
    pub(super) fn read(site: &Site, spec: &Spec) -> Result<Self, Error> {
        let rootfs = site.project.rootfs(spec)?;
        let builders = parcel::packed(&site.project, spec)?;
        let artifacts = host::artifacts::of(&site.project, spec)?;
        let source = if spec.source { share::source(site, spec.nixos().is_none())? } else { Vec::new() };
        Ok(Self { rootfs, builders, artifacts, source, is_trial: false })
    }

    /// The same for a guest that only says what it would do: it reads nothing of what comes from the net.
    pub(super) fn for_trial(self) -> Self {
        Self { is_trial: true, ..self }
    }

    /// Fetches what comes from the net and is not in the cache.
    pub(super) fn fetch(&self, environment: &Environment, observer: &mut dyn Observer) -> Result<(), Error> {
        if self.is_trial {
            return Ok(());
        }
        artifacts::ensure(&self.artifacts, environment, observer)
    }

    /// The host's layer.
    pub(super) fn layer(&self, spec: &Spec, facts: &Facts) -> Result<Layer, Error> {
        let mut layer = compose::layer(spec, facts);
        layer.artifacts = self.artifacts.iter().map(|artifact| artifact.layer.clone()).collect();
        if !self.builders.is_empty() {
            let lines: Result<String, Error> = self
                .builders
                .iter()
                .map(|one| Ok(format!("{} {}\n", one.parcel.builder.name, fingerprint(one)?)))
                .collect();
            let file = File {
                text: lines?,
                mode: 0o644,
                restart_units: Vec::new(),
                reload_units: vec![UNIT.to_owned()],
            };
            layer.files.insert(DEPLOYED.to_owned(), file);
        }
        Ok(layer)
    }

    /// Everything, as it is staged. What the user should know of the builders is told.
    pub(super) fn staged(
        self,
        site: &Site,
        spec: &Spec,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Staged>, Error> {
        let mut staged: Vec<Staged> = self.rootfs.into_iter().map(|entry| laid_over(ROOTFS, entry)).collect();
        if !self.is_trial {
            staged.extend(artifacts::staged(&self.artifacts, &site.environment)?);
        }
        staged.extend(self.source);
        let is_wanted = |arch: &Arch| self.builders.iter().any(|one| one.parcel.builder.arch == *arch);
        let foreign = [Arch::X86_64, Arch::Aarch64].into_iter().filter(|arch| *arch != spec.arch);
        let foreign: Vec<Arch> = foreign.filter(is_wanted).collect();
        for Packed { parcel, rootfs, secrets } in self.builders {
            let builder = &parcel.builder;
            if !secrets.is_empty() {
                observer.tell(Progress::Warning(format!(
                    "builder `{}`: the secrets of host `{}` are not given to it ({}), since it is made on a machine \
                     of somebody else's",
                    builder.name,
                    builder.host,
                    secrets.join(", ")
                )));
            }
            let dir = format!("{BUILDERS}/{}", builder.name);
            let text = serde_json::to_vec_pretty(&parcel).map_err(Error::Layer)?;
            staged.push(Staged::bytes(format!("{dir}/{PARCEL}"), 0o400, Zeroizing::new(text)));
            let below = format!("{dir}/{}", parcel::ROOTFS);
            staged.extend(rootfs.into_iter().map(|entry| laid_over(&below, entry)));
        }
        for arch in foreign {
            match image::guest_binary(arch, &site.environment) {
                Ok(path) => staged.push(Staged {
                    path: format!("{BINARIES}/{arch}/civm"),
                    mode: 0o755,
                    content: Content::File(path),
                }),
                Err(error) => observer.tell(Progress::Warning(format!(
                    "no civm for {arch} goes with the guest, so its builders of that kind can be made only where one is \
                     installed: {error}"
                ))),
            }
        }
        Ok(staged)
    }
}

/// The hash of everything that a builder is made of.
fn fingerprint(builder: &Packed) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| add(&mut hash, bytes);
    part(&serde_json::to_vec(&builder.parcel).map_err(Error::Layer)?);
    tree(&builder.rootfs, &mut part);
    Ok(hex::encode(&hash.finalize()))
}

/// Adds bytes to a hash, and where they end.
pub(super) fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

/// The parts of a tree that a hash of it is made of.
pub(super) fn tree(entries: &[Entry], part: &mut impl FnMut(&[u8])) {
    for Entry { path, mode, kind } in entries {
        part(path.as_os_str().as_encoded_bytes());
        part(&mode.to_be_bytes());
        match kind {
            Kind::Directory => part(b"directory"),
            Kind::File(bytes) => part(bytes),
            Kind::Link(target) => part(target.as_os_str().as_encoded_bytes()),
        }
    }
}

fn laid_over(below: &str, entry: Entry) -> Staged {
    let path = format!("{below}/{}", entry.path.display());
    let content = match entry.kind {
        Kind::Directory => Content::Directory,
        Kind::File(bytes) => Content::Bytes(Zeroizing::new(bytes)),
        Kind::Link(target) => Content::Link(target.to_string_lossy().into_owned()),
    };
    Staged { path, mode: entry.mode, content }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::*;
    use crate::edge::terminal::Nobody;
    use crate::host::Project;
    use crate::secrets;

    /// Remembers warnings.
    struct Heard(Vec<String>);

    impl Observer for Heard {
        fn tell(&mut self, progress: Progress<'_>) {
            if let Progress::Warning(text) = progress {
                self.0.push(text);
            }
        }
        fn boots_without_secrets(&mut self, _: &str, _: &secrets::Error) -> Option<bool> {
            None
        }
    }

    #[test]
    fn builders_are_staged_for_their_keeper_which_hears_of_changes() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join("hosts").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let foreign = if Arch::native() == Some(Arch::X86_64) { Arch::Aarch64 } else { Arch::X86_64 };
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJKgz+PLpbRnMpiPUnFsbLXwSc/ypyGKJ1Bt3mXDsFPq";
        put(
            "c/host.yaml",
            &format!(
                "nix: {{builders: {{near: {{deploy: b, on: u@h, on_public_key: {key}}}, \
                 far: {{deploy: b, arch: {foreign}, on: u@h, on_public_key: {key}}}}}}}\n"
            ),
        );
        put("b/host.yaml", "secrets: [token]\nusers: {vm: {}}\nnix: {trusted_users: [vm]}\n");
        put("b/secrets.yaml", "token: x\n");
        put("b/rootfs/etc/motd", "one\n");
        let binary = dir.path().join("civm-for-guests");
        let environment = Environment::empty()
            .with("XDG_STATE_HOME", dir.path().join("state"))
            .with("CIVM_GUEST_BINARY", &binary);
        let site = Site::of(Project::at(dir.path()).unwrap(), &environment, Arc::new(Nobody)).unwrap();
        let spec = site.spec("c").unwrap();
        let text =
            |files: &Files| files.layer(&spec, &Facts::default()).unwrap().files[DEPLOYED].text.clone();
        let files = Files::read(&site, &spec).unwrap();
        let before = text(&files);
        assert_eq!(before.lines().count(), 2);
        let mut heard = Heard(Vec::new());
        let staged = files.staged(&site, &spec, &mut heard).unwrap();
        let paths: Vec<&str> = staged.iter().map(|one| one.path.as_str()).collect();
        let of = |name: &str| {
            ["parcel.json", "rootfs/etc", "rootfs/etc/motd"]
                .map(|file| format!("host/builders/{name}/{file}"))
        };
        assert_eq!(paths, [of("far"), of("near")].concat());
        assert!(
            heard.0.iter().any(|text| text.contains("the secrets of host `b` are not given to it (token)"))
        );
        // No civm for the other kind of machine: what makes one is named.
        let missing =
            |text: &&String| text.starts_with(&format!("no civm for {foreign} goes with the guest"));
        assert!(heard.0.iter().any(|text| missing(&text)), "{:?}", heard.0);
        put("b/rootfs/etc/motd", "two\n");
        assert_ne!(text(&Files::read(&site, &spec).unwrap()), before);
    }

    #[test]
    fn a_trial_fetches_nothing_and_the_source_is_read_once() {
        let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = dir.path().join("hosts/c");
        fs::create_dir_all(&host).unwrap();
        // Nobody answers there.
        let hash = "ab".repeat(32);
        fs::write(
            host.join("host.yaml"),
            format!(
                "source: true\nartifacts: {{/opt/x: {{url: \"https://127.0.0.1:1/x\", sha256: {hash}}}}}\n"
            ),
        )
        .unwrap();
        let environment = Environment::empty()
            .with("XDG_STATE_HOME", own.path().join("state"))
            .with("XDG_CACHE_HOME", own.path().join("cache"));
        let site = Site::of(Project::at(dir.path()).unwrap(), &environment, Arc::new(Nobody)).unwrap();
        let spec = site.spec("c").unwrap();
        let mut heard = Heard(Vec::new());
        let files = Files::read(&site, &spec).unwrap().for_trial();
        fs::write(dir.path().join("later"), "").unwrap();
        files.fetch(&environment, &mut heard).unwrap();
        assert_eq!(
            files.layer(&spec, &Facts::default()).unwrap().artifacts.len(),
            1,
            "the guest hears of it"
        );
        let staged = files.staged(&site, &spec, &mut heard).unwrap();
        let paths: Vec<&str> = staged.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "source",
                "project/tree",
                "project/tree/hosts",
                "project/tree/hosts/c",
                "project/tree/hosts/c/host.yaml",
            ]
        );
        assert_eq!(heard.0, [""; 0]);
    }
}
