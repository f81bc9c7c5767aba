//! The identities of this user, the rules and files of a project, and git.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::commands::{Context, git};
use crate::edge::finding::Finding;
use crate::edge::git::Git;
use crate::host::project::Project;
use crate::keys::identity::{self, Belongs, Half, Place};
use crate::keys::recipient::SameKey;
use crate::secrets::Session;
use crate::secrets::check::{self, Source, check};
use crate::secrets::discover::candidates;
use crate::secrets::who::{FileReaders, Readers, Standing, who};

/// Findings of one kind that are shown one by one; the command that is named shows all.
const SHOWN: usize = 5;

pub(super) fn look(project: &Project, session: &Session, context: &Context) -> Vec<Finding> {
    let root = project.root().to_path_buf();
    let files = who(session, std::slice::from_ref(&root));
    let mut findings = identities(session, &files);
    findings.extend(closed_hosts(project, session, &files));
    findings.extend(rules(session, &root));
    findings.extend(of_git(&root, &files, context));
    findings
}

/// Files with identities of this user that others may read.
pub(super) fn open_identities(session: &Session) -> Vec<PathBuf> {
    let reports = session.identities().reports().into_iter();
    let found = reports.filter(|report| matches!(report.finding, identity::Finding::Found(_)));
    let files = found.filter_map(|report| match report.place {
        Place::File(path) | Place::NamedFile(_, path) => Some(path),
        Place::Variable(_) | Place::Command(_) => None,
    });
    files
        .filter(|path| path.metadata().is_ok_and(|found| found.is_file() && found.mode() & 0o077 != 0))
        .collect()
}

/// Each place of identities with the number of files that they open.
fn identities(session: &Session, files: &[FileReaders]) -> Vec<Finding> {
    const AREA: &str = "identities";
    let readable: Vec<&Readers> = files.iter().filter_map(|file| file.readers.as_ref().ok()).collect();
    let mut findings = Vec::new();
    let mut has_any = false;
    for report in session.identities().reports() {
        for problem in &report.problems {
            findings.push(Finding::warning(
                AREA,
                format!("{}: {problem}", report.place),
                "correct or remove it",
            ));
        }
        match report.finding {
            identity::Finding::Found(halves) if !halves.is_empty() => {
                has_any = true;
                let opens = |least: Belongs| {
                    readable.iter().filter(|file| opened(file, |key| best(&halves, key)) >= least).count()
                };
                let (surely, perhaps) = (opens(Belongs::Yes), opens(Belongs::Perhaps));
                let perhaps = match perhaps - surely {
                    0 => String::new(),
                    more => format!(", perhaps {more} more"),
                };
                let message = format!("{} opens {surely} of {} files{perhaps}", report.place, files.len());
                findings.push(Finding::ok(AREA, message));
            }
            identity::Finding::NotAskedYet => {
                has_any = true;
                findings.push(Finding::ok(AREA, format!("{} was not run", report.place)));
            }
            _ => {}
        }
    }
    if !has_any && !files.is_empty() {
        let message = format!("none was found; encrypted files here: {}", files.len());
        findings.push(Finding::warning(AREA, message, "`civm keys init` makes one of your ssh key"));
    }
    findings
}

fn best(halves: &[Half], key: &SameKey) -> Belongs {
    halves.iter().map(|half| half.belongs(key)).max().unwrap_or(Belongs::No)
}

/// Whether a file opens with identities that belong to its recipients as said.
fn opened(file: &Readers, belongs: impl Fn(&SameKey) -> Belongs) -> Belongs {
    let of_group = |group: &Vec<_>| {
        let now =
            group.iter().filter(|reader: &&crate::secrets::who::Reader| reader.standing != Standing::Added);
        now.map(|reader| belongs(&reader.key)).max().unwrap_or(Belongs::No)
    };
    let mut groups: Vec<Belongs> = file.groups.iter().map(of_group).collect();
    groups.sort_unstable_by(|a, b| b.cmp(a));
    // As many as are needed; the least of the best decides.
    groups.get(file.needed.max(1) - 1).copied().unwrap_or(Belongs::No)
}

