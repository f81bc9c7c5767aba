//! `civm keys …`: one file per subcommand, and what they share: reading an ssh private key.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::Context;
use crate::cli::keys::{Command, Keys};
use crate::edge::environment::Environment;
use crate::edge::terminal::{Prompt, PromptError, Terminal};
use crate::keys::ssh::private::{self, LockedKey, PrivateKey, PrivateKeyError, SshKey};
use crate::outcome::{Code, Failure, Outcome};

mod add;
mod from_ssh;
mod init;
mod new_host;
mod rm;
mod rules;

pub(super) use init::anchor;

/// Holds a passphrase, as for ssh-to-age; empty counts as unset.
const PASSPHRASE: &str = "SSH_TO_AGE_PASSPHRASE";
/// How many times a passphrase is asked for.
const ATTEMPTS: usize = 3;
/// No list of keys is longer than this; a larger input is a mistake.
const INPUT_LIMIT: u64 = 64 << 20;

/// Runs one of the keys commands.
pub(super) fn run(args: &Keys, context: &Context) -> Outcome {
    match &args.command {
        Command::FromSsh(args) => from_ssh::run(args, &Terminal, context),
        Command::Init(args) => init::run(args, &Terminal, context),
        Command::NewHost(args) => new_host::run(args, context),
        Command::Add(args) => add::run(args, context),
        Command::Rm(args) => rm::run(args, &Terminal, context),
    }
}

/// A file's content, or all of stdin.
fn read(path: Option<&Path>) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let name = path.map_or_else(|| "stdin".into(), |path| format!("`{}`", path.display()));
    let failed = |error: io::Error| {
        let code = if error.kind() == io::ErrorKind::NotFound {
            Code::NoFileSpecified
        } else {
            Code::CouldNotReadInput
        };
        Failure::new(code, format!("cannot read {name}: {error}"))
    };
    let mut content = Zeroizing::new(Vec::with_capacity(16 << 10));
    let count = match path {
        Some(path) => fs::File::open(path).and_then(|file| file.take(INPUT_LIMIT).read_to_end(&mut content)),
        None => io::stdin().lock().take(INPUT_LIMIT).read_to_end(&mut content),
    };
    if count.map_err(failed)? as u64 == INPUT_LIMIT {
        return Err(Failure::new(Code::CouldNotReadInput, format!("{name} is too long for a key")));
    }
    Ok(content)
}

/// The private key in a text, unlocked with the given passphrase, with the one in the environment, or by asking.
fn private_key(
    text: &[u8],
    name: &str,
    passphrase: Option<Zeroizing<String>>,
    environment: &Environment,
    prompt: &dyn Prompt,
) -> Result<(SshKey, bool), Failure> {
    let failed = |error: &PrivateKeyError| {
        let failure = Failure::new(Code::Generic, format!("{name}: {error}"));
        match error {
            PrivateKeyError::PublicKey => failure.help("omit --private to get the age recipient"),
            _ => failure,
        }
    };
    let text = private::parse(text).map_err(|error| failed(&error))?;
    let key = match text.key {
        PrivateKey::Plain(key) => key,
        PrivateKey::Locked(key) => {
            let from_environment = || {
                let value = environment.non_empty(PASSPHRASE)?;
                Some(Zeroizing::new(value.to_string_lossy().into_owned()))
            };
            match passphrase.or_else(from_environment) {
                Some(passphrase) => key.unlock(&passphrase).map_err(|error| failed(&error))?,
                None => ask(&key, name, prompt)?,
            }
        }
    };
    Ok((key, text.more))
}

fn ask(key: &LockedKey, name: &str, prompt: &dyn Prompt) -> Result<SshKey, Failure> {
    for _ in 0..ATTEMPTS {
        let passphrase = prompt.passphrase(&format!("Enter passphrase for {name}:")).map_err(|error| {
            let failure =
                Failure::new(Code::Generic, format!("{name} is protected by a passphrase: {error}"));
            match error {
                PromptError::NoTerminal => failure.help(format!("set {PASSPHRASE} to the passphrase")),
                _ => failure,
            }
        })?;
        match key.unlock(&passphrase) {
            Err(PrivateKeyError::WrongPassphrase) => prompt.tell("incorrect passphrase"),
            Err(error) => return Err(Failure::new(Code::Generic, format!("{name}: {error}"))),
            Ok(key) => return Ok(key),
        }
    }
    Err(Failure::new(Code::Generic, format!("{name}: {}", PrivateKeyError::WrongPassphrase)))
}

/// The default ssh key; `ending` is `.pub` for its public half.
fn default_key(environment: &Environment, ending: &str) -> Result<std::path::PathBuf, Failure> {
    let home = environment.home().ok_or_else(|| {
        Failure::new(Code::NoFileSpecified, "HOME is not set, so the default key cannot be found")
            .help("give the key with -i")
    })?;
    let path = crate::keys::identity::ssh_key_file(home, &format!("id_ed25519{ending}"));
    if !path.exists() {
        return Err(Failure::new(Code::NoFileSpecified, format!("`{}` does not exist", path.display()))
            .help("give another key with -i, or create one with `ssh-keygen -t ed25519`"));
    }
    Ok(path)
}
