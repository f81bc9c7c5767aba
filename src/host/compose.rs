//! From a [`Spec`] to what travels in the share: the layer and the manifest of secrets.

use std::collections::BTreeMap;

use super::generated::{self, builders};
use super::layer::{HOST_KEY, Layer, SHARE_MOUNT, SOURCE_GROUP};
use super::spec::{Secret, Spec, Template, placeholder};
use crate::install::manifest::{Logging, Manifest, Secret as ManifestSecret, Template as ManifestTemplate};

/// What of a layer is an instance's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The guest's host name.
    pub hostname: String,
    /// 32 lower-case hex digits.
    pub machine_id: String,
    /// Seconds since the epoch.
    pub time: u64,
    /// The `authorized_keys` line of civm's own client key.
    pub client_key: String,
}

/// Where the generations of secrets lie in a guest.
const MOUNT_POINT: &str = "/run/secrets.d";
/// The encrypted file in the share, below its mount point.
pub const SECRETS: &str = "host/secrets.yaml";

/// The layer of a host.
#[must_use]
pub fn layer(spec: &Spec, facts: &Facts) -> Layer {
    let mut root_authorized_keys = vec![facts.client_key.clone()];
    root_authorized_keys.extend(spec.root_authorized_keys.iter().cloned());
    let mut files = spec.files.clone();
    files.extend(generated::files(spec));
    // The group that the folders of secrets belong to.
    let mut groups: Vec<String> = if spec.secrets.is_empty() { Vec::new() } else { vec!["keys".into()] };
    let mut users = spec.users.clone();
    if spec.source {
        groups.push(SOURCE_GROUP.into());
        users.iter_mut().for_each(|user| user.groups.push(SOURCE_GROUP.into()));
    }
    let mut units = spec.units.clone();
    if let Some(nix) = spec.nix.as_ref().filter(|nix| !nix.deployed.is_empty()) {
        units.insert(builders::UNIT.to_owned(), builders::unit());
        groups.push(builders::GROUP.into());
        let trusted = users.iter_mut().filter(|user| nix.trusted_users.contains(&user.name));
        trusted.for_each(|user| user.groups.push(builders::GROUP.into()));
    }
    Layer {
        hostname: spec.hostname.clone().unwrap_or_else(|| facts.hostname.clone()),
        timezone: spec.timezone.clone(),
        machine_id: facts.machine_id.clone(),
        time: facts.time,
        console_login: spec.console_login,
        root_authorized_keys,
        users,
        groups,
        units,
        services: spec.services.clone(),
        sysctls: spec.sysctls.clone(),
        zram: spec.zram.clone(),
        files,
        artifacts: Vec::new(),
        secrets: !spec.secrets.is_empty(),
        source: spec.source,
        packages: spec.image.packages.clone(),
    }
}

/// The encrypted files of a host but its own: where they are in the share, and their content.
pub fn sops_files(spec: &Spec) -> impl Iterator<Item = (String, &[u8])> {
    spec.sops_files.iter().enumerate().map(|(at, (path, text))| (in_share(at, path), text.as_slice()))
}

/// The file's own name stays in it, for messages of the guest.
fn in_share(at: usize, path: &str) -> String {
    format!("host/secrets.{at}.{}", path.rsplit('/').next().unwrap_or(path))
}

/// The manifest of a host's secrets; none where nothing is installed.
#[must_use]
pub fn manifest(spec: &Spec) -> Option<Manifest> {
    if spec.secrets.is_empty() {
        return None;
    }
    Some(Manifest {
        secrets: spec.secrets.iter().map(|one| secret(one, spec)).collect(),
        templates: spec.templates.iter().map(template).collect(),
        placeholder_by_secret_name: placeholders(spec),
        age_ssh_key_paths: vec![format!("{SHARE_MOUNT}/{HOST_KEY}").into()],
        ..no_secrets()
    })
}

/// The manifest of a guest that had secrets, and is to have none any more.
#[must_use]
pub fn no_secrets() -> Manifest {
    Manifest {
        secrets_mount_point: MOUNT_POINT.into(),
        symlink_path: generated::SECRETS.into(),
        keep_generations: 1,
        logging: Logging { key_import: true, secret_changes: true },
        ..Manifest::default()
    }
}

/// The text of a manifest.
///
/// # Errors
/// None in practice: every field has a JSON form.
pub fn manifest_json(manifest: &Manifest) -> Result<String, serde_json::Error> {
    let mut text = serde_json::to_string_pretty(manifest)?;
    text.push('\n');
    Ok(text)
}

/// What stands for each secret in the templates, where there are any.
fn placeholders(spec: &Spec) -> BTreeMap<String, String> {
    let secrets = spec.secrets.iter().filter(|_| !spec.templates.is_empty());
    secrets.map(|secret| (secret.name.clone(), placeholder(&secret.name))).collect()
}

fn template(template: &Template) -> ManifestTemplate {
    ManifestTemplate {
        name: template.name.clone(),
        content: template.content.clone(),
        path: template
            .path
            .clone()
            .unwrap_or_else(|| format!("{}/rendered/{}", generated::SECRETS, template.name)),
        owner: Some(template.owner.clone()),
        group: Some(template.group.clone()),
        mode: format!("{:04o}", template.mode),
        restart_units: template.restart_units.clone(),
        reload_units: template.reload_units.clone(),
        ..ManifestTemplate::default()
    }
}

fn secret(secret: &Secret, spec: &Spec) -> ManifestSecret {
    let other = |path: &String| {
        let at = spec.sops_files.keys().position(|known| known == path).unwrap_or_default();
        in_share(at, path)
    };
    let file = secret.file.as_ref().map_or_else(|| SECRETS.to_owned(), other);
    ManifestSecret {
        name: secret.name.clone(),
        key: secret.key.clone(),
        path: secret.path.clone().unwrap_or_else(|| format!("{}/{}", generated::SECRETS, secret.name)),
        owner: Some(secret.owner.clone()),
        group: Some(secret.group.clone()),
        sops_file: format!("{SHARE_MOUNT}/{file}"),
        format: secret.format.name().into(),
        mode: format!("{:04o}", secret.mode),
        restart_units: secret.restart_units.clone(),
        reload_units: secret.reload_units.clone(),
        ..ManifestSecret::default()
    }
}

#[cfg(test)]
mod tests;
