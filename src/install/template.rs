//! Templates: texts with a placeholder for each secret, rendered into files below `rendered/` of a generation.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use memchr::memmem;
use zeroize::Zeroizing;

use super::Options;
use super::entry::{self, Entry, Wanted, invalid};
use super::error::Error;
use super::manifest::{Manifest, Template};

/// The directory of rendered templates below a generation.
pub(super) const RENDERED: &str = "rendered";
/// How it is called in messages.
pub(super) const KIND: &str = "template";

/// A template that makes sense.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The file that it becomes.
    pub entry: Entry,
    /// Its text.
    pub text: Vec<u8>,
}

/// Checks a template and reads its text.
pub(super) fn plan(
    template: &Template,
    symlink: &Path,
    user_mode: bool,
    options: &Options,
) -> Result<Planned, Error> {
    let name = &template.name;
    let wanted = Wanted {
        kind: KIND,
        name,
        below: Path::new(RENDERED).join(entry::below(KIND, name)?),
        path: &template.path,
        owner: template.owner.as_ref(),
        uid: template.uid,
        group: template.group.as_ref(),
        gid: template.gid,
        mode: &template.mode,
        restart: &template.restart_units,
        reload: &template.reload_units,
    };
    let entry = wanted.entry(symlink, user_mode, options)?;
    let text = if !template.content.is_empty() {
        template.content.clone().into_bytes()
    } else if template.file.is_empty() {
        return invalid(format!("neither content nor file was specified for template {name}"));
    } else {
        fs::read(&template.file).map_err(|source| Error::TemplateFile {
            name: name.clone(),
            path: (&template.file).into(),
            source,
        })?
    };
    Ok(Planned { entry, text })
}

/// The placeholder of each secret; where there are templates, every secret has one.
pub(super) fn placeholders(manifest: &Manifest) -> Result<BTreeMap<String, String>, Error> {
    let mut placeholders = BTreeMap::new();
    if manifest.templates.is_empty() {
        return Ok(placeholders);
    }
    for secret in &manifest.secrets {
        let name = &secret.name;
        let Some(placeholder) = manifest.placeholder_by_secret_name.get(name) else {
            return invalid(format!("placeholder for {name} not found in manifest"));
        };
        if placeholder.is_empty() {
            return invalid(format!("the placeholder of secret {name} is empty"));
        }
        placeholders.insert(name.clone(), placeholder.clone());
    }
    Ok(placeholders)
}

/// Looks whether a placeholder that a template uses stands for one secret only.
pub(super) fn check_placeholders(
    placeholders: &BTreeMap<String, String>,
    templates: &[Planned],
) -> Result<(), Error> {
    let mut first = BTreeMap::new();
    for (name, placeholder) in placeholders {
        let Some(other) = first.insert(placeholder, name) else { continue };
        let uses = |template: &&Planned| memmem::find(&template.text, placeholder.as_bytes()).is_some();
        if let Some(template) = templates.iter().find(uses) {
            return invalid(format!(
                "secrets {other} and {name} have the same placeholder, which template {} uses",
                template.entry.name
            ));
        }
    }
    Ok(())
}

/// The secret behind a placeholder.
#[derive(Clone, Copy)]
pub(super) struct Stands<'a> {
    /// Its name.
    pub(super) name: &'a str,
    /// Its value, where it could be had.
    pub(super) value: Option<&'a [u8]>,
}

/// Puts values in the place of placeholders.
pub(super) struct Renderer<'a> {
    /// What each placeholder stands for.
    values: HashMap<&'a [u8], Stands<'a>>,
    /// The lengths of placeholders, longest first.
    lengths: Vec<usize>,
    /// Whether a placeholder begins with a byte.
    begins: [bool; 256],
}

impl<'a> Renderer<'a> {
    /// Of placeholders, each with its secret.
    pub(super) fn of(placeholders: impl Iterator<Item = (&'a str, Stands<'a>)>) -> Self {
        let values: HashMap<&[u8], Stands<'_>> =
            placeholders.map(|(placeholder, stands)| (placeholder.as_bytes(), stands)).collect();
        let mut lengths: Vec<usize> = values.keys().map(|placeholder| placeholder.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        let mut begins = [false; 256];
        values.keys().filter_map(|placeholder| placeholder.first()).for_each(|first| {
            begins[usize::from(*first)] = true;
        });
        Self { values, lengths, begins }
    }

    /// A text with the values. They are never searched for placeholders: a secret cannot make another one appear.
    ///
    /// # Errors
    /// The name of a secret that the text wants and that could not be had.
    pub(super) fn render(&self, text: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'a str> {
        let parts = self.parts(text)?;
        // No value stays behind in memory that a growing buffer gave back.
        let mut out = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
        parts.iter().for_each(|part| out.extend_from_slice(part));
        Ok(out)
    }

    fn parts<'b>(&self, text: &'b [u8]) -> Result<Vec<&'b [u8]>, &'a str>
    where
        'a: 'b,
    {
        let mut parts = Vec::new();
        let (mut begun, mut at) = (0, 0);
        while at < text.len() {
            match self.at(&text[at..]) {
                None => at += 1,
                Some((_, Stands { name, value: None })) => return Err(name),
                Some((length, Stands { value: Some(value), .. })) => {
                    parts.extend([&text[begun..at], value]);
                    at += length;
                    begun = at;
                }
            }
        }
        parts.push(&text[begun..]);
        Ok(parts)
    }

    /// The longest placeholder that a text begins with.
    fn at(&self, text: &[u8]) -> Option<(usize, Stands<'a>)> {
        if !self.begins[usize::from(*text.first()?)] {
            return None;
        }
        self.lengths.iter().find_map(|length| {
            let found = self.values.get(text.get(..*length)?)?;
            Some((*length, *found))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, values: &[(&str, Option<&str>)]) -> Result<String, String> {
        let values = values.iter().map(|(placeholder, value)| {
            (*placeholder, Stands { name: placeholder, value: value.map(str::as_bytes) })
        });
        let rendered = Renderer::of(values).render(text.as_bytes());
        rendered.map(|text| String::from_utf8(text.to_vec()).expect("text")).map_err(str::to_owned)
    }

    #[test]
    fn every_placeholder_is_replaced_once() {
        let values = [("<a>", Some("one <b> <a>")), ("<b>", Some("two")), ("<ab>", Some(""))];
        assert_eq!(render("<a><b>", &values).expect("rendered"), "one <b> <a>two");
        assert_eq!(render("x<<a>>y<ab>", &values).expect("rendered"), "x<one <b> <a>>y");
        assert_eq!(render("<c> <", &values).expect("rendered"), "<c> <");
        assert_eq!(render("", &values).expect("rendered"), "");
    }

    #[test]
    fn the_longest_placeholder_counts() {
        let values = [("key", Some("short")), ("key2", Some("long"))];
        assert_eq!(render("key key2 key22", &values).expect("rendered"), "short long long2");
    }

    #[test]
    fn what_is_missing_is_told_only_where_it_is_wanted() {
        let values = [("<a>", None), ("<b>", Some("two"))];
        assert_eq!(render("<b>", &values).expect("rendered"), "two");
        assert_eq!(render("<b><a>", &values).expect_err("missing"), "<a>");
    }
}
