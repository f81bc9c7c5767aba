//! `civm doctor`: looks at this machine and the project, and says what to do about what is wrong.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::screen::counted;
use super::{Context, gc, project};
use crate::cli::doctor::Doctor;
use crate::edge::finding::{Finding, State};
use crate::host::project::Project;
use crate::host::spec::Arch;
use crate::image::debian;
use crate::instance::state::Limits;
use crate::instance::{Home, doctor};
use crate::outcome::{Code, Failure, Outcome};

mod hosts;
mod secrets;

/// What was found, and what `--fix` did.
struct Report {
    fix: bool,
    findings: Vec<Finding>,
    fixed: Vec<String>,
}

pub(super) fn run(args: &Doctor, context: &Context) -> Outcome {
    let found = match project::find(context) {
        Ok(project) => Some(project),
        Err(failure) if context.project.is_some() => return Err(failure),
        Err(_) => None,
    };
    let mut report = Report { fix: args.fix, findings: Vec::new(), fixed: Vec::new() };
    report.machine(context);
    report.files(found.as_ref(), context);
    if let Some(project) = &found {
        report.findings.extend(hosts::look(project, context));
        report.secrets(project, context)?;
    } else {
        report.findings.push(Finding::ok("project", "none: this directory does not belong to one"));
    }
    report.tell(args.json, context)
}

impl Report {
    /// What machines need of this one.
    fn machine(&mut self, context: &Context) {
        let environment = &context.environment;
        let state = environment.state_dir().map(|dir| dir.join("civm"));
        let Some(state) = state else {
            let no_home = "nowhere to keep state: this account has no home directory";
            self.findings.push(Finding::problem("state", no_home, "set XDG_STATE_HOME and XDG_CACHE_HOME"));
            return;
        };
        match doctor::unwritable("state", &state, "XDG_STATE_HOME") {
            Some(finding) => self.findings.push(finding),
            None => self.state_directory(&state, context),
        }
        self.findings.push(doctor::accelerator(&state, environment));
        self.findings.push(doctor::qemu(environment));
        self.findings.extend(doctor::staging(environment));
        self.findings.push(doctor::ssh_program(environment));
        self.findings.push(match debian::check_tools(Arch::native().unwrap_or(Arch::X86_64), environment) {
            Ok(()) => Finding::ok("images", "all programs that build images are installed"),
            Err(error) => {
                let failure = super::instance::image_failure(&error);
                let remedy = failure.help.into_iter().next();
                let remedy = remedy.unwrap_or_else(|| "images that are built already still start".to_owned());
                Finding::problem("images", failure.message, remedy)
            }
        });
        match Home::existing(environment) {
            Some(home) => self.findings.extend(doctor::instances(&home)),
            None => self.findings.push(Finding::ok("instances", "0 running")),
        }
    }

    /// The directory of records and of hosts' keys: there, and nobody else's to look into.
    fn state_directory(&mut self, state: &Path, context: &Context) {
        const AREA: &str = "state";
        match fs::metadata(state) {
            Ok(found) if found.uid() != nix::unistd::geteuid().as_raw() => {
                let message = format!("{} belongs to user {}", state.display(), found.uid());
                let remedy = "run civm as that user, or set XDG_STATE_HOME to a directory of your own";
                self.findings.push(Finding::problem(AREA, message, remedy));
            }
            Ok(found) if found.mode() & 0o077 == 0 => {
                self.findings.push(Finding::ok(AREA, format!("{} is private", state.display())));
            }
            Ok(found) => {
                let message =
                    format!("others may look into {} (mode {:04o})", state.display(), found.mode() & 0o7777);
                self.make_private(AREA, message, state, 0o700);
            }
            Err(_) if self.fix && Home::find(&context.environment).is_ok() => {
                self.fixed.push(format!("created {}", state.display()));
            }
            Err(_) => {
                let message = format!("{} is created by the first `civm up`", state.display());
                self.findings.push(Finding::ok(AREA, message));
            }
        }
    }

