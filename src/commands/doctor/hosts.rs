//! The hosts of a project: that they can be read, and what they ask of this machine.

use crate::commands::{Context, project};
use crate::edge::finding::Finding;
use crate::host::parcel::Order;
use crate::host::project::Project;
use crate::host::spec::{Arch, Spec};
use crate::instance::{Home, doctor};
use crate::lifecycle;

pub(super) fn look(project: &Project, context: &Context) -> Vec<Finding> {
    const AREA: &str = "hosts";
    let names = match project.hosts() {
        Ok(names) => names,
        Err(error) => {
            return vec![Finding::problem(AREA, error.to_string(), "make the directory hosts/ readable")];
        }
    };
    let mut findings = Vec::new();
    let mut specs: Vec<Spec> = Vec::new();
    for name in &names {
        match project::load(project, name) {
            Ok(spec) => specs.push(spec),
            Err(failure) => {
                let remedy = failure.help.into_iter().next();
                let remedy = remedy.unwrap_or_else(|| format!("correct hosts/{name}/host.yaml"));
                findings.push(Finding::problem(AREA, failure.message, remedy));
            }
        }
    }
    findings.push(Finding::ok(AREA, format!("{} of {} can be read", specs.len(), names.len())));
    let sizes: Vec<_> =
        specs.iter().map(|spec| (spec.name.clone(), spec.memory.in_mebibytes(), spec.cpus)).collect();
    findings.extend(doctor::memory(&sizes));
    findings.extend(foreign(&specs, context));
    let running = Home::existing(&context.environment).map(|home| home.view().running()).unwrap_or_default();
    let clashes: Vec<Finding> = specs
        .iter()
        .flat_map(|spec| doctor::ports(project.root(), &spec.name, &spec.forwards, &running))
        .collect();
    if clashes.is_empty() && !specs.is_empty() {
        findings.push(Finding::ok("ports", "those of all hosts are free, or held by their own machines"));
    }
    findings.extend(clashes);
    findings.extend(
        specs.iter().filter(|spec| spec.nixos().is_none()).find_map(|spec| warm_start(spec, context)),
    );
    findings
}

/// A warm start of a host's machine, where there is a template of it.
fn warm_start(spec: &Spec, context: &Context) -> Option<Finding> {
    const AREA: &str = "warm start";
    match lifecycle::try_template(&Order::of(spec), &context.environment) {
        Ok(None) => None,
        Ok(Some(took)) => Some(Finding::ok(
            AREA,
            format!(
                "a machine of `{}` was resumed from its template in {:.1} s, and became one of its own",
                spec.name,
                took.as_secs_f32()
            ),
        )),
        Err(error) => Some(Finding::warning(
            AREA,
            format!("a machine of `{}` cannot be resumed from its template: {error}", spec.name),
            "remove the template (`civm image ls`, `civm image rm`); `civm up --cold` boots without it",
        )),
    }
}

/// Hosts of another architecture need its QEMU.
fn foreign(specs: &[Spec], context: &Context) -> Vec<Finding> {
    let foreign = specs.iter().filter(|spec| Arch::native() != Some(spec.arch));
    let missing = foreign.filter(|spec| context.environment.find_program(spec.arch.qemu()).is_none());
    missing
        .map(|spec| {
            Finding::warning(
                "qemu",
                format!("`{}` is {}, and `{}` is not in PATH", spec.name, spec.arch, spec.arch.qemu()),
                format!("sudo apt-get install {}", doctor::package(spec.arch)),
            )
        })
        .collect()
}
