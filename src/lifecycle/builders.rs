//! What the builders of a project are made of, with the keys that log in to where they are made.

use zeroize::Zeroizing;

use crate::host::parcel::{self, Packed};
use crate::host::project::SECRETS_MAX;
use crate::host::spec::Spec;
use crate::lifecycle::{Error, Site, builder_keys};
use crate::secrets;
use crate::secrets::file::SopsFile;
use crate::sops::document::MacCheck;

/// What is to be known of the builders of a project.
pub struct Found {
    /// The builders.
    pub packings: Vec<Packing>,
    /// The hosts whose host.yaml cannot be used, and why: what they deploy is not known.
    pub unread: Vec<(String, Error)>,
}

/// A builder of a project.
pub struct Packing {
    /// The host that deploys it.
    pub of: String,
    /// What it is made of.
    pub packed: Packed,
    /// The key that logs in to where it is made, if that is a secret.
    pub on_key: Option<Zeroizing<Vec<u8>>>,
    /// The key that logs in to the builder, if that is a secret.
    pub key: Option<Zeroizing<Vec<u8>>>,
}

/// The builders of a project: those of a name, or all; `of` names the host that deploys them. Their keys are opened
/// with `keys` alone.
///
/// # Errors
/// No host.yaml that is valid, a name that no builder has, one that two hosts give to different builders, or a
/// secret that cannot be opened.
pub fn builders(site: &Site, names: &[String], of: Option<&str>, keys: bool) -> Result<Found, Error> {
    let mut found: Vec<(Spec, Packed)> = Vec::new();
    let mut unread = Vec::new();
    for host in of.map_or_else(|| site.project.hosts(), |host| Ok(vec![host.to_owned()]))? {
        let spec = match site.spec(&host) {
            Ok(spec) => spec,
            // Another host's mistake keeps nobody from building.
            Err(error) if of.is_none() => {
                unread.push((host, error));
                continue;
            }
            Err(error) => return Err(error),
        };
        for packed in parcel::packed(&site.project, &spec)? {
            let name = &packed.parcel.builder.name;
            if !names.is_empty() && !names.contains(name) {
                continue;
            }
            match found.iter().find(|(_, known)| known.parcel.builder.name == *name) {
                Some((_, known)) if *known == packed => {}
                Some((first, _)) => {
                    return Err(Error::BuilderTwice {
                        name: name.clone(),
                        hosts: [first.name.clone(), host.clone()],
                    });
                }
                None => found.push((spec.clone(), packed)),
            }
        }
    }
    if found.is_empty() && !unread.is_empty() {
        return Err(unread.swap_remove(0).1);
    }
    let known = |name: &str| found.iter().any(|(_, packed)| packed.parcel.builder.name == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        if !unread.is_empty() {
            return Err(unread.swap_remove(0).1);
        }
        return Err(Error::NoBuilder { name: name.clone(), of: of.map(str::to_owned) });
    }
    let packed = found.into_iter().map(|(spec, packed)| pack(site, &spec, packed, keys));
    Ok(Found { packings: packed.collect::<Result<_, _>>()?, unread })
}

fn pack(site: &Site, spec: &Spec, packed: Packed, keys: bool) -> Result<Packing, Error> {
    let builder = &packed.parcel.builder;
    let open = |name: &Option<String>| -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        name.as_deref().filter(|_| keys).map(|name| secret(site, spec, name)).transpose()
    };
    let (on_key, key) = (open(&builder.on_key)?, open(&builder.key)?);
    Ok(Packing { of: spec.name.clone(), packed, on_key, key })
}

fn secret(site: &Site, spec: &Spec, name: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let listed = spec.secrets.iter().find(|secret| secret.name == name);
    if let Some((secret, file)) = listed.and_then(|secret| Some((secret, secret.file.as_ref()?))) {
        return Ok(builder_keys::in_other_file(site, spec, secret, file)?);
    }
    let owner = spec.secrets_host.as_deref().unwrap_or(&spec.name);
    let path = site.project.secrets_file(owner);
    let text = site.project.read(&path, SECRETS_MAX)?;
    let session = site.session();
    let opened: Result<_, secrets::Error> = (|| {
        let open =
            SopsFile::parse(&session, &path, &text)?.open_to_read(session.identities(), MacCheck::Verify)?;
        builder_keys::value(&open, listed.map_or(name, |secret| &secret.key))
    })();
    Ok(opened?)
}