/// Hosts whose secrets nobody here opens: they start only without them.
fn closed_hosts(project: &Project, session: &Session, files: &[FileReaders]) -> Vec<Finding> {
    const AREA: &str = "secrets";
    let identities = session.identities();
    let mut findings = Vec::new();
    for host in project.hosts().unwrap_or_default() {
        let Ok(path) = project.secrets_file(&host).canonicalize() else { continue };
        let Some(file) = files.iter().find(|file| file.path == path) else { continue };
        match &file.readers {
            Ok(readers) => {
                let any = |recipient: &str| identities.belongs(recipient);
                let by_text = |key: &SameKey| {
                    let same = readers.groups.iter().flatten().find(|reader| reader.key == *key);
                    same.map_or(Belongs::No, |reader| any(&reader.recipient))
                };
                if opened(readers, by_text) == Belongs::No {
                    findings.push(Finding::warning(
                        AREA,
                        format!("no identity here opens hosts/{host}/secrets.yaml"),
                        format!(
                            "one of its readers can add your key (`civm secrets who hosts/{host}/secrets.yaml` names them); \
                             `civm up {host} --without-secrets` starts it without"
                        ),
                    ));
                }
            }
            // Rules that cannot be read are told once, below.
            Err(_) if session.own_rules().is_err() => {}
            Err(error) => {
                findings.push(Finding::problem(AREA, error.to_string(), "`civm secrets check` says more"));
            }
        }
    }
    findings
}

/// The health of the rules, and of the files that they govern.
fn rules(session: &Session, root: &Path) -> Vec<Finding> {
    const AREA: &str = "rules";
    let paths = [root.to_path_buf()];
    let sources = candidates(&paths, &session.environment).into_iter().map(Source::of).collect();
    let report = check(session, sources, false);
    let is_of_rules = |finding: &&check::Finding| finding.path.ends_with(crate::rules::FILE);
    let (of_rules, of_files): (Vec<_>, Vec<_>) = report.findings.iter().partition(is_of_rules);
    let mut findings = Vec::new();
    for found in &of_rules {
        let (message, remedy) = (found.line(session), found.kind.help());
        findings.push(if found.is_warning {
            Finding::warning(AREA, message, remedy)
        } else {
            Finding::problem(AREA, message, remedy)
        });
    }
    let files: Vec<&PathBuf> = report.files.iter().chain(&report.unruled).collect();
    findings.extend(unused_rules(session, &files));
    if of_files.iter().any(|found| !found.is_warning) {
        let first =
            of_files.iter().filter(|found| !found.is_warning).take(SHOWN).map(|found| found.line(session));
        for line in first {
            findings.push(Finding::problem(
                "files",
                line,
                "`civm secrets check` shows all findings, with help",
            ));
        }
    }
    if findings.is_empty() {
        findings.push(match session.own_rules() {
            Ok(Some(_)) => {
                Finding::ok(AREA, format!("sops files that comply with them: {}", report.files.len()))
            }
            _ => Finding::ok(AREA, "there is no .sops.yaml"),
        });
    }
    findings
}

/// Rules that no file comes under.
fn unused_rules(session: &Session, files: &[&PathBuf]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rules in session.known_rules() {
        let mut used = BTreeSet::new();
        for file in files {
            let governs =
                session.rules(file).ok().flatten().is_some_and(|of_file| of_file.path == rules.path);
            if governs && let Ok(Some(index)) = rules.config.position(&rules.match_path(file)) {
                used.insert(index);
            }
        }
        let all = (0..).map_while(|index| rules.config.rule(index).map(|rule| (index, rule)));
        for (index, rule) in all.filter(|(index, _)| !used.contains(index)) {
            let Ok(rule) = rule else { continue };
            let line = rules.config.line(index).map(|line| format!(":{line}")).unwrap_or_default();
            findings.push(Finding::warning(
                "rules",
                format!(
                    "{}{line}: no file comes under the rule `{}`",
                    session.shown(&rules.path),
                    rule.path_regex
                ),
                "remove it, or correct its path_regex; an earlier rule may match its files",
            ));
        }
    }
    findings
}

/// Whether git merges the project's sops files by their values.
fn of_git(root: &Path, files: &[FileReaders], context: &Context) -> Option<Finding> {
    const AREA: &str = "git";
    const REMEDY: &str = "`civm git install` sets it up; then commit .gitattributes";
    if files.is_empty() || Git::here(&context.environment, root).top().is_err() {
        return None;
    }
    Some(match git::missing(root, context) {
        Ok(missing) if missing.is_empty() => Finding::ok(AREA, "sops files are merged value by value"),
        Ok(_) => Finding::warning(AREA, "it is not set up to merge sops files value by value", REMEDY),
        Err(failure) => Finding::warning(AREA, failure.message, REMEDY),
    })
}
