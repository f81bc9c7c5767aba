//! Which files of a repository git should merge and diff with civm.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ignore::gitignore::GitignoreBuilder;
use rayon::prelude::*;

use super::attributes;
use crate::commands::Context;
use crate::rules::globs::of_formats;
use crate::rules::{Config, FILE, decode};
use crate::secrets::Session;
use crate::secrets::discover::{Candidate, candidates, sops_text};

/// The patterns for a work tree: those of its rules, so that new files are covered and two branches write the same lines,
/// and one for each sops file that matches no rule.
pub(super) fn patterns(top: &Path, session: &Session, context: &Context) -> Vec<String> {
    let top = top.canonicalize().unwrap_or_else(|_| top.to_path_buf());
    let found = candidates(std::slice::from_ref(&top), &context.environment);
    let files: Vec<&PathBuf> = found
        .iter()
        .filter(|(_, candidate)| !matches!(candidate, Candidate::Failed(_)))
        .map(|(path, _)| path)
        .collect();
    let mut globs: Vec<String> = Vec::new();
    let mut add = |more: Vec<String>| {
        for glob in more {
            if !globs.contains(&glob) {
                globs.push(glob);
            }
        }
    };
    let (mut any, mut inside) = (false, false);
    for path in files.iter().filter(|path| path.file_name() == Some(OsStr::new(FILE))) {
        let directory =
            path.parent().and_then(|parent| parent.strip_prefix(&top).ok()).and_then(Path::to_str);
        let config = std::fs::read(path).ok().and_then(|text| Config::parse(&decode(&text).ok()?).ok());
        if let (Some(directory), Some(config)) = (directory, config) {
            any |= config.has_creation_rules();
            inside |= directory.is_empty();
            let directory = if directory.is_empty() { String::new() } else { format!("{directory}/") };
            add(config.globs(&directory));
        }
    }
    // Rules from outside the work tree may match files of any name.
    if !any || !inside && session.rules_path(&top).is_some() {
        add(of_formats(""));
    }
    let mut matcher = GitignoreBuilder::new(&top);
    for glob in &globs {
        // A glob that cannot be parsed covers nothing, so its files get lines of their own.
        let _ = matcher.add_line(None, glob);
    }
    let matcher = matcher.build();
    let covered =
        |path: &Path| matcher.as_ref().is_ok_and(|matcher| matcher.matched(path, false).is_ignore());
    let alone: BTreeSet<String> = files
        .into_par_iter()
        .filter(|path| !covered(path) && sops_text(path).is_ok_and(|text| text.is_some()))
        .filter_map(|path| path.strip_prefix(&top).ok())
        .map(|path| attributes::of_path(path.as_os_str().as_bytes()))
        .collect();
    globs.iter().map(|glob| attributes::quoted(glob.as_bytes())).chain(alone).collect()
}
