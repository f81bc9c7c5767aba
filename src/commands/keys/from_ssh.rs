//! `civm keys from-ssh`.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{default_key, private_key, read};
use crate::cli::keys::FromSsh;
use crate::commands::Context;
use crate::edge::atomic::{self, WriteError};
use crate::edge::terminal::{self, Prompt};
use crate::keys::ssh::private::{self, PrivateKey};
use crate::keys::ssh::public::{self, PublicKeyError, PublicLine};
use crate::outcome::{Code, Failure, Outcome};

/// An identity may be read only by its owner, a recipient by everyone.
const PRIVATE_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;

pub(super) fn run(args: &FromSsh, prompt: &dyn Prompt, context: &Context) -> Outcome {
    let input = choose_input(args, context)?;
    let name = input.as_deref().map_or_else(|| "stdin".into(), |path| format!("`{}`", path.display()));
    let (text, mode) = if args.private {
        (identity(args, input.as_deref(), &name, prompt, context)?, PRIVATE_MODE)
    } else {
        let text = read(input.as_deref())?;
        let public = if args.input.is_none() && input.is_some() { public_half(&text) } else { None };
        (recipients(public.as_ref().map_or(&text[..], String::as_bytes), &name, context)?, PUBLIC_MODE)
    };
    match &args.output {
        None => context.screen.data(text.as_bytes())?,
        Some(path) => atomic::create(path, text.as_bytes(), mode, args.force).map_err(|error| {
            let failure = Failure::new(Code::CouldNotWriteOutput, error.to_string());
            match error {
                WriteError::Exists(_) => failure.help("use --force to replace it"),
                _ => failure,
            }
        })?,
    }
    Ok(0)
}

/// `None` is stdin.
fn choose_input(args: &FromSsh, context: &Context) -> Result<Option<PathBuf>, Failure> {
    match &args.input {
        Some(path) if path.as_os_str() == "-" => Ok(None),
        Some(path) => Ok(Some(path.clone())),
        None if terminal::stdin_is_piped() && !args.passphrase_stdin => Ok(None),
        None if args.private => default_key(&context.environment, "").map(Some),
        // Without the .pub file, use the private key: it contains the public key.
        None => default_key(&context.environment, ".pub")
            .or_else(|failure| default_key(&context.environment, "").map_err(|_| failure))
            .map(Some),
    }
}

/// The public key of a private key, which can be read without its passphrase.
fn public_half(text: &[u8]) -> Option<String> {
    match private::parse(text).ok()?.key {
        PrivateKey::Plain(key) => key.public_line(),
        PrivateKey::Locked(key) => key.public_line(),
    }
}

fn identity(
    args: &FromSsh,
    input: Option<&Path>,
    name: &str,
    prompt: &dyn Prompt,
    context: &Context,
) -> Result<Zeroizing<String>, Failure> {
    if args.passphrase_stdin && input.is_none() {
        return Err(Failure::new(
            Code::ConflictingParameters,
            "cannot read both private key and passphrase from stdin",
        ));
    }
    let text = read(input)?;
    let passphrase = if args.passphrase_stdin {
        let typed = read(None)?;
        let typed = std::str::from_utf8(&typed)
            .map_err(|_| Failure::new(Code::CouldNotReadInput, "the passphrase on stdin is not UTF-8"))?;
        Some(Zeroizing::new(typed.trim_end_matches(['\r', '\n']).to_owned()))
    } else {
        None
    };
    let (key, more) = private_key(&text, name, passphrase, &context.environment, prompt)?;
    if more {
        context.screen.warn(format!("{name} holds more than one private key; only the first is converted"));
    }
    let identity =
        key.to_age().map_err(|error| Failure::new(Code::Generic, format!("{name}: {error}")))?.to_text();
    let mut line = Zeroizing::new(String::with_capacity(identity.len() + 1));
    line.push_str(&identity);
    line.push('\n');
    Ok(line)
}

/// A recipient for each ed25519 key, or nothing at all if a line is not a key.
fn recipients(text: &[u8], name: &str, context: &Context) -> Result<Zeroizing<String>, Failure> {
    let mut found = Zeroizing::new(String::new());
    for line in public::lines(text) {
        match line {
            Ok(PublicLine::Key(key)) => {
                found.push_str(&key.recipient());
                found.push('\n');
            }
            Ok(PublicLine::Skipped { line, algorithm }) => {
                let reason = PublicKeyError::OtherType(algorithm);
                context.screen.note(format!("{name}: line {line}: skipped: {reason}"));
            }
            Err(error) => {
                let failure = Failure::new(Code::Generic, format!("{name}, {error}"));
                return Err(match error.error {
                    PublicKeyError::PrivateKey => failure.help("--private converts it to an age identity"),
                    _ => failure,
                });
            }
        }
    }
    if found.is_empty() {
        return Err(Failure::new(Code::Generic, format!("{name} contains no ssh ed25519 key")));
    }
    Ok(found)
}
