//! The formats in which a file is read and written.

use std::path::Path;
use std::sync::Arc;

use super::error::Error;
use super::session::Session;
use crate::store::{Format, Store};

/// How a file is read and written.
pub struct Stores {
    /// The format that is read.
    pub input: Arc<dyn Store>,
    /// Its name.
    pub input_format: Format,
    /// The format that is written.
    pub output: Arc<dyn Store>,
    /// Its name.
    pub output_format: Format,
}

impl Session {
    /// The stores of two formats, for a file.
    ///
    /// # Errors
    /// The rules cannot be read or are not valid.
    pub fn stores(&self, file: &Path, input: Format, output: Format) -> Result<Stores, Error> {
        Ok(Stores {
            input: self.store(input, file)?,
            input_format: input,
            output: self.store(output, file)?,
            output_format: output,
        })
    }
}
