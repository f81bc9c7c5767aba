//! A snapshot of the variables a run starts with.
//!
//! Everything below `main` takes an [`Environment`] instead of reading the process's own variables: a
//! test can hand over any, and two parts of one run cannot see different ones.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where administrators' programs lie that an ordinary user's `PATH` often lacks.
const SYSTEM_DIRS: [&str; 5] = ["/usr/local/sbin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Variables that any program may see: who runs it, where, and in which language. None of them holds a secret.
const ORDINARY: [&str; 15] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "TMPDIR",
    "TZ",
    "XDG_STATE_HOME",
    "XDG_RUNTIME_DIR",
    "CIVM_TIMEOUT_SCALE",
];
/// What begins like this is as ordinary.
const LOCALE: &str = "LC_";
/// What else decides how packages are fetched. A proxy's address may hold a password: only these programs get it.
const PACKAGES: [&str; 11] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "APT_CONFIG",
    "SOURCE_DATE_EPOCH",
];

/// What Nix reads besides its own: where its configuration and caches are, and how it fetches.
const NIX_ALSO: [&str; 5] =
    ["XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "SSL_CERT_FILE", "SSH_AUTH_SOCK"];

/// What git reads besides its own: where its configuration is, and who owns a repository under sudo.
const GIT_ALSO: [&str; 2] = ["XDG_CONFIG_HOME", "SUDO_UID"];

/// The variables of a run. `Debug` shows names only: a variable may hold a key.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    /// The home directory of the account, for where `HOME` is not set.
    account_home: Option<PathBuf>,
}

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self { variables: std::env::vars_os().collect(), account_home: None }
    }

    /// The variables for a program that needs none of the caller's own. It never gets the caller's whole environment,
    /// which may hold keys (`SOPS_AGE_KEY`).
    #[must_use]
    pub fn for_tools(&self) -> Self {
        self.only(|name| ORDINARY.contains(&name) || name.starts_with(LOCALE))
    }

    /// The same for what fetches and installs packages, in a plain locale; its programs are found where
    /// administrators' programs lie, too.
    #[must_use]
    pub fn for_package_tools(&self) -> Self {
        let tools = self.only(|name| ORDINARY.contains(&name) || PACKAGES.contains(&name));
        tools.with_system_dirs().with("LC_ALL", "C.UTF-8").with("DEBIAN_FRONTEND", "noninteractive")
    }

    /// The same for git: its own variables say which repository and which index a hook runs for. Those that change how
    /// it reads paths are left out, for civm spells paths in one way.
    #[must_use]
    pub fn for_git(&self) -> Self {
        self.only(|name| {
            let of_git = name.starts_with("GIT_") && !name.ends_with("_PATHSPECS");
            of_git || GIT_ALSO.contains(&name) || ORDINARY.contains(&name) || name.starts_with(LOCALE)
        })
    }

    /// The same for Nix, which fetches with git and ssh too.
    #[must_use]
    pub fn for_nix(&self) -> Self {
        self.only(|name| {
            name.starts_with("NIX_")
                || NIX_ALSO.contains(&name)
                || PACKAGES.contains(&name)
                || ORDINARY.contains(&name)
                || name.starts_with(LOCALE)
        })
    }

    fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        let kept = self.variables.iter().filter(|(name, _)| name.to_str().is_some_and(&keep));
        let variables = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { variables, account_home: self.account_home.clone() }
    }

    /// The same with the administrators' directories in `PATH`.
    #[must_use]
    pub fn with_system_dirs(self) -> Self {
        let path = self.get("PATH").unwrap_or_default();
        let mut dirs: Vec<PathBuf> = std::env::split_paths(path).filter(|dir| dir.is_absolute()).collect();
        for dir in SYSTEM_DIRS.map(PathBuf::from) {
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
        match std::env::join_paths(dirs) {
            Ok(path) => self.with("PATH", path),
            Err(_) => self,
        }
    }

    /// The same with a home directory for where `HOME` is not set, or empty.
    #[must_use]
    pub fn with_account_home(self, home: Option<PathBuf>) -> Self {
        Self { account_home: home.filter(|home| home.is_absolute()), ..self }
    }

    /// No variables at all.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The same with one variable set.
    #[must_use]
    pub fn with(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The same with one variable unset.
    #[must_use]
    pub fn without(mut self, name: impl AsRef<OsStr>) -> Self {
        self.variables.remove(name.as_ref());
        self
    }

    /// A variable that is set, be it empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// A variable that is set and not empty.
    #[must_use]
    pub fn non_empty(&self, name: &str) -> Option<&OsStr> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// All variables, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The home directory: `$HOME`, as sops and ssh-keygen's callers see it, else the account's where it is known.
    #[must_use]
    pub fn home(&self) -> Option<&Path> {
        self.non_empty("HOME").map(Path::new).or(self.account_home.as_deref())
    }

    /// Where programs keep their configuration: `$XDG_CONFIG_HOME`, else `~/.config`.
    #[must_use]
    pub fn config_dir(&self) -> Option<PathBuf> {
        self.base_dir("XDG_CONFIG_HOME", ".config")
    }

    /// Where programs keep state between runs: `$XDG_STATE_HOME`, else `~/.local/state`.
    #[must_use]
    pub fn state_dir(&self) -> Option<PathBuf> {
        self.base_dir("XDG_STATE_HOME", ".local/state")
    }

    /// Where programs keep what can be made again: `$XDG_CACHE_HOME`, else `~/.cache`.
    #[must_use]
    pub fn cache_dir(&self) -> Option<PathBuf> {
        self.base_dir("XDG_CACHE_HOME", ".cache")
    }

    /// Where temporary files go that need no privacy: `$TMPDIR`, else `/tmp`.
    #[must_use]
    pub fn temp_dir(&self) -> PathBuf {
        self.non_empty("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
    }

    /// The program of this name in `$PATH`: a file that may be executed.
    #[must_use]
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        let path = self.non_empty("PATH")?;
        std::env::split_paths(path).filter(|directory| directory.is_absolute()).find_map(|directory| {
            let candidate = directory.join(name);
            let metadata = std::fs::metadata(&candidate).ok()?;
            (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then_some(candidate)
        })
    }

    /// A relative path in an XDG variable is not valid and counts as unset.
    fn base_dir(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let named = self.non_empty(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        named.or_else(|| self.home().map(|home| home.join(below_home)))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.variables.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_set_but_not_non_empty() {
        let environment = Environment::empty().with("A", "");
        assert_eq!(environment.get("A"), Some(OsStr::new("")));
        assert_eq!(environment.non_empty("A"), None);
        assert_eq!(environment.without("A").get("A"), None);
    }

    #[test]
    fn base_directories_come_from_xdg_or_home() {
        let home = Environment::empty().with("HOME", "/home/a");
        assert_eq!(home.config_dir(), Some(PathBuf::from("/home/a/.config")));
        let xdg = home.clone().with("XDG_CONFIG_HOME", "/etc/a");
        assert_eq!(xdg.config_dir(), Some(PathBuf::from("/etc/a")));
        assert_eq!(home.with("XDG_CONFIG_HOME", "a").config_dir(), Some(PathBuf::from("/home/a/.config")));
        assert_eq!(Environment::empty().config_dir(), None);
    }

    #[test]
    fn debug_shows_no_value() {
        let environment = Environment::empty().with("SOPS_AGE_KEY", "hidden");
        assert!(!format!("{environment:?}").contains("hidden"));
    }

    #[test]
    fn a_tool_sees_no_key_and_only_package_tools_see_proxies() {
        let all = Environment::empty()
            .with("PATH", "/bin")
            .with("HOME", "/home/a")
            .with("LC_TIME", "C")
            .with("http_proxy", "http://u:p@proxy")
            .with("SOPS_AGE_KEY", "k")
            .with("SOPS_AGE_KEY_CMD", "c")
            .with("AWS_SECRET_ACCESS_KEY", "k")
            .with("GITHUB_TOKEN", "t")
            .with("SSH_AUTH_SOCK", "/s")
            .with("LD_PRELOAD", "/l");
        let names = |environment: &Environment| -> Vec<String> {
            environment.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(&all.for_tools()), ["HOME", "LC_TIME", "PATH"]);
        let packages = all.for_package_tools();
        assert_eq!(names(&packages), ["DEBIAN_FRONTEND", "HOME", "LC_ALL", "PATH", "http_proxy"]);
        assert_eq!(packages.get("PATH"), Some(OsStr::new("/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin")));
    }

    #[test]
    fn without_a_home_the_accounts_counts() {
        let account = |environment: Environment| environment.with_account_home(Some("/home/b".into()));
        let state = |environment: Environment| account(environment).state_dir();
        assert_eq!(state(Environment::empty()), Some(PathBuf::from("/home/b/.local/state")));
        assert_eq!(state(Environment::empty().with("HOME", "")), Some(PathBuf::from("/home/b/.local/state")));
        let own = Environment::empty().with("HOME", "/home/a");
        assert_eq!(state(own.clone()), Some(PathBuf::from("/home/a/.local/state")));
        // A child sees what was there, no more.
        assert_eq!(account(own.without("HOME")).get("HOME"), None);
        assert_eq!(Environment::empty().with_account_home(Some("relative".into())).home(), None);
    }

    #[test]
    fn a_program_is_found_only_if_it_can_run() {
        let environment = Environment::empty().with("PATH", "/etc:/bin:/usr/bin");
        assert!(environment.find_program("sh").is_some());
        assert_eq!(environment.find_program("passwd-no-such-program"), None);
        assert_eq!(environment.find_program("hostname-no"), None);
    }
}
