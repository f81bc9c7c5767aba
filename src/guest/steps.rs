//! What follows for units from what differs.

use std::collections::BTreeMap;

use super::force::InForce;
use super::notes::Notes;
use super::secrets::rendered;
use super::units;
use crate::host::layer::Layer;
use crate::install::manifest::Manifest;
use crate::vm::agent::answer::{How, Step, Verb, What};

/// What is to be done, in order: units of the layer that are new, changed or gone, services that it names, and those
/// that files and secrets name which changed. `is_enabled` says whether the image starts a unit by itself.
pub(super) fn plan(
    layer: &Layer,
    manifest: Option<&Manifest>,
    force: &InForce,
    notes: &Notes,
    is_enabled: impl Fn(&str) -> bool,
) -> Vec<Step> {
    let mut steps = Steps::default();
    for change in &notes.changes {
        match (change.what, change.how) {
            (What::Unit, How::Removed) => steps.add(Verb::Stop, &change.name),
            (What::Unit, how) => {
                if how == How::Changed {
                    steps.add(Verb::Restart, &change.name);
                }
                if layer.units.get(&change.name).is_some_and(|unit| unit.start) {
                    steps.add(Verb::Start, &change.name);
                }
            }
            (What::File, _) => {
                let named = layer.files.get(&change.name).or_else(|| force.layer.files.get(&change.name));
                if let Some(file) = named {
                    steps.all(Verb::Restart, &file.restart_units);
                    steps.all(Verb::Reload, &file.reload_units);
                }
                let artifacts = layer.artifacts.iter().chain(&force.layer.artifacts);
                for artifact in artifacts.filter(|artifact| artifact.path == change.name) {
                    steps.all(Verb::Restart, &artifact.restart_units);
                }
            }
            (What::Secret, How::Added | How::Changed) => {
                let secrets = manifest.into_iter().flat_map(|manifest| &manifest.secrets);
                for secret in secrets.filter(|secret| secret.name == change.name) {
                    steps.all(Verb::Restart, &secret.restart_units);
                    steps.all(Verb::Reload, &secret.reload_units);
                }
                let templates = manifest.into_iter().flat_map(|manifest| &manifest.templates);
                for template in templates.filter(|template| rendered(&template.name) == change.name) {
                    steps.all(Verb::Restart, &template.restart_units);
                    steps.all(Verb::Reload, &template.reload_units);
                }
            }
            _ => {}
        }
    }
    for (name, unit) in &layer.units {
        if unit.start && force.layer.units.get(name).is_some_and(|before| !before.start) {
            steps.add(Verb::Start, name);
        }
    }
    for name in layer.services.iter().filter(|name| !force.layer.services.contains(name)) {
        steps.add(Verb::Start, name);
    }
    for name in force.layer.services.iter().filter(|name| !layer.services.contains(name)) {
        if !layer.units.contains_key(name) && !is_enabled(name) {
            steps.add(Verb::Stop, name);
        }
    }
    for step in &force.pending {
        // What was to be stopped may be wanted again.
        match (step.verb, layer.units.get(&step.unit), layer.services.contains(&step.unit)) {
            (Verb::Stop, Some(unit), _) if !unit.start => {}
            (Verb::Stop, Some(_), _) | (Verb::Stop, _, true) => steps.add(Verb::Start, &step.unit),
            (verb, ..) => steps.add(verb, &step.unit),
        }
    }
    if layer.console_login != force.layer.console_login {
        steps.add(if layer.console_login { Verb::Start } else { Verb::Stop }, units::CONSOLE);
    }
    steps.in_order()
}

/// What is to be done with each unit.
#[derive(Default)]
struct Steps(BTreeMap<String, Vec<Verb>>);

impl Steps {
    fn add(&mut self, verb: Verb, unit: &str) {
        let verbs = self.0.entry(unit.to_owned()).or_default();
        if !verbs.contains(&verb) {
            verbs.push(verb);
        }
    }

    fn all(&mut self, verb: Verb, units: &[String]) {
        units.iter().for_each(|unit| self.add(verb, unit));
    }

