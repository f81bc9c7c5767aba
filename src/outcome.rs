//! How a command ends: exit codes and failures.

mod secrets;

/// Exit codes. The secrets commands keep the numbers that sops publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Anything without a code of its own; also sops' configuration and metadata errors.
    Generic = 1,
    /// Wrong usage; a file that cannot be read or parsed.
    CouldNotReadInput = 2,
    /// A file that cannot be written.
    CouldNotWriteOutput = 3,
    /// A tree that the output format cannot represent.
    Dump = 4,
    /// A path or value that cannot be set.
    InvalidSetFormat = 7,
    /// Conflicting flags.
    ConflictingParameters = 8,
    /// A value that cannot be encrypted.
    CouldNotEncryptTree = 23,
    /// A value that cannot be decrypted.
    CouldNotDecryptTree = 25,
    /// Keys to add to or remove from a file that does not exist.
    CannotChangeKeysOfMissingFile = 49,
    /// The MAC does not match, or cannot be decrypted.
    MacMismatch = 51,
    /// The virtual machine never ran.
    MachineUnavailable = 69,
    /// A malformed `--extract` path.
    InvalidTreePath = 91,
    /// The file contains no document.
    NeedAtLeastOneDocument = 92,
    /// No file was given, or it does not exist.
    NoFileSpecified = 100,
    /// A kind of key that is listed twice in the decryption order.
    DuplicateDecryptionKeyType = 112,
    /// The program exists but cannot be run (the code that shells use).
    CommandNotRun = 126,
    /// The program was not found (the code that shells use).
    CommandNotFound = 127,
    /// No identity can decrypt the file.
    CouldNotRetrieveKey = 128,
    /// The editor did not change the file.
    FileHasNotBeenModified = 200,
    /// There is no editor, or it failed.
    NoEditorFound = 201,
    /// The file is already encrypted.
    FileAlreadyEncrypted = 203,
}

/// A failure: its code, what failed and where, and what to do next. Never holds a secret value.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What failed and where, in lower case, without a final full stop.
    pub message: String,
    /// What to do next, a line each.
    pub help: Vec<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: Vec::new() }
    }

    /// Adds a line of advice.
    #[must_use]
    pub fn help(mut self, line: impl Into<String>) -> Self {
        self.help.push(line.into());
        self
    }
}

/// The result of a command: its exit code if it ran, else the failure.
pub type Outcome = Result<u8, Failure>;

impl From<std::io::Error> for Failure {
    /// A result that could not be printed.
    fn from(error: std::io::Error) -> Self {
        Self::new(Code::CouldNotWriteOutput, format!("cannot write to stdout: {error}"))
    }
}
