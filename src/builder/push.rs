//! What a remote is asked in one round trip, and how it gets a civm: by its hash, into the user's cache.
//!
//! Whatever login shell the user has there, it only has to run `sh -c '…'`: the scripts have neither a single quote
//! nor a backslash nor an exclamation mark nor a line break in them.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::keeper::reason::{Kind, Reason};
use super::wire;
use crate::edge::environment::Environment;
use crate::edge::hex;
use crate::host::layer::SHARE_MOUNT;
use crate::host::parcel::BINARIES;
use crate::host::spec::{Arch, Remote};
use crate::image;

/// The probe's first line.
pub const PROBE: &str = "civm-probe 1";
/// Its last.
pub const END: &str = "civm-probe end";
/// The directory of pushed binaries, as the scripts see it.
const CACHE: &str = r#"c="${XDG_CACHE_HOME:-$HOME/.cache}/civm/bin""#;
/// What shells exit with where a program cannot be run.
const CANNOT_RUN: i32 = 126;

/// A civm that can be pushed.
#[derive(Debug)]
pub struct Binary {
    /// The machines that it is for.
    pub arch: Arch,
    /// Its SHA-256.
    pub sha256: String,
    /// Its length.
    pub size: u64,
    path: PathBuf,
}

impl Binary {
    /// The running civm, or one that was built for another architecture.
    fn find(arch: Arch, environment: &Environment) -> Result<Self, String> {
        let path = if Arch::native() == Some(arch) {
            // The very program that runs, also where its file was replaced.
            PathBuf::from("/proc/self/exe")
        } else {
            foreign(arch, environment)?
        };
        let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
        let mut file = File::open(&path).map_err(failed)?;
        let mut hash = Sha256::new();
        let size = io::copy(&mut file, &mut hash).map_err(failed)?;
        Ok(Self { arch, sha256: hex::encode(&hash.finalize()), size, path })
    }

    /// Opens it, to be sent.
    ///
    /// # Errors
    /// It is gone, or has another length by now.
    pub fn open(&self) -> io::Result<File> {
        let mut file = File::open(&self.path)?;
        if file.seek(SeekFrom::End(0))? != self.size {
            return Err(io::Error::other(format!("{} was replaced", self.path.display())));
        }
        file.rewind()?;
        Ok(file)
    }
}

/// A civm that was built for another architecture: in a controller it came with the share.
fn foreign(arch: Arch, environment: &Environment) -> Result<PathBuf, String> {
    let shared = Path::new(SHARE_MOUNT).join(BINARIES).join(arch.to_string()).join("civm");
    if shared.is_file() {
        return Ok(shared);
    }
    image::guest_binary(arch, environment).map_err(|error| error.to_string())
}

/// The binaries of one process, each looked for once.
#[derive(Default)]
pub struct Binaries(Mutex<Vec<Arc<Binary>>>);

impl Binaries {
    /// The one for an architecture.
    ///
    /// # Errors
    /// There is none, and why.
    pub fn get(&self, arch: Arch, environment: &Environment) -> Result<Arc<Binary>, String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.iter().find(|binary| binary.arch == arch) {
            return Ok(Arc::clone(found));
        }
        // One that is missing may be built meanwhile: it is looked for again.
        let found = Arc::new(Binary::find(arch, environment)?);
        known.push(Arc::clone(&found));
        Ok(found)
    }
}

/// The command that looks at a remote, and then does what the next line of its stdin says. What is for another kind of
/// machine is not run there: some shells would take it for a script.
#[must_use]
pub fn probe(binaries: &[Arc<Binary>]) -> String {
    let known = binaries.iter().map(|binary| format!("{}:{}", binary.arch, binary.sha256));
    let known = known.collect::<Vec<_>>().join(" ");
    let look = if known.is_empty() {
        String::new()
    } else {
        format!(
            r#"for k in {known}; do h="${{k#*:}}"; f="$c/$h"; if [ -f "$f" ]; then n=$(wc -c < "$f"); s=$(sha256sum < "$f" 2>/dev/null || echo unknown); m=; r=0; if [ "${{k%%:*}}" = "$(uname -m)" ]; then m=$("$f" --version 2>&1); r=$?; fi; echo "have $h $r" $n $s; echo "said $m" | head -n 1; fi; done; "#
        )
    };
    format!(
        r#"sh -c '{CACHE}; echo; echo "{PROBE}"; echo "system $(uname -s)"; echo "machine $(uname -m)"; echo "cache $c"; echo "civm $(command -v civm)"; {look}echo "{END}"; IFS= read -r l && eval "$l"'"#
    )
}

