//! The second step: the plan with the bytes of each secret and of each rendered template.

use std::collections::BTreeMap;
use std::fs;

use zeroize::Zeroizing;

use super::contents::{Files, Plaintexts};
use super::difference::active;
use super::entry::Entry;
use super::error::Error;
use super::opener::Opener;
use super::template::{self, Renderer, Stands};
use super::validate::{KIND, Plan, Planned};

/// Bytes that are wiped.
type Bytes = Zeroizing<Vec<u8>>;

/// A plan and the bytes of its files. They are wiped with it.
pub struct Decrypted {
    /// What is to be installed.
    pub plan: Plan,
    /// The bytes of each of the plan's secrets, in its order.
    secrets: Vec<Bytes>,
    /// The text of each of the plan's templates, in its order.
    rendered: Vec<Bytes>,
}

impl Decrypted {
    /// Decrypts what a plan's files hold, and renders its templates. Of the secrets that were left out so far the values of
    /// the active generation stay.
    pub(super) fn of<O: Opener>(
        mut plan: Plan,
        files: Files<O::File>,
        mut without: Vec<Planned>,
        keys: &O::Keys,
        opener: &O,
    ) -> Result<Self, Error> {
        let mut plaintexts = Plaintexts::new(files, keys, opener);
        let mut secrets = Vec::with_capacity(plan.secrets.len());
        let mut planned = Vec::with_capacity(plan.secrets.len());
        for secret in std::mem::take(&mut plan.secrets) {
            match plan.partial.take(KIND, &secret.entry.name, plaintexts.of(&secret))? {
                Some(content) => {
                    planned.push(secret);
                    secrets.push(content);
                }
                None => without.push(secret),
            }
        }
        for secret in without {
            if let Some(content) = still_there(&plan, &secret.entry) {
                let left_out = plan.partial.left_out.iter_mut();
                left_out.filter(|out| out.name == secret.entry.name).for_each(|out| out.kept = true);
                planned.push(secret);
                secrets.push(content);
            }
        }
        plan.secrets = planned;
        let rendered = render(&mut plan, &secrets)?;
        Ok(Self { plan, secrets, rendered })
    }

    /// Each secret with its bytes.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&Entry, &[u8])> {
        let entries = self.plan.secrets.iter().map(|secret| &secret.entry);
        entries.zip(self.secrets.iter().map(|content| content.as_slice()))
    }

    /// Each template with its rendered text.
    pub(super) fn templates(&self) -> impl Iterator<Item = (&Entry, &[u8])> {
        let entries = self.plan.templates.iter().map(|template| &template.entry);
        entries.zip(self.rendered.iter().map(|content| content.as_slice()))
    }

    #[cfg(test)]
    pub(super) fn with(plan: Plan, contents: &[&[u8]]) -> Self {
        let secrets = contents.iter().map(|content| Zeroizing::new(content.to_vec())).collect();
        Self { plan, secrets, rendered: Vec::new() }
    }
}

/// The value that a secret has in the active generation.
fn still_there(plan: &Plan, entry: &Entry) -> Option<Bytes> {
    let path = active(plan)?.join(&entry.below);
    fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
    fs::read(path).map(Zeroizing::new).ok()
}

fn render(plan: &mut Plan, contents: &[Bytes]) -> Result<Vec<Bytes>, Error> {
    let values: BTreeMap<&str, &[u8]> = plan
        .secrets
        .iter()
        .zip(contents)
        .map(|(secret, content)| (secret.entry.name.as_str(), content.as_slice()))
        .collect();
    let placeholders = plan.placeholders.iter().map(|(name, placeholder)| {
        (placeholder.as_str(), Stands { name, value: values.get(name.as_str()).copied() })
    });
    let renderer = Renderer::of(placeholders);
    let (mut templates, mut rendered) = (Vec::new(), Vec::new());
    for template in std::mem::take(&mut plan.templates) {
        let text = renderer.render(&template.text);
        let text = text.map_err(|secret| Error::TemplateNeeds { secret: secret.to_owned() });
        if let Some(text) = plan.partial.take(template::KIND, &template.entry.name, text)? {
            templates.push(template);
            rendered.push(text);
        }
    }
    plan.templates = templates;
    Ok(rendered)
}
