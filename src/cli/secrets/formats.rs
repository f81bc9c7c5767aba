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

/// The format of a file whose name does not tell it.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Input {
    /// The file's format (default: what its ending says)
    #[arg(long, value_name = "FORMAT")]
    pub input_type: Option<Format>,
}

impl Command {
    /// The format that is named for the encrypted file, or for the plaintext that is to be encrypted.
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