/// The line that makes the probe's shell a serve. `$c` is the directory of binaries there, and `guest` the hash of the
/// one for guests of another kind.
#[must_use]
pub fn serve(program: &Program, guest: Option<&str>, run_with: &[String]) -> String {
    let words = run_with
        .iter()
        .map(|word| shlex::try_quote(word).map_or_else(|_| String::new(), |word| word.into_owned() + " "));
    let program = match program {
        Program::Pushed(hash) => format!("\"$c/{hash}\""),
        Program::Theirs(path) => {
            shlex::try_quote(path).map_or_else(|_| "civm".to_owned(), std::borrow::Cow::into_owned)
        }
    };
    let guest = guest.map(|hash| format!("env {}=\"$c/{hash}\" ", image::GUEST_BINARY)).unwrap_or_default();
    format!("exec {guest}{}{program} remote serve\n", words.collect::<String>())
}

/// The command that takes a binary from its stdin, and makes sure of it; one that is `for_guests` of another kind does
/// not run there. Where the remote's user is root, parts of a machine run the binary as another user; the directory
/// stays private.
#[must_use]
pub fn receive(binary: &Binary, for_guests: bool) -> String {
    let Binary { sha256, size, .. } = binary;
    let run =
        if for_guests { "m=; true".to_owned() } else { format!(r#"m=$("$c/{sha256}" --version 2>&1)"#) };
    format!(
        r#"sh -c 'umask 077; {CACHE}; mkdir -p "$c" || exit 1; t="$c/.{sha256}.$$"; e() {{ rm -f "$t"; }}; trap e 0; trap "exit 1" 1 2 13 15; cat > "$t"; n=$(wc -c < "$t"); [ "$n" -eq {size} ] || {{ echo "truncated" $n; exit 1; }}; if command -v sha256sum > /dev/null; then s=$(sha256sum < "$t"); [ "${{s%% *}}" = {sha256} ] || {{ echo "damaged"; exit 1; }}; fi; chmod 755 "$t" && mv -f "$t" "$c/{sha256}" || exit 1; {run}; echo "ran" $?; echo "said $m" | head -n 1'"#
    )
}

/// The command that connects its stdin and stdout to a builder's sshd, where the remote's sshd does not.
#[must_use]
pub fn dial(program: &Program, keeper: &str, builder: &str) -> String {
    let is_plain =
        |path: &str| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte));
    let program = match program {
        Program::Pushed(hash) => format!("\"$c/{hash}\""),
        Program::Theirs(path) if is_plain(path) => path.clone(),
        Program::Theirs(_) => "civm".to_owned(),
    };
    format!("sh -c '{CACHE}; exec {program} remote dial {keeper} {builder}'")
}

/// The civm of a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// One that was pushed, by its hash.
    Pushed(String),
    /// One that the remote has.
    Theirs(String),
}

/// What a remote has answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// `Linux`
    pub system: String,
    /// `x86_64`
    pub machine: String,
    /// The directory of pushed binaries.
    pub cache: String,
    /// A civm of its own.
    pub civm: Option<String>,
    /// The binaries that lie there.
    pub have: Vec<Have>,
}

/// A pushed binary, as it lies there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Have {
    hash: String,
    code: i32,
    size: u64,
    /// None where the remote has no `sha256sum`.
    sha256: Option<String>,
    said: String,
}