    /// Takes the rights of others away where that is wanted, else says that they have them.
    fn make_private(&mut self, area: &'static str, message: String, path: &Path, mode: u32) {
        let own = fs::symlink_metadata(path)
            .is_ok_and(|found| found.uid() == nix::unistd::geteuid().as_raw() && !found.is_symlink());
        if self.fix && own && fs::set_permissions(path, Permissions::from_mode(mode)).is_ok() {
            self.fixed.push(format!("made {} private (mode {mode:04o})", path.display()));
        } else {
            let remedy = format!("`civm doctor --fix`, or `chmod {mode:o} {}`", path.display());
            self.findings.push(Finding::problem(area, message, remedy));
        }
    }

    /// Free space, and what killed processes left.
    fn files(&mut self, project: Option<&Project>, context: &Context) {
        const AREA: &str = "leftovers";
        let environment = &context.environment;
        let below = |dir: Option<PathBuf>| dir.map(|dir| dir.join("civm"));
        let (state, cache) = (below(environment.state_dir()), below(environment.cache_dir()));
        let project = project.map(|project| project.root().to_path_buf());
        for (what, dir) in [("state", &state), ("images", &cache), ("disks", &project)] {
            self.findings.extend(dir.as_ref().map(|dir| doctor::space(what, dir)));
        }
        let Some(cache) = cache else { return };
        self.findings.extend(doctor::unwritable("images", &cache, "XDG_CACHE_HOME"));
        let left = match gc::leftovers(!self.fix, Limits::LEFTOVERS, &cache, context) {
            Ok(left) => left,
            Err(failure) => {
                let remedy = "look at the rights of that directory, and at its file system";
                self.findings.push(Finding::problem(AREA, failure.message, remedy));
                return;
            }
        };
        if left.is_empty() {
            self.findings.push(Finding::ok(AREA, "none"));
        }
        for one in left {
            if self.fix {
                self.fixed.push(format!("removed: {}", one.line()));
            } else {
                self.findings.push(Finding::warning(AREA, one.line(), "`civm doctor --fix` removes it"));
            }
        }
    }

    fn secrets(&mut self, project: &Project, context: &Context) -> Result<(), Failure> {
        let session = super::secrets::session(context, None)?;
        for path in secrets::open_identities(&session) {
            let message = format!("others may read {}", path.display());
            self.make_private("identities", message, &path, 0o600);
        }
        self.findings.extend(secrets::look(project, &session, context));
        Ok(())
    }

    fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }

    fn tell(&self, as_json: bool, context: &Context) -> Outcome {
        let (problems, warnings) = (self.count(State::Problem), self.count(State::Warning));
        if as_json {
            let checks: Vec<Value> = self.findings.iter().map(describe).collect();
            let report = json!({
                "problems": problems,
                "warnings": warnings,
                "fixed": self.fixed,
                "checks": checks,
            });
            context.screen.line(format!("{report:#}"))?;
        } else {
            let width = self.findings.iter().map(|finding| finding.area.len()).max().unwrap_or_default();
            for done in &self.fixed {
                context.screen.line(format!("{:8} {done}", "fixed"))?;
            }
            for Finding { area, state, message, remedy } in &self.findings {
                context.screen.line(format!("{state:8} {area:width$}  {message}"))?;
                if let Some(remedy) = remedy {
                    context.screen.line(format!("{:8} {:width$}  help: {remedy}", "", ""))?;
                }
            }
            context.screen.note(match (problems, warnings) {
                (0, 0) => "all is well".to_owned(),
                (0, _) => format!("no problem, {}", counted(warnings, "warning")),
                _ => format!("{}, {}", counted(problems, "problem"), counted(warnings, "warning")),
            });
        }
        Ok(if problems == 0 { 0 } else { Code::Generic as u8 })
    }
}

fn describe(finding: &Finding) -> Value {
    json!({
        "area": finding.area,
        "state": finding.state.name(),
        "message": finding.message,
        "remedy": finding.remedy,
    })
}
