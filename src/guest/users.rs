//! Users of the layer: made with the image's own tools, locked when a layer no longer has them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

use super::notes::Notes;
use super::state::State;
use super::{Error, console, files};
use crate::edge::account;
use crate::host::layer::{Layer, User};
use crate::vm::agent::answer::{How, What};

mod add;

/// Where sshd looks for keys; no user can write there.
pub(super) const KEYS_DIR: &str = "/etc/ssh/authorized_keys.d";
/// Who may use sudo.
const SUDOERS: &str = "/etc/sudoers.d/civm";
/// Shell of a user that the layer no longer has.
const NO_SHELL: &str = "/usr/sbin/nologin";
/// The ids that host.yaml gives to users.
const UIDS: RangeInclusive<u32> = 1_000..=59_999;
/// A password that no text matches; unlike `!`, it lets sshd accept keys.
const KEYS_ONLY: &str = "*";

/// A program to run for a user or group, whose name comes last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    program: &'static str,
    args: Vec<String>,
}

impl Step {
    fn new<const N: usize>(program: &'static str, args: [&str; N]) -> Self {
        Self { program, args: args.iter().map(|arg| (*arg).to_owned()).collect() }
    }

    fn and<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Whose step it is.
    fn name(&self) -> &str {
        self.args.last().map_or("", String::as_str)
    }

    /// Does it. Most new users need no program for that.
    fn take(&self, layer: &Layer) -> Result<(), Error> {
        let new = layer.users.iter().find(|user| self.program == "useradd" && user.name == self.name());
        if let Some(user) = new
            && add::add(user, self.args.iter().any(|arg| arg == "-g"), Path::new("/"))?
        {
            return Ok(());
        }
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        console::run(self.program, &args)
    }

    /// What it changes.
    fn note(&self, notes: &mut Notes) {
        let (what, how) = match self.program {
            "groupadd" => (What::Group, How::Added),
            "useradd" => (What::User, How::Added),
            _ if self.args.iter().any(|arg| arg == NO_SHELL) => (What::User, How::Removed),
            _ => (What::User, How::Changed),
        };
        notes.note(what, how, self.name());
    }
}

/// Makes, changes and locks users and groups as the layer wants it. One that cannot be is a warning: root
/// can still log in and look.
pub(super) fn apply(layer: &Layer, state: &mut State, dry_run: bool, notes: &mut Notes) -> Result<(), Error> {
    let accounts = Accounts::read()?;
    let steps = plan(layer, &accounts, state);
    steps.iter().for_each(|step| step.note(notes));
    authorize(layer, Path::new(KEYS_DIR), dry_run, notes)?;
    sudoers(layer, Path::new(SUDOERS), dry_run, notes)?;
    if dry_run {
        return Ok(());
    }
    let mut failed = BTreeSet::new();
    for step in steps {
        if let Err(error) = step.take(layer) {
            let what = if step.program == "groupadd" { "group" } else { "user" };
            notes.warn(format!("{what} {}: {error}", step.name()));
            failed.insert(step.name().to_owned());
        }
    }
    for user in &layer.users {
        if let (Some(wanted), Some(account)) = (user.uid, accounts.users.get(&user.name))
            && account.uid != wanted
        {
            console::log(&format!(
                "user {} keeps its id {} (host.yaml has {wanted})",
                user.name, account.uid
            ));
        }
    }
    let after = Accounts::read()?;
    remember(layer, &accounts, &after, &failed, state);
    own_homes(layer, &after, state, Path::new("/"), notes);
    Ok(())
}

/// Gives users the directories below their homes that the layer needed before they were there. The files in them stay
/// root's, as all files of a layer.
fn own_homes(layer: &Layer, accounts: &Accounts, state: &State, root: &Path, notes: &mut Notes) {
    for account in layer.users.iter().filter_map(|user| accounts.users.get(&user.name)) {
        let home = Path::new(account.home.trim_start_matches('/'));
        if home.as_os_str().is_empty() {
            continue;
        }
        for dir in state.dirs.iter().filter(|dir| dir.starts_with(home)) {
            // A link that the user has put there leads to what is not the user's.
            let plain = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_dir());
            let below = dir.ancestors().take_while(|path| path.starts_with(home));
            let path = root.join(dir);
            if below.map(|path| root.join(path)).all(|path| plain(&path))
                && path.symlink_metadata().is_ok_and(|found| found.uid() == 0)
                && let Err(error) = lchown(&path, Some(account.uid), account.gid)
            {
                notes.warn(format!("{}: {error}", path.display()));
            }
        }
    }
}

