//! Files that are put together from secrets.

use std::path::Path;

use super::check::{Checked, Facts, entries};
use super::check_secrets::{self, SECRET_MODE};
use super::check_system::unit_list;
use super::load::Sources;
use super::raw::{self, Mapping};
use super::units::{Either, Mode};
use super::{Secret, Template};
use crate::host::error::{SpecError, alike};

/// The directory of rendered templates below that of the secrets.
const RENDERED: &str = "rendered";
/// How a secret is named in a text; its name follows, and `>`.
const MARK: &str = "<secret:";

/// What stands for a secret in the text of a template.
#[must_use]
pub fn placeholder(name: &str) -> String {
    format!("{MARK}{name}>")
}

pub(super) fn templates(
    templates: Option<Mapping<Either<String, raw::Template>>>,
    secrets: &[Secret],
    facts: &Facts<'_>,
    sources: &Sources,
) -> Checked<Vec<Template>> {
    let mut out: Vec<Template> = Vec::new();
    for (name, template) in entries(templates) {
        let at = ["templates", name.as_str()];
        let raw = match template {
            Either::Short(content) => raw::Template { content: Some(content), ..raw::Template::default() },
            Either::Long(template) => template,
        };
        let template = template_of(&name, raw, facts, sources)?;
        uses_known(&template.content, secrets)
            .map_err(|(message, suggestion)| SpecError { suggestion, ..sources.error(&at, message) })?;
        let path = template.path.as_ref();
        let taken = secrets.iter().map(|secret| &secret.path).chain(out.iter().map(|other| &other.path));
        if path.is_some() && taken.flatten().any(|other| Some(other) == path) {
            return Err(sources.error(&at, "a secret or another template has the same path"));
        }
        if let Some(other) = out.iter().find(|other| Path::new(&name).starts_with(&other.name)) {
            return Err(sources.error(
                &at,
                format!("`{name}` needs a directory where template `{}` is a file", other.name),
            ));
        }
        out.push(template);
    }
    let reserved = |secret: &&Secret| Path::new(&secret.name).starts_with(RENDERED);
    if let (Some(secret), false) = (secrets.iter().find(reserved), out.is_empty()) {
        let message = format!("`{}` lies where the templates are rendered", secret.name);
        return Err(sources.error(&["secrets", &secret.name], message));
    }
    Ok(out)
}

fn template_of(name: &str, raw: raw::Template, facts: &Facts<'_>, sources: &Sources) -> Checked<Template> {
    let fail = |field: &str, message: String| sources.error(&["templates", name, field], message);
    if !check_secrets::is_name(name) {
        let message = format!(
            "`{name}` cannot be the name of a template: letters, digits and _ . @ + -, with `/` between directories"
        );
        return Err(fail("", message));
    }
    let content = match (raw.content, raw.file) {
        (Some(content), None) => content,
        (None, Some(file)) => read(&file, facts).map_err(|message| fail("file", message))?,
        (Some(_), Some(_)) => return Err(fail("file", "`content` and `file` exclude each other".into())),
        (None, None) => return Err(fail("", format!("template `{name}` has neither `content` nor `file`"))),
    };
    let account = |field: &str, value| check_secrets::account(value).map_err(|message| fail(field, message));
    if let Some(path) = &raw.path {
        check_secrets::link(path).map_err(|message| fail("path", message))?;
    }
    let units = |field: &str, names| unit_list(names, &["templates", name, field], sources);
    Ok(Template {
        name: name.to_owned(),
        content,
        owner: account("owner", raw.owner)?,
        group: account("group", raw.group)?,
        mode: raw.mode.map_or(SECRET_MODE, |Mode(mode)| mode),
        path: raw.path,
        restart_units: units("restart_units", raw.restart_units)?,
        reload_units: units("reload_units", raw.reload_units)?,
    })
}

fn read(file: &str, facts: &Facts<'_>) -> Result<String, String> {
    let Some((_, secrets)) = &facts.secrets else {
        return Err(format!("templates need secrets, and hosts/{} has no secrets.yaml", facts.name));
    };
    String::from_utf8(secrets.project.read(file)?).map_err(|_| format!("{file} is not text"))
}

/// Whether every secret that a text names is one of the host's; else the message, and a name that may be meant.
fn uses_known(content: &str, secrets: &[Secret]) -> Result<(), (String, Option<String>)> {
    for rest in content.split(MARK).skip(1) {
        let name = rest.split(['>', '\n']).next().unwrap_or_default();
        if !rest[name.len()..].starts_with('>') {
            return Err((format!("`{MARK}{name}` is not closed by `>` on its line"), None));
        }
        if !secrets.iter().any(|secret| secret.name == name) {
            let suggestion = alike(name, secrets.iter().map(|secret| secret.name.as_str()));
            return Err((format!("`{name}` is not one of this host's `secrets`"), suggestion));
        }
    }
    if secrets.is_empty() {
        return Err((
            "a template is made of secrets, and this host has none; `files` takes plain text".into(),
            None,
        ));
    }
    Ok(())
}
