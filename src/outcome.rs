//! How a run ends: exit codes, and the form of a failure.

mod secrets;

/// Exit codes. The secrets commands keep the numbers that sops publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Anything without a number of its own; also sops' configuration and metadata errors.
    Generic = 1,
    /// Wrong usage; a file that cannot be read or parsed.
    CouldNotReadInput = 2,
    /// A file that cannot be written.
    CouldNotWriteOutput = 3,
    /// A tree that the output format cannot hold.
    Dump = 4,
    /// A path or a value that nothing can be set to.
    InvalidSetFormat = 7,
    /// Flags that exclude each other.
    ConflictingParameters = 8,
    /// A value that cannot be encrypted.
    CouldNotEncryptTree = 23,
    /// A value that cannot be decrypted.
    CouldNotDecryptTree = 25,
    /// Keys to be added to or removed from a file that does not exist.
    CannotChangeKeysOfMissingFile = 49,
    /// The MAC does not match, or cannot be decrypted.
    MacMismatch = 51,
    /// The virtual machine never ran.
    MachineUnavailable = 69,
    /// A malformed `--extract` path.
    InvalidTreePath = 91,
    /// The file has no document.
    NeedAtLeastOneDocument = 92,
    /// No file, or one that does not exist.
    NoFileSpecified = 100,
    /// A kind of key that is named twice in an order.
    DuplicateDecryptionKeyType = 112,
    /// The program to be run is there, but cannot be (as shells say it).
    CommandNotRun = 126,
    /// The program to be run is nowhere (as shells say it).
    CommandNotFound = 127,
    /// No identity opens the file.
    CouldNotRetrieveKey = 128,
    /// The editor left the file as it was.
    FileHasNotBeenModified = 200,
    /// No editor, or one that failed.
    NoEditorFound = 201,
    /// The file already is encrypted.
    FileAlreadyEncrypted = 203,
}

/// A failure: its code, what failed and where, and what to do next. Never holds a secret value.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What failed and where, lower case, without a final stop.
    pub message: String,
    /// What to do next, a line each.
    pub help: Vec<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: Vec::new() }
    }

    /// The same with one more line of advice.
    #[must_use]
    pub fn help(mut self, line: impl Into<String>) -> Self {
        self.help.push(line.into());
        self
    }
}

/// What a command ends with: its exit code where it ran, else the failure.
pub type Outcome = Result<u8, Failure>;

impl From<std::io::Error> for Failure {
    /// A result that could not be printed.
    fn from(error: std::io::Error) -> Self {
        Self::new(Code::CouldNotWriteOutput, format!("cannot write to stdout: {error}"))
    }
}
