//! What the builders are made of, as a keeper finds it: a directory for each, with its parcel and the files laid over
//! its image.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use super::identity::{Pair, machine_id};
use crate::host::layer::{HOST_KEY, LAYER, ROOTFS, User};
use crate::host::parcel::{self, Parcel};
use crate::host::rootfs::{self, Entry, Kind};
use crate::instance::plan::{Content, Staged};

/// Where a controller's secrets are.
const SECRETS: &str = "/run/secrets";
/// The secret of a builder that logs in to its remote, beside the parcel, where no secrets are installed.
pub const ON_KEY: &str = "on_key";
/// The one that logs in to the builder.
pub const KEY: &str = "key";
/// The most bytes of a parcel.
const PARCEL_MAX: u64 = 4 << 20;
/// The most bytes of a key.
const KEY_MAX: u64 = 64 << 10;
/// The most builders of one keeper.
const BUILDERS_MAX: usize = 4096;

/// A builder as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it is made of.
    pub parcel: Parcel,
    dir: PathBuf,
}

/// Reads all parcels of a directory. Those that cannot be read are told, and left out.
///
/// # Errors
/// The directory cannot be listed.
pub fn load(dir: &Path, complain: &mut dyn FnMut(String)) -> io::Result<Vec<Loaded>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries.take(BUILDERS_MAX) {
        let path = entry?.path();
        if !path.join(parcel::PARCEL).is_file() {
            continue;
        }
        match read(&path) {
            Ok(loaded) => found.push(loaded),
            Err(error) => complain(format!("{}: {error}", path.display())),
        }
    }
    found.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(found)
}

fn read(dir: &Path) -> Result<Loaded, String> {
    let text = bounded(&dir.join(parcel::PARCEL), PARCEL_MAX).map_err(|error| error.to_string())?;
    let parcel: Parcel = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let name = &parcel.builder.name;
    let usable = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !name.starts_with(['-', '.']);
    if !usable || dir.file_name().is_none_or(|file| file != name.as_str()) {
        return Err(format!("`{name}` cannot be the name of a builder there"));
    }
    Ok(Loaded { parcel, dir: dir.to_owned() })
}

fn bounded(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::new());
    File::open(path)?.take(most + 1).read_to_end(&mut text)?;
    if text.len() as u64 > most { Err(io::Error::other("it is too long")) } else { Ok(text) }
}

impl Loaded {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parcel.builder.name
    }

    /// The system that it builds for, in nix's words.
    #[must_use]
    pub fn system(&self) -> String {
        self.parcel.builder.system()
    }

    /// The key that logs in to its remote, where it is a secret.
    ///
    /// # Errors
    /// The secret cannot be read, or is not a key.
    pub fn on_key(&self) -> Result<Option<Pair>, String> {
        self.parcel.builder.on_key.as_deref().map(|secret| self.secret(secret, ON_KEY)).transpose()
    }

    /// The key that logs in to it, where it is a secret.
    ///
    /// # Errors
    /// The secret cannot be read, or is not a key.
    pub fn key(&self) -> Result<Option<Pair>, String> {
        let Some(secret) = self.parcel.builder.key.as_deref() else { return Ok(None) };
        let pair = self.secret(secret, KEY)?;
        if pair.public.is_empty() {
            return Err(format!(
                "the secret `{secret}` cannot log in to the builder: use an ed25519 or RSA key"
            ));
        }
        Ok(Some(pair))
    }

    fn secret(&self, secret: &str, beside: &str) -> Result<Pair, String> {
        let own = self.dir.join(beside);
        let path = if own.is_file() { own } else { Path::new(SECRETS).join(secret) };
        let text = bounded(&path, KEY_MAX)
            .map_err(|error| format!("cannot read the secret `{secret}` ({}): {error}", path.display()))?;
        Pair::secret(&text).map_err(|error| format!("the secret `{secret}` cannot log in: {error}"))
    }

    /// The files of its share: its host key, its layer and what is laid over its image.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn staged(&self, host: &Pair, client: &Pair) -> Result<Vec<Staged>, String> {
        let mut layer = self.parcel.layer.clone();
        if layer.hostname.is_empty() {
            self.name().clone_into(&mut layer.hostname);
        }
        layer.machine_id = machine_id(&host.public);
        layer.time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        layer.root_authorized_keys.push(client.public.clone());
        let user = &self.parcel.builder.user;
        match layer.users.iter_mut().find(|known| known.name == *user) {
            Some(known) => known.authorized_keys.push(client.public.clone()),
            None if user == "root" => {}
            None => layer.users.push(User {
                name: user.clone(),
                shell: "/bin/sh".into(),
                authorized_keys: vec![client.public.clone()],
                ..User::default()
            }),
        }
        let rootfs = rootfs::read(&self.dir.join(parcel::ROOTFS)).map_err(|error| error.to_string())?;
        let rootfs = layer.take_in(rootfs);
        let layer = serde_json::to_vec_pretty(&layer).map_err(|error| error.to_string())?;
        let mut staged = vec![
            Staged::bytes(HOST_KEY, 0o400, host.private.clone()),
            Staged::bytes(LAYER, 0o400, Zeroizing::new(layer)),
        ];
        staged.extend(rootfs.into_iter().map(laid_over));
        Ok(staged)
    }
}