/// What was made and locked; what failed is tried again at the next boot.
fn remember(
    layer: &Layer,
    before: &Accounts,
    after: &Accounts,
    failed: &BTreeSet<String>,
    state: &mut State,
) {
    let wanted: BTreeSet<String> = layer.users.iter().map(|user| user.name.clone()).collect();
    let is_new = |name: &&String| !before.users.contains_key(*name) && after.users.contains_key(*name);
    state.users.extend(wanted.iter().filter(is_new).cloned());
    let done = |name: &&String| !failed.contains(*name);
    let locked = state.users.difference(&wanted).filter(done);
    let still = state.locked.intersection(failed);
    state.locked = locked.chain(still).cloned().collect();
}

#[derive(Debug)]
struct Account {
    uid: u32,
    gid: Option<u32>,
    home: String,
    shell: String,
}

/// The users and groups of the guest.
#[derive(Debug, Default)]
struct Accounts {
    users: BTreeMap<String, Account>,
    /// Members by group.
    groups: BTreeMap<String, BTreeSet<String>>,
}

impl Accounts {
    /// Those of this machine.
    fn read() -> Result<Self, Error> {
        let read = |path: &str| fs::read_to_string(path).map_err(Error::io("read", path));
        Ok(Self::parse(&read("/etc/passwd")?, &read("/etc/group")?))
    }

    /// From the text of passwd(5) and group(5).
    fn parse(passwd: &str, group: &str) -> Self {
        let users = account::users(passwd).map(|user| {
            let account = Account {
                uid: user.uid,
                gid: user.gid,
                home: user.home.to_owned(),
                shell: user.shell.to_owned(),
            };
            (user.name.to_owned(), account)
        });
        let groups = account::groups(group)
            .map(|group| (group.name.to_owned(), group.members.into_iter().map(str::to_owned).collect()));
        Self { users: users.collect(), groups: groups.collect() }
    }

    /// The supplementary groups of a user.
    fn groups_of(&self, user: &str) -> BTreeSet<&str> {
        let mine = self.groups.iter().filter(|(_, members)| members.contains(user));
        mine.map(|(name, _)| name.as_str()).collect()
    }
}

/// What has to be run, in order; nothing where everything already is as wanted.
fn plan(layer: &Layer, accounts: &Accounts, state: &State) -> Vec<Step> {
    let mut steps = Vec::new();
    let wanted: BTreeSet<&String> =
        layer.groups.iter().chain(layer.users.iter().flat_map(|user| &user.groups)).collect();
    for group in wanted.iter().filter(|group| !accounts.groups.contains_key(**group)) {
        steps.push(Step::new("groupadd", ["-r", "--", group]));
    }
    steps.extend(make_room(layer, accounts, state));
    // Those without an id last: they take what the others leave.
    let (with_id, without): (Vec<&User>, Vec<&User>) = layer.users.iter().partition(|u| u.uid.is_some());
    for user in with_id.into_iter().chain(without) {
        let own_group = accounts.groups.contains_key(&user.name) || wanted.contains(&user.name);
        match accounts.users.get(&user.name) {
            None => steps.push(add(user, own_group)),
            Some(account) => {
                let ours = state.users.contains(&user.name);
                let locked = state.locked.contains(&user.name);
                steps.extend(change(user, account, &accounts.groups_of(&user.name), ours, locked));
            }
        }
    }
    let kept: BTreeSet<&String> = layer.users.iter().map(|user| &user.name).collect();
    for name in state.users.iter().filter(|name| !kept.contains(name) && !state.locked.contains(*name)) {
        if accounts.users.contains_key(name) {
            let lock = ["-p", "!", "-e", "1", "-s", NO_SHELL, "-G", "", "--", name];
            steps.push(Step::new("usermod", lock));
        }
    }
    steps
}

