//! Child processes with captured output.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::thread;

use thiserror::Error;
use zeroize::Zeroizing;

use super::environment::Environment;

/// Bytes of a child's standard error that a message repeats; the last ones say what went wrong.
const STDERR_SHOWN: usize = 2048;
/// Bytes of standard output that are read; no key or answer is longer.
const STDOUT_LIMIT: u64 = 16 << 20;

/// A child that could not run, or said that it failed.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// The program could not be started.
    #[error("cannot run `{program}`: {source}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ran and failed.
    #[error("`{program}` failed ({status}){}", told(.stderr))]
    Failed {
        /// Its name.
        program: String,
        /// Its end.
        status: ExitStatus,
        /// The end of its standard error.
        stderr: String,
    },
    /// Its output could not be read, or is too long.
    #[error("cannot read the output of `{program}`: {source}")]
    Output {
        /// Its name.
        program: String,
        /// Why.
        source: std::io::Error,
    },
}

fn told(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {}", stderr.replace('\n', "; ")) }
}

/// A command with exactly these variables.
#[must_use]
pub fn command(program: impl AsRef<OsStr>, environment: &Environment) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(environment.iter());
    command
}

/// Runs a command to its end and returns its standard output, which is wiped when dropped.
///
/// Standard input is empty, or `input` where it is given. Standard error is kept for the message.
///
/// # Errors
///
/// The command cannot start, ends with another status than 0, or prints more than 16 MiB.
pub fn capture(command: &mut Command, input: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, ProcessError> {
    capture_up_to(STDOUT_LIMIT, command, input)
}

/// The same with another limit on what the command prints, in bytes.
///
/// # Errors
///
/// As [`capture`].
pub fn capture_up_to(
    limit: u64,
    command: &mut Command,
    input: Option<&[u8]>,
) -> Result<Zeroizing<Vec<u8>>, ProcessError> {
    run(command, input, |stdout| read_output(stdout, limit))
}

/// Runs a command to its end and hands over what it prints, record by record as NUL ends them, without a limit.
///
/// # Errors
///
/// The command cannot start, or ends with another status than 0.
pub fn records(
    command: &mut Command,
    input: Option<&[u8]>,
    mut take: impl FnMut(&[u8]),
) -> Result<(), ProcessError> {
    read_with(command, input, |pipe| {
        for record in pipe.split(0) {
            take(&record?);
        }
        Ok(())
    })
}

/// Runs a command to its end, and lets `read` read what it prints.
///
/// # Errors
///
/// The command cannot start, ends with another status than 0, or `read` fails.
pub fn read_with<T: Default>(
    command: &mut Command,
    input: Option<&[u8]>,
    read: impl FnOnce(BufReader<ChildStdout>) -> std::io::Result<T>,
) -> Result<T, ProcessError> {
    run(command, input, |stdout| stdout.map_or_else(|| Ok(T::default()), |pipe| read(BufReader::new(pipe))))
}

fn run<T>(
    command: &mut Command,
    input: Option<&[u8]>,
    read: impl FnOnce(Option<ChildStdout>) -> std::io::Result<T>,
) -> Result<T, ProcessError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| ProcessError::Start { program: program.clone(), source })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (output, stderr) = thread::scope(|scope| {
        let writer = input.zip(stdin).map(|(input, mut pipe)| {
            // A child that does not read its input has not failed.
            scope.spawn(move || drop(pipe.write_all(input)))
        });
        let errors = scope.spawn(move || last_of(stderr));
        let output = read(stdout);
        if let Some(writer) = writer {
            let _ = writer.join();
        }
        (output, errors.join().unwrap_or_default())
    });
    let status = child.wait().map_err(|source| ProcessError::Output { program: program.clone(), source })?;
    let output = output.map_err(|source| ProcessError::Output { program: program.clone(), source })?;
    if status.success() { Ok(output) } else { Err(ProcessError::Failed { program, status, stderr }) }
}

/// Reads in one buffer per size, wiping each that is outgrown.
fn read_output(pipe: Option<impl Read>, limit: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut output = Zeroizing::new(Vec::with_capacity(4096));
    let Some(pipe) = pipe else { return Ok(output) };
    let mut pipe = pipe.take(limit + 1);
    let mut chunk = Zeroizing::new([0; 4096]);
    loop {
        let count = pipe.read(&mut chunk[..])?;
        if count == 0 {
            break;
        }
        if output.len() + count > output.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(output.capacity() * 2));
            larger.extend_from_slice(&output);
            output = larger;
        }
        output.extend_from_slice(&chunk[..count]);
    }
    if output.len() as u64 > limit {
        return Err(std::io::Error::other(format!("more than {} MiB", limit >> 20)));
    }
    Ok(output)
}

/// The last bytes of a pipe as printable lines.
fn last_of(pipe: Option<impl Read>) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0; 4096];
    if let Some(mut pipe) = pipe {
        while let Ok(count) = pipe.read(&mut chunk) {
            if count == 0 {
                break;
            }
            kept.extend_from_slice(&chunk[..count]);
            let surplus = kept.len().saturating_sub(STDERR_SHOWN);
            kept.drain(..surplus);
        }
    }
    let text = String::from_utf8_lossy(&kept);
    let lines = text.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>());
    lines.filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command =
            command("/bin/sh", &Environment::empty().with("PATH", "/bin:/usr/bin").with("A", "1"));
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_input_pass_through() {
        let output = capture(&mut shell("cat; echo $A$HOME"), Some(b"in-")).expect("runs");
        assert_eq!(&output[..], b"in-1\n");
    }

    #[test]
    fn output_longer_than_a_pipe_is_read_whole() {
        let output = capture(&mut shell("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2"), None);
        assert_eq!(output.expect("runs").len(), 300_000);
    }

    #[test]
    fn a_failure_names_program_status_and_reason() {
        let error =
            capture(&mut shell("echo 'no such host' >&2; exit 3"), None).expect_err("fails").to_string();
        assert_eq!(error, "`/bin/sh` failed (exit status: 3): no such host");
        let error = capture(&mut Command::new("/no/such/program"), None).expect_err("fails").to_string();
        assert!(error.starts_with("cannot run `/no/such/program`: "), "{error}");
    }

    #[test]
    fn a_child_that_ignores_its_input_is_no_failure() {
        let input = vec![b'x'; 1 << 20];
        assert!(capture(&mut shell("exit 0"), Some(&input)).is_ok());
    }
}
