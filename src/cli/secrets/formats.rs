//! `--input-type` and `--output-type`.

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use super::Command;
use crate::store::Format;

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

/// The format in which plaintext is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainFormat {
    /// One of the file formats.
    File(Format),
    /// Lines that a shell can `eval`.
    Sh,
}

impl PlainFormat {
    const ALL: [Self; 6] = [
        Self::File(Format::Yaml),
        Self::File(Format::Json),
        Self::File(Format::Dotenv),
        Self::File(Format::Ini),
        Self::File(Format::Binary),
        Self::Sh,
    ];
}

impl ValueEnum for PlainFormat {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::File(format) => format.to_possible_value(),
            Self::Sh => Some(PossibleValue::new("sh")),
        }
    }
}

/// The format of a file, where its name does not give it.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Input {
    /// The file's format (default: from its name, or from its content if it is encrypted)
    #[arg(long, value_name = "FORMAT")]
    pub input_type: Option<Format>,
}

impl Command {
    /// The format given for the encrypted file, or for the plaintext to encrypt.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        match self {
            Self::Encrypt(args) => args.input.input_type,
            Self::Decrypt(args) => args.input.input_type,
            Self::Get(args) => args.input.input_type,
            Self::ExecFile(args) => args.input.input_type,
            Self::Edit(args) => args.input.input_type,
            Self::Set(args) => args.input.input_type,
            Self::Unset(args) => args.input.input_type,
            Self::Rotate(args) => args.input.input_type,
            Self::Status(args) => args.input.input_type,
            Self::ExecEnv(args) => args.input.input_type,
            Self::Updatekeys(args) => args.input.input_type,
            Self::Textconv(args) => args.input.input_type,
            Self::Replace(args) => args.output_type,
            Self::Groups(_)
            | Self::UpdateAll(_)
            | Self::Check(_)
            | Self::Who(_)
            | Self::Diff(_)
            | Self::Merge(_)
            | Self::MergeDriver(_) => None,
        }
    }
}