/// Gives another id to users of earlier layers whose ids this layer has for new ones: a user that was renamed.
fn make_room(layer: &Layer, accounts: &Accounts, state: &State) -> Vec<Step> {
    let kept: BTreeSet<&String> = layer.users.iter().map(|user| &user.name).collect();
    let new = |user: &&User| !accounts.users.contains_key(&user.name);
    let wanted: BTreeSet<u32> = layer.users.iter().filter(new).filter_map(|user| user.uid).collect();
    let taken: BTreeSet<u32> = accounts.users.values().map(|account| account.uid).collect();
    let named = layer.users.iter().filter_map(|user| user.uid).collect::<BTreeSet<u32>>();
    let mut free = UIDS.filter(|uid| !taken.contains(uid) && !named.contains(uid));
    let left = accounts.users.iter().filter(|(name, account)| {
        wanted.contains(&account.uid) && state.users.contains(*name) && !kept.contains(name)
    });
    left.zip(&mut free)
        .map(|((name, _), uid)| Step::new("usermod", ["-u", &uid.to_string(), "--", name]))
        .collect()
}

fn add(user: &User, own_group: bool) -> Step {
    let step = Step::new("useradd", ["-m", "-p", KEYS_ONLY, "-s", &user.shell]);
    let step = match user.uid {
        Some(uid) => step.and(["-u", &uid.to_string()]),
        None => step,
    };
    let step = if own_group { step.and(["-g", &user.name]) } else { step.and(["-U"]) };
    let groups = user.groups.join(",");
    let step = if groups.is_empty() { step } else { step.and(["-G", &groups]) };
    step.and(["--", &user.name])
}

/// `ours`: made for a layer, so that its groups are the layer's alone; a user of the image gets more.
fn change(user: &User, account: &Account, has: &BTreeSet<&str>, ours: bool, locked: bool) -> Option<Step> {
    let wanted: BTreeSet<&str> = user.groups.iter().map(String::as_str).collect();
    let mut step = Step { program: "usermod", args: Vec::new() };
    if locked {
        step = step.and(["-p", KEYS_ONLY, "-e", ""]);
    }
    if account.shell != user.shell {
        step = step.and(["-s", &user.shell]);
    }
    let groups = user.groups.join(",");
    if ours && *has != wanted {
        step = step.and(["-G", &groups]);
    } else if !wanted.is_subset(has) {
        step = step.and(["-a", "-G", &groups]);
    }
    if step.args.is_empty() { None } else { Some(step.and(["--", &user.name])) }
}

/// Writes the keys of everybody who may log in, and of nobody else. Whoever may still log in can do so all the time.
fn authorize(layer: &Layer, dir: &Path, dry_run: bool, notes: &mut Notes) -> Result<(), Error> {
    if !dry_run && !dir.is_dir() {
        files::remove(dir)?;
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    }
    let root = [("root", &layer.root_authorized_keys)];
    let users = layer.users.iter().map(|user| (user.name.as_str(), &user.authorized_keys));
    let mut wanted = BTreeSet::new();
    for (name, keys) in root.into_iter().chain(users) {
        if name.contains('/') || name.starts_with('.') {
            return Err(Error::content(name, "is not a user name"));
        }
        let text: String = keys.iter().map(|key| format!("{}\n", key.trim_end())).collect();
        let path = dir.join(name);
        wanted.insert(name);
        match fs::read_to_string(&path) {
            Ok(old) if old == text => {}
            Err(_) if text.is_empty() => {}
            Ok(_) => notes.note(What::Keys, How::Changed, name),
            Err(_) => notes.note(What::Keys, How::Added, name),
        }
        if !dry_run {
            files::write(&path, text.as_bytes(), 0o644)?;
        }
    }
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if wanted.contains(name.as_str()) {
            continue;
        }
        notes.note(What::Keys, How::Removed, name);
        if !dry_run {
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let done = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            done.map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Who may use sudo, where the image has it.
fn sudoers(layer: &Layer, path: &Path, dry_run: bool, notes: &mut Notes) -> Result<(), Error> {
    let users = layer.users.iter().filter(|user| user.sudo);
    let lines: String = users.map(|user| format!("{} ALL=(ALL:ALL) NOPASSWD: ALL\n", user.name)).collect();
    if !lines.is_empty() && !path.parent().is_some_and(Path::is_dir) {
        if !dry_run {
            console::log("host.yaml gives users sudo, but the image has none: add it to `packages`");
        }
        return Ok(());
    }
    let old = fs::read_to_string(path).unwrap_or_default();
    if old != lines {
        let how = if lines.is_empty() { How::Removed } else { How::Changed };
        notes.note(What::Setting, how, "sudo");
    }
    match (dry_run, lines.is_empty()) {
        (true, _) => Ok(()),
        (false, false) => files::write(path, lines.as_bytes(), 0o440),
        (false, true) => files::remove(path),
    }
}

#[cfg(test)]
mod tests;
