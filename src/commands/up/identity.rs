//! The ssh host key to stage: the one in the secrets, or one generated for a host without secrets.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::cli::up::Up;
use crate::commands::{Context, instance, project as room, secrets};
use crate::edge::terminal::{self, Prompt as _, Terminal};
use crate::host::layer::HOST_KEY_SECRET;
use crate::host::project::{Project, SECRETS_MAX};
use crate::host::spec::Spec;
use crate::instance::{Place, ssh};
use crate::keys::recipient::same_key;
use crate::keys::ssh::private::{self, PrivateKey};
use crate::outcome::{Code, Failure};
use crate::secrets::Error;
use crate::secrets::file::SopsFile;
use crate::sops::document::MacCheck;
use crate::sops::key_path::{KeyPath, Step};

/// A host's identity.
pub(super) struct Identity {
    /// The private key as sshd reads it.
    pub(super) private: Zeroizing<Vec<u8>>,
    /// `ssh-ed25519 AAAA…`
    pub(super) public: String,
    /// The encrypted file to copy to the guest, if secrets are to be installed there.
    pub(super) secrets: Option<Vec<u8>>,
}

/// The host key for this boot. If a host boots without its secrets, they are removed from its spec.
pub(super) fn host_key(
    args: &Up,
    project: &Project,
    spec: &mut Spec,
    place: &Place,
    context: &Context,
) -> Result<Identity, Failure> {
    if let Some(owner) = spec.secrets_host.clone().filter(|_| !args.without_secrets) {
        let path = project.secrets_file(&owner);
        let text = project.read(&path, SECRETS_MAX).map_err(room::failure)?;
        match secret(project, path, text, spec, context) {
            Ok(identity) => return Ok(identity),
            Err(Error::Locked { path, locked }) => {
                let failure = secrets::failure(Error::Locked { path, locked });
                if !asked(&failure, spec, context)? {
                    return Err(failure.help("or boot without secrets, with --without-secrets"));
                }
            }
            Err(error) => return Err(secrets::failure(error)),
        }
    }
    if !spec.secrets.is_empty() {
        context.screen.warn(format!("{} boots without its secrets", spec.name));
        spec.secrets.clear();
    }
    let made = ssh::host_key(place).map_err(instance::failure)?;
    let private = made.private().map_err(instance::failure)?;
    Ok(Identity { private, public: made.public, secrets: None })
}

/// On a terminal, asks whether to go on without secrets; elsewhere nobody can be asked.
fn asked(failure: &Failure, spec: &Spec, context: &Context) -> Result<bool, Failure> {
    if !terminal::can_ask() || !terminal::stdin_is_terminal() {
        return Ok(false);
    }
    context.screen.failure(failure);
    let question = format!("Boot {} without its secrets?", spec.name);
    match Terminal.confirm(&question, false) {
        Ok(true) => Ok(true),
        // The error tree has already been shown.
        _ => Err(Failure::new(Code::CouldNotRetrieveKey, format!("{} was not started", spec.name))),
    }
}

fn secret(
    project: &Project,
    path: PathBuf,
    text: Vec<u8>,
    spec: &Spec,
    context: &Context,
) -> Result<Identity, Error> {
    let session = secrets::session_at(context, project.root().to_path_buf());
    let open = SopsFile::parse(&session, &path, &text)?.open(session.identities(), MacCheck::Verify)?;
    let key = KeyPath::from(vec![Step::Key(HOST_KEY_SECRET.into())]);
    let private = open.extract(&key)?;
    let wrong = |reason: String| Error::HostKey { path: path.clone(), reason };
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
    Ok(Identity { private, public: public.line(), secrets: (!spec.secrets.is_empty()).then_some(text) })
}