impl Probe {
    /// Takes the lines between the probe's first and last.
    #[must_use]
    pub fn read(lines: &[String]) -> Self {
        let mut probe = Self::default();
        for line in lines {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "system" => rest.clone_into(&mut probe.system),
                "machine" => rest.clone_into(&mut probe.machine),
                "cache" => rest.clone_into(&mut probe.cache),
                "civm" => probe.civm = Some(rest.trim().to_owned()).filter(|path| path.starts_with('/')),
                "have" => {
                    let mut words = rest.split_whitespace();
                    let mut next = || words.next().unwrap_or_default();
                    probe.have.push(Have {
                        hash: next().to_owned(),
                        code: next().parse().unwrap_or(-1),
                        size: next().parse().unwrap_or(0),
                        sha256: Some(next().to_owned()).filter(|sum| sum.len() == 64),
                        said: String::new(),
                    });
                }
                "said" => {
                    if let Some(have) = probe.have.last_mut() {
                        rest.clone_into(&mut have.said);
                    }
                }
                _ => {}
            }
        }
        probe
    }

    /// The remote's architecture.
    ///
    /// # Errors
    /// One for which there is no civm.
    pub fn arch(&self, remote: &Remote) -> Result<Arch, Reason> {
        let unfit = || {
            let message = format!("{remote} is a {} {} machine", self.system, self.machine);
            Reason::new(Kind::Remote(wire::Kind::Arch), message)
                .hint("builders can be made on x86_64 and aarch64 machines with Linux")
        };
        match (self.system.as_str(), self.machine.as_str()) {
            ("Linux", "x86_64") => Ok(Arch::X86_64),
            ("Linux", "aarch64" | "arm64") => Ok(Arch::Aarch64),
            _ => Err(unfit()),
        }
    }

    /// Whether a binary lies there, whole, and runs. One that is not whole is pushed again.
    ///
    /// # Errors
    /// It is whole, and cannot be run.
    pub fn has(&self, binary: &Binary, remote: &Remote) -> Result<bool, Reason> {
        match self.whole(binary) {
            Some(have) => runs(have.code, &have.said, &self.cache, remote).map(|()| true),
            None => Ok(false),
        }
    }

    /// A binary that lies there whole.
    #[must_use]
    pub fn whole(&self, binary: &Binary) -> Option<&Have> {
        let have = self.have.iter().find(|have| have.hash == binary.sha256)?;
        let is_same = have.sha256.as_ref().is_none_or(|sum| *sum == binary.sha256);
        Some(have).filter(|have| have.size == binary.size && is_same)
    }
}

/// What the script of [`receive`] has answered; `stderr` is what it complained about.
///
/// # Errors
/// The binary is not there, or does not run.
pub fn received(
    answer: &str,
    stderr: &str,
    binary: &Binary,
    cache: &str,
    remote: &Remote,
) -> Result<(), Reason> {
    let line = |word: &str| answer.lines().find_map(|line| line.strip_prefix(word)).map(str::trim);
    let complaint = stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let because = complaint.map(|line| format!(": {line}")).unwrap_or_default();
    if let Some(code) = line("ran ") {
        return runs(code.parse().unwrap_or(-1), line("said ").unwrap_or_default(), cache, remote);
    }
    if stderr.contains("No space left") || stderr.contains("Disk quota exceeded") {
        return Err(Reason::new(
            Kind::Remote(wire::Kind::Disk),
            format!("{remote}: no room for civm in {cache}{because}"),
        )
        .hint(format!("make room there, or set XDG_CACHE_HOME for {} to another directory", remote.user)));
    }
    if let Some(got) = line("truncated") {
        let message =
            format!("civm was cut off on its way to {remote}: {got} of {} bytes came{because}", binary.size);
        // As with a connection that breaks, the next try may do.
        return Err(Reason::new(Kind::Network, message));
    }
    if answer.lines().any(|line| line == "damaged") {
        return Err(Reason::new(Kind::Network, format!("civm was damaged on its way to {remote}")));
    }
    Err(Reason::new(Kind::Binary, format!("{remote}: cannot put civm into {cache}{because}")))
}

/// Whether a program runs there, by the exit code and the words of its first run.
fn runs(code: i32, said: &str, cache: &str, remote: &Remote) -> Result<(), Reason> {
    let elsewhere = format!(
        "set XDG_CACHE_HOME for {} to a directory where programs may be run (sshd's SetEnv does it)",
        remote.user
    );
    let reason = |what: &str| Reason::new(Kind::Binary, format!("{remote}: {what}"));
    Err(match code {
        0 => return Ok(()),
        CANNOT_RUN if said.contains("Exec format error") => Reason::new(
            Kind::Remote(wire::Kind::Arch),
            format!("{remote}: the civm there is for another kind of machine"),
        ),
        CANNOT_RUN if said.contains("Permission denied") => {
            reason(&format!("{cache} is on a file system without permission to run programs (noexec)"))
                .hint(elsewhere)
        }
        139 | 135 | 132 => reason(&format!("the civm in {cache} is damaged: it crashes"))
            .hint(format!("remove {cache} there")),
        _ => reason(&format!("the civm in {cache} does not run (exit code {code}): {said}")),
    })
}

/// Reads to the end, but not more than so many bytes.
///
/// # Errors
/// The pipe fails.
pub fn read_bounded(from: impl Read, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
