//! `civm keys new-host`: creates an ssh host key, a rule for the host, its secrets file and a minimal host.yaml.

use std::fs;
use std::path::{Path, PathBuf};

use rand::rngs::OsRng;

use crate::cli::keys::NewHost as Args;
use crate::commands::{Context, init, project, secrets};
use crate::edge::atomic::{self, WriteError};
use crate::edge::lock::Lock;
use crate::host::project::{HOSTS, Project, SCHEMA_FILE, is_name, starter};
use crate::host::schema;
use crate::keys::recipient::{Recipient, same_key, shown};
use crate::keys::ssh::host_key::HostKey;
use crate::outcome::{Code, Failure, Outcome};
use crate::rules::Config;
use crate::rules::edit::{NewHost, add_host, decode};
use crate::secrets::Session;
use crate::secrets::file::NewFile;
use crate::secrets::recipients::Plan;
use crate::secrets::session::Rules;

/// The first port forwarded to ssh on a new host; each new host gets the next one that no host uses.
const FIRST_PORT: u16 = 2222;

pub(super) fn run(args: &Args, context: &Context) -> Outcome {
    let project = project::find(context)?;
    let name = &args.name;
    if !is_name(name) {
        return Err(project::failure(crate::host::error::Error::BadName { name: name.clone() }));
    }
    let (file, host_file) = (project.secrets_file(name), project.host_file(name));
    if file.symlink_metadata().is_ok() {
        return Err(Failure::new(Code::Generic, format!("`{}` already exists", file.display()))
            .help(format!("change it with `civm secrets edit {}`", file.display())));
    }
    let rules = project.rules_file();
    // From here on, nobody else may change the project's rules and ports.
    let _lock = Lock::exclusive(project.root()).map_err(|error| wrong(project.root(), &error))?;
    let bytes = fs::read(&rules).map_err(|error| {
        Failure::new(Code::Generic, format!("cannot read `{}`: {error}", rules.display()))
            .help("`civm init` creates a project with rules")
    })?;
    let before = decode(&bytes).map_err(|error| wrong(&rules, &error))?;

    let key = HostKey::generate(&mut OsRng, name).map_err(|error| wrong(&rules, &error))?;
    let readers = readers(args, &before, &rules, context)?;
    let inside = format!("hosts/{name}/secrets.yaml");
    let host = NewHost { name, recipient: key.recipient(), path: &inside, readers: &readers };
    let after = add_host(&before, host).map_err(|error| wrong(&rules, &error))?;

    let session = secrets::session_at(context, project.root().to_path_buf());
    let sealed = seal(&key, &after, &rules, &file, &session)?;
    write(&project, name, &sealed, &after)?;

    context.screen.note(format!(
        "`{}` holds the host's ssh key; {} recipients and the host itself can read it",
        file.display(),
        readers.len()
    ));
    context.screen.note(format!("`{}` lists its key as {name}", rules.display()));
    context.screen.note(format!("`{}` describes the machine", host_file.display()));
    context.screen.note(format!("next: `civm secrets edit {}`, `civm up {name}`", file.display()));
    context.screen.line(key.recipient())?;
    Ok(0)
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::Generic, format!("`{}`: {error}", path.display()))
}

/// Who can read the new file besides the host: the recipients common to all rules, else the caller; and those given.
fn readers(args: &Args, rules: &str, path: &Path, context: &Context) -> Result<Vec<String>, Failure> {
    let config = Config::parse(rules).map_err(|error| wrong(path, &error))?;
    let mut readers = config.common_recipients().map_err(|error| wrong(path, &error))?;
    if readers.is_empty() {
        match init::own_recipient(context) {
            Ok(own) => readers.push(own),
            Err(_) if !args.recipient.is_empty() => {}
            Err(failure) => return Err(failure),
        }
    }
    let kinds = common_kinds(&config).map_err(|error| wrong(path, &error))?;
    if !kinds.is_empty() {
        context.screen.warn(format!(
            "all rules have {} keys, which civm cannot encrypt to: their owners will not be able to read the new \
             file",
            kinds.join(" and ")
        ));
    }
    for recipient in &args.recipient {
        let recipient = recipient.trim();
        Recipient::parse(recipient).map_err(|error| {
            Failure::new(Code::Generic, format!("recipient `{}`: {error}", shown(recipient)))
        })?;
        if !readers.iter().any(|reader| same_key(reader) == same_key(recipient)) {
            readers.push(recipient.to_owned());
        }
    }
    Ok(readers)
}

/// The kinds of keys other than age that every rule has.
fn common_kinds(config: &Config) -> Result<Vec<&'static str>, crate::rules::Error> {
    let rules = config.rules()?;
    let Some((first, others)) = rules.split_first() else { return Ok(Vec::new()) };
    let mut kinds = first.other_kinds();
    kinds.retain(|kind| others.iter().all(|rule| rule.other_kinds().contains(kind)));
    Ok(kinds)
}

/// The secrets file, encrypted according to the new rules.
fn seal(key: &HostKey, rules: &str, path: &Path, file: &Path, session: &Session) -> Result<Vec<u8>, Failure> {
    let rules = Rules::of_bytes(path.to_path_buf(), rules.as_bytes()).map_err(secrets::failure)?;
    let plan = Plan::of(&rules, session, file).map_err(secrets::failure)?;
    NewFile::of_secrets(session, file, [("ssh_host_ed25519_key", key.private().as_str())])
        .and_then(|new| new.seal(&plan, session))
        .map_err(secrets::failure)
}

/// Writes the rules last: until then only the host's own new files have been created, and a failure removes
/// those.
fn write(project: &Project, name: &str, sealed: &[u8], rules: &str) -> Result<(), Failure> {
    let mut made: Vec<PathBuf> = Vec::new();
    let done = (|| {
        let dir = project.host_dir(name);
        if !dir.exists() {
            fs::create_dir_all(&dir).map_err(|error| unwritable(&dir, &error))?;
            made.push(dir);
        }
        let schema = project.root().join(HOSTS).join(SCHEMA_FILE);
        if schema.symlink_metadata().is_err() {
            atomic::create(&schema, schema::text().as_bytes(), 0o644, false).map_err(unwritten)?;
            made.push(schema);
        }
        let host_file = project.host_file(name);
        if !host_file.exists() {
            let text = starter(free_port(project)?);
            atomic::create(&host_file, text.as_bytes(), 0o644, false).map_err(unwritten)?;
            made.push(host_file);
        }
        let file = project.secrets_file(name);
        atomic::create(&file, sealed, 0o644, false).map_err(unwritten)?;
        made.push(file);
        atomic::replace(&project.rules_file(), rules.as_bytes(), 0o644).map_err(unwritten)
    })();
    if done.is_err() {
        for path in made.iter().rev() {
            // What cannot be removed is left; the user is told of the original failure.
            let _ = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
    done
}

fn unwritten(error: WriteError) -> Failure {
    Failure::new(Code::CouldNotWriteOutput, error.to_string())
}

fn unwritable(dir: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::CouldNotWriteOutput, format!("cannot create `{}`: {error}", dir.display()))
}

/// A port that no host of the project forwards. Hosts whose host.yaml cannot be read are skipped.
fn free_port(project: &Project) -> Result<u16, Failure> {
    let mut taken = Vec::new();
    for host in project.hosts().map_err(project::failure)? {
        if let Ok(spec) = project::load(project, &host) {
            taken.extend(spec.forwards.iter().map(|forward| forward.host_port));
        }
    }
    Ok((FIRST_PORT..u16::MAX).find(|port| !taken.contains(port)).unwrap_or(FIRST_PORT))
}