fn laid_over(Entry { path, mode, kind }: Entry) -> Staged {
    let content = match kind {
        Kind::Directory => Content::Directory,
        Kind::File(bytes) => Content::Bytes(Zeroizing::new(bytes)),
        Kind::Link(target) => Content::Link(target.to_string_lossy().into_owned()),
    };
    Staged { path: format!("{ROOTFS}/{}", path.display()), mode, content }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::host::layer::Layer;
    use crate::host::parcel::Order;
    use crate::host::spec::{Arch, Deployed, MachineType, Remote, Require, Start};
    use crate::vm::network::Network;
    use std::time::Duration;

    /// A builder with plain values.
    pub(in crate::builder) fn loaded(name: &str, dir: &Path) -> Loaded {
        let builder = Deployed {
            name: name.into(),
            host: "builder".into(),
            arch: Arch::X86_64,
            on: Remote { user: "lender".into(), host: "h.example".into(), port: 22 },
            on_key: None,
            on_public_key: "ssh-ed25519 AAAA".into(),
            user: "vm-builder".into(),
            key: None,
            max_jobs: None,
            speed: 10,
            features: None,
            mandatory_features: Vec::new(),
            start: Start::Always,
            require: Require::Kvm,
            idle: Duration::from_secs(1800),
            hold: Duration::from_secs(600),
            ttl: Duration::from_secs(60),
            drain: Duration::from_secs(300),
            port: None,
            run_with: Vec::new(),
        };
        let machine = Order {
            host: "builder".into(),
            arch: Arch::X86_64,
            machine_type: MachineType::usual(Arch::X86_64),
            cpus: 40,
            memory_mib: 40 << 10,
            disk_mib: 300 << 10,
            network: Network::default(),
            suite: None,
            packages: Vec::new(),
            console_log: false,
        };
        Loaded { parcel: Parcel { builder, machine, layer: Layer::default() }, dir: dir.join(name) }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_others_are_there() {
        let base = tempfile::tempdir().unwrap();
        let put = |dir: &str, loaded: &Loaded| {
            fs::create_dir_all(base.path().join(dir)).unwrap();
            let text = serde_json::to_string(&loaded.parcel).unwrap();
            fs::write(base.path().join(dir).join(parcel::PARCEL), text).unwrap();
        };
        let good = loaded("b", base.path());
        put("b", &good);
        put("a", &loaded("a", base.path()));
        put("other", &loaded("c", base.path()));
        fs::create_dir(base.path().join("bad")).unwrap();
        fs::write(base.path().join("bad").join(parcel::PARCEL), "{").unwrap();
        fs::create_dir(base.path().join("empty")).unwrap();
        let mut told = Vec::new();
        let found = load(base.path(), &mut |complaint| told.push(complaint)).unwrap();
        assert_eq!(found.iter().map(Loaded::name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((told.len(), &found[1]), (2, &good));
        assert!(load(&base.path().join("none"), &mut |_| {}).unwrap().is_empty());
    }

    #[test]
    fn the_share_has_the_keys_of_this_keeper() {
        let base = tempfile::tempdir().unwrap();
        let loaded = loaded("big", base.path());
        fs::create_dir_all(base.path().join("big/rootfs/etc")).unwrap();
        // Text would be a part of the layer.
        fs::write(base.path().join("big/rootfs/etc/motd"), b"hello\xff").unwrap();
        let (host, client) = (Pair::make("h").unwrap(), Pair::make("c").unwrap());
        let staged = loaded.staged(&host, &client).unwrap();
        let paths: Vec<&str> = staged.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, [HOST_KEY, LAYER, "host/rootfs/etc", "host/rootfs/etc/motd"]);
        let Content::Bytes(layer) = &staged[1].content else { panic!("a file") };
        let layer: Layer = serde_json::from_slice(layer).unwrap();
        assert_eq!(layer.hostname, "big");
        assert_eq!(layer.root_authorized_keys, [client.public.as_str()]);
        assert_eq!(layer.users[0].authorized_keys, [client.public]);
    }

    #[test]
    fn a_secret_that_is_not_a_key_is_named() {
        let base = tempfile::tempdir().unwrap();
        let mut one = loaded("big", base.path());
        one.parcel.builder.on_key = Some("remote_key".into());
        fs::create_dir_all(base.path().join("big")).unwrap();
        fs::write(base.path().join("big").join(ON_KEY), "hush").unwrap();
        let error = one.on_key().map(|_| ()).unwrap_err();
        assert!(error.contains("`remote_key`") && !error.contains("hush"), "{error}");
        assert!(one.key().unwrap().is_none());
    }
}
