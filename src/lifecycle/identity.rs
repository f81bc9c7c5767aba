//! The ssh host key to stage: the one in the secrets, or one generated for a host without secrets.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::host::layer::HOST_KEY_SECRET;
use crate::host::project::SECRETS_MAX;
use crate::host::spec::Spec;
use crate::instance::{Place, ssh};
use crate::keys::recipient::same_key;
use crate::keys::ssh::private::{self, PrivateKey};
use crate::lifecycle::{Error, Observer, Progress, Request, Site, builder_keys};
use crate::secrets;
use crate::secrets::file::SopsFile;
use crate::sops::document::MacCheck;
use crate::sops::key_path::{KeyPath, Step};
use crate::sops::tree::get;

/// A host's identity.
pub(super) struct Identity {
    /// The private key as sshd reads it.
    pub(super) private: Zeroizing<Vec<u8>>,
    /// `ssh-ed25519 AAAA…`
    pub(super) public: String,
    /// The encrypted file to copy to the guest, if secrets are to be installed there.
    pub(super) secrets: Option<Vec<u8>>,
}

impl Identity {
    /// The same for a spec that was read anew: a host that boots without its secrets has none in it.
    pub(super) fn for_spec(self, spec: &mut Spec) -> Self {
        if self.secrets.is_none() {
            spec.leave_out_secrets();
        }
        self
    }
}

/// The host key for this boot. If a host boots without its secrets, they are removed from its spec.
pub(super) fn host_key(
    site: &Site,
    request: &Request,
    spec: &mut Spec,
    place: &Place,
    observer: &mut dyn Observer,
) -> Result<Identity, Error> {
    if let (Some(owner), false) = (&spec.secrets_host, spec.unlisted_secrets.is_empty()) {
        observer.tell(Progress::Unlisted { host: owner, keys: &spec.unlisted_secrets });
    }
    if let Some((path, text)) = file(site, spec)?.filter(|_| !request.without_secrets) {
        match secret(site, path, text, spec) {
            Ok(None) => {
                let made = made(place)?;
                observer.tell(Progress::Warning(format!(
                    "the configuration's secrets hold no `{HOST_KEY_SECRET}`: it gets a host key of its own, {}",
                    made.public
                )));
                return Ok(made);
            }
            Ok(Some((identity, doubts))) => {
                doubts.into_iter().for_each(|doubt| observer.tell(Progress::Warning(doubt)));
                return Ok(identity);
            }
            Err(error @ secrets::Error::Locked { .. }) => {
                match observer.boots_without_secrets(&place.name, &error) {
                    Some(true) => {}
                    Some(false) => return Err(Error::Declined(place.name.clone())),
                    None => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !spec.secrets.is_empty() {
        observer.tell(Progress::WithoutSecrets { name: &place.name });
        spec.leave_out_secrets();
    }
    made(place)
}

/// A key that is made once for an instance.
fn made(place: &Place) -> Result<Identity, Error> {
    let made = ssh::host_key(place)?;
    let private = made.private()?;
    Ok(Identity { private, public: made.public, secrets: None })
}

/// The encrypted file with the host key: the one that a NixOS configuration names, else that of the project's host.
fn file(site: &Site, spec: &Spec) -> Result<Option<(PathBuf, Vec<u8>)>, Error> {
    if let Some(named) = spec.nixos().and_then(|nixos| nixos.sops.clone()) {
        return Ok(Some(named));
    }
    let path = spec.secrets_host.as_ref().map(|owner| site.project.secrets_file(owner));
    path.map(|path| Ok((path.clone(), site.project.read(&path, SECRETS_MAX)?))).transpose()
}

/// The identity, and what is wrong with keys of the same file; none where a NixOS configuration's file has no host key.
fn secret(
    site: &Site,
    path: PathBuf,
    text: Vec<u8>,
    spec: &Spec,
) -> Result<Option<(Identity, Vec<String>)>, secrets::Error> {
    let session = site.session();
    let file = SopsFile::parse(&session, &path, &text)?;
    let has_key = file.tree.documents.iter().any(|top| get(top, HOST_KEY_SECRET).is_some());
    if spec.nixos().is_some() && !has_key {
        return Ok(None);
    }
    let open = file.open_to_read(session.identities(), MacCheck::Verify)?;
    let key = KeyPath::from(vec![Step::Key(HOST_KEY_SECRET.into())]);
    let private = open.extract(&key)?;
    let wrong = |reason: String| secrets::Error::HostKey { path: path.clone(), reason };
    let public = match private::parse(&private).map_err(|error| wrong(error.to_string()))?.key {
        PrivateKey::Plain(key) => {
            key.ed25519_public().ok_or_else(|| wrong("it is not an ed25519 key".to_owned()))?
        }
        PrivateKey::Locked(_) => return Err(wrong("it is protected by a passphrase".to_owned())),
    };
    let recipient = same_key(&public.recipient());
    let known = open.metadata.age_keys().any(|key| same_key(&key.recipient) == recipient);
    if !known && !spec.secrets.is_empty() {
        return Err(wrong(format!(
            "its age recipient {} is not among the file's recipients, so the guest could not read its own secrets",
            public.recipient()
        )));
    }
    for (other, text) in &spec.sops_files {
        let path = site.project.root().join(other);
        let file = SopsFile::parse(&session, &path, text)?;
        if !file.metadata.age_keys().any(|key| same_key(&key.recipient) == recipient) {
            let reason = format!(
                "its age recipient {} is not among the recipients of this file, so the guest could not read it",
                public.recipient()
            );
            return Err(secrets::Error::HostKey { path, reason });
        }
    }
    let doubts = builder_keys::doubts(site, spec, &open);
    let secrets = (!spec.secrets.is_empty()).then_some(text);
    Ok(Some((Identity { private, public: public.line(), secrets }, doubts)))
}
