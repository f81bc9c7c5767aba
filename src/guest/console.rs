//! Messages on the guest's console and in its journal.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::process::Command;

use super::Error;

/// The console where the kernel names none.
const DEVICE: &str = "ttyS0";

/// The device that the kernel writes its messages to.
pub(super) fn device() -> String {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    active.split_whitespace().last().unwrap_or(DEVICE).to_owned()
}

/// A line on the serial console.
pub(super) fn say(message: &str) {
    if let Ok(mut console) = OpenOptions::new().write(true).open("/dev/console") {
        // A carriage return first: a shell may have left the cursor in the middle of a line.
        let _ = write!(console, "\rcivm: {message}\r\n");
    }
}

/// A line on standard error, which is the journal for a unit.
pub(super) fn log(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// Runs a program of the image to its end; its messages become part of an error.
pub(super) fn run(program: &str, args: &[&str]) -> Result<(), Error> {
    let output = Command::new(program).args(args).output().map_err(Error::io("run", program))?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Program { program: program.to_owned(), status: output.status.to_string(), stderr })
}
