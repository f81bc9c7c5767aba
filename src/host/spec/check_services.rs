//! Services: units of the image to start, and units that are written here from a few keys.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::check::{Checked, entries, is_path, is_word};
use super::check_system::{is_unit, unit_list};
use super::load::Sources;
use super::raw;
use super::units::{Either, Names, Plain};
use crate::host::layer::Unit;

/// Units of the image to start, and those that are written.
pub(super) type Services = (Vec<String>, BTreeMap<String, Unit>);

pub(super) fn services(
    services: Option<Names<String, raw::Service>>,
    sources: &Sources,
) -> Checked<Services> {
    let (mut names, mut units) = (Vec::new(), BTreeMap::new());
    match services {
        None => {}
        Some(Names::List(list)) => names = unit_list(Some(list), &["services"], sources)?,
        Some(Names::Map(map)) => {
            for (name, service) in entries(Some(map)) {
                if service.run.is_some() {
                    let unit = if name.contains('.') { name.clone() } else { format!("{name}.service") };
                    let at = ["services", name.as_str()];
                    is_unit(&unit).map_err(|message| sources.error(&at, message))?;
                    if !unit.ends_with(".service") {
                        return Err(
                            sources.error(&at, format!("`{name}` is not a service: only one has `run`"))
                        );
                    }
                    units.insert(unit, written(&name, service, sources)?);
                } else if service == raw::Service::default() {
                    is_unit(&name).map_err(|message| sources.error(&["services", &name], message))?;
                    names.push(name);
                } else {
                    let message = format!(
                        "`{name}` has no `run`: without it, it is a unit of the image and has no settings"
                    );
                    return Err(sources.error(&["services", &name], message));
                }
            }
        }
    }
    Ok((names, units))
}

fn written(name: &str, service: raw::Service, sources: &Sources) -> Checked<Unit> {
    let fail = |field: &str, message: String| sources.error(&["services", name, field], message);
    let line = |field: &str, text: &str| match text.trim() {
        "" => Err(fail(field, format!("{field} is empty"))),
        // systemd would read on after a backslash.
        text if text.contains(['\n', '\r']) || text.ends_with('\\') => {
            Err(fail(field, format!("{field} is not one line")))
        }
        text => Ok(text.to_owned()),
    };
    let lines = |field: &str, value: Option<Either<String, Vec<String>>>| {
        let list = match value {
            None => Vec::new(),
            Some(Either::Short(one)) => vec![one],
            Some(Either::Long(list)) => list,
        };
        list.iter().map(|text| line(field, text)).collect::<Checked<Vec<String>>>()
    };
    let account = |field: &str, value: Option<String>| match value {
        Some(value) if !is_word(&value, "_.-") => {
            Err(fail(field, format!("`{value}` is not the name of an account")))
        }
        value => Ok(value),
    };
    let mut text = String::new();
    let mut put = |key: &str, value: &str| {
        let _ = writeln!(text, "{key}={value}");
    };
    let after = unit_list(service.after, &["services", name, "after"], sources)?.join(" ");
    let wants_after = [("Wants", &after), ("After", &after)];
    put(
        "[Unit]\nDescription",
        &line("description", &service.description.unwrap_or_else(|| name.to_owned()))?,
    );
    wants_after.into_iter().filter(|(_, units)| !units.is_empty()).for_each(|(key, units)| put(key, units));
    for path in lines("needs", service.needs)? {
        is_path(&path).map_err(|message| fail("needs", message))?;
        put("ConditionPathExists", &path);
    }
    put("\n[Service]\nType", "exec");
    let (user, group) = (account("user", service.user)?, account("group", service.group)?);
    [("User", user), ("Group", group)].iter().for_each(|(key, value)| {
        if let Some(value) = value {
            put(key, value);
        }
    });
    for (key, Plain(value)) in entries(service.environment) {
        let is_name = is_word(&key, "_") && !key.starts_with(|c: char| c.is_ascii_digit());
        if !is_name || value.contains(['\n', '\r']) {
            let message = format!("`{key}` is not a variable with a value of one line");
            return Err(sources.error(&["services", name, "environment", &key], message));
        }
        put("Environment", &quoted(&format!("{key}={value}")));
    }
    if let Some(state) = &service.state_directory {
        if !state.split('/').all(|part| is_word(part, "._-") && !part.starts_with('.')) {
            return Err(fail("state_directory", format!("`{state}` is not a directory below /var/lib")));
        }
        put("StateDirectory", state);
    }
    let directory = match (service.working_directory, &service.state_directory) {
        (Some(directory), _) => {
            is_path(&directory).map_err(|message| fail("working_directory", message))?;
            Some(directory)
        }
        (None, Some(state)) => Some(format!("/var/lib/{state}")),
        (None, None) => None,
    };
    if let Some(directory) = directory {
        put("WorkingDirectory", &directory);
    }
    lines("before", service.before)?.iter().for_each(|line| put("ExecStartPre", line));
    put("ExecStart", &line("run", &service.run.unwrap_or_default())?);
    put("Restart", "on-failure");
    Ok(Unit { text, start: service.start.unwrap_or(true) })
}

/// As systemd takes a value apart: quotes, backslashes, and its specifiers.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"))
}

#[cfg(test)]
mod tests;