    /// One that is restarted need not be reloaded, and one that is stopped neither.
    fn in_order(self) -> Vec<Step> {
        let mut out: Vec<Step> = Vec::new();
        for (unit, verbs) in self.0 {
            let (stopped, restarted) = (verbs.contains(&Verb::Stop), verbs.contains(&Verb::Restart));
            let wanted = verbs.into_iter().filter(|verb| match verb {
                Verb::Stop => true,
                Verb::Reload => !restarted && !stopped,
                Verb::Restart | Verb::Start => !stopped,
            });
            out.extend(wanted.map(|verb| Step { verb, unit: unit.clone() }));
        }
        out.sort_by_key(|step| step.verb);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::layer::{File, Unit};
    use crate::install::manifest::Secret;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn planned(layer: &Layer, force: &InForce, notes: &Notes) -> Vec<String> {
        let secret = Secret {
            name: "token".to_owned(),
            restart_units: strings(&["app.service"]),
            reload_units: strings(&["web.service"]),
            ..Secret::default()
        };
        let manifest = Manifest { secrets: vec![secret], ..Manifest::default() };
        let steps = plan(layer, Some(&manifest), force, notes, |name| name == "enabled.service");
        steps.iter().map(|step| format!("{} {}", step.verb.name(), step.unit)).collect()
    }

    fn notes(changes: &[(What, How, &str)]) -> Notes {
        let mut notes = Notes::default();
        changes.iter().for_each(|(what, how, name)| notes.note(*what, *how, *name));
        notes
    }

    #[test]
    fn units_of_the_layer_follow_their_text() {
        let unit = |start| Unit { text: String::new(), start };
        let units =
            [("new.service", true), ("changed.service", true), ("idle.service", false), ("on.service", true)];
        let layer = Layer {
            units: units.into_iter().map(|(name, start)| (name.to_owned(), unit(start))).collect(),
            ..Layer::default()
        };
        let before = Layer { units: [("on.service".to_owned(), unit(false))].into(), ..Layer::default() };
        let force = InForce { layer: before, ..InForce::default() };
        let notes = notes(&[
            (What::Unit, How::Added, "new.service"),
            (What::Unit, How::Changed, "changed.service"),
            (What::Unit, How::Changed, "idle.service"),
            (What::Unit, How::Removed, "old.service"),
        ]);
        assert_eq!(
            planned(&layer, &force, &notes),
            [
                "stop old.service",
                "restart changed.service",
                "restart idle.service",
                "start changed.service",
                "start new.service",
                "start on.service",
            ]
        );
    }

    #[test]
    fn files_and_secrets_name_units() {
        let file = |restart: &[&str], reload: &[&str]| File {
            restart_units: strings(restart),
            reload_units: strings(reload),
            ..File::default()
        };
        let layer = Layer {
            files: [("/etc/a".to_owned(), file(&["a.service"], &["app.service"]))].into(),
            ..Layer::default()
        };
        let before =
            Layer { files: [("/etc/gone".to_owned(), file(&["gone.service"], &[]))].into(), ..layer.clone() };
        let force = InForce { layer: before, ..InForce::default() };
        let changes = [
            (What::File, How::Changed, "/etc/a"),
            (What::File, How::Removed, "/etc/gone"),
            (What::File, How::Changed, "/etc/b"),
            (What::Secret, How::Changed, "token"),
        ];
        let all = ["restart a.service", "restart app.service", "restart gone.service", "reload web.service"];
        assert_eq!(planned(&layer, &force, &notes(&changes)), all);
        assert_eq!(planned(&layer, &force, &notes(&[(What::Secret, How::Removed, "token")])), [""; 0]);
    }

    #[test]
    fn what_was_cut_off_gives_way_to_what_is_wanted_now() {
        let unit = |start| Unit { text: String::new(), start };
        let layer = Layer {
            units: [("back.service".to_owned(), unit(true)), ("idle.service".to_owned(), unit(false))].into(),
            ..Layer::default()
        };
        let step = |verb, unit: &str| Step { verb, unit: unit.to_owned() };
        let pending = vec![
            step(Verb::Stop, "back.service"),
            step(Verb::Stop, "idle.service"),
            step(Verb::Start, "gone.service"),
            step(Verb::Stop, "old.service"),
        ];
        let force = InForce { pending, ..InForce::default() };
        let notes = notes(&[(What::Unit, How::Removed, "gone.service")]);
        assert_eq!(
            planned(&layer, &force, &notes),
            ["stop gone.service", "stop old.service", "start back.service"]
        );
    }

    #[test]
    fn services_come_and_go_and_what_was_cut_off_is_done() {
        let layer = Layer { services: strings(&["new.socket"]), console_login: true, ..Layer::default() };
        let before = Layer { services: strings(&["old.socket", "enabled.service"]), ..Layer::default() };
        let pending = vec![Step { verb: Verb::Restart, unit: "late.service".to_owned() }];
        let force = InForce { layer: before, pending, ..InForce::default() };
        assert_eq!(
            planned(&layer, &force, &Notes::default()),
            ["stop old.socket", "restart late.service", "start civm-console.service", "start new.socket"]
        );
    }
}
