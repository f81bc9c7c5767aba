//! `civm builder dial`: what ssh runs to reach a builder.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use super::Home;
use crate::builder::keeper::client;
use crate::builder::keeper::socket::Request;
use crate::cli::builder::Dial;
use crate::commands::Context;
use crate::outcome::{Code, Failure, Outcome};

/// Waits for a connection, and becomes it.
pub(super) fn run(args: &Dial, home: &Home, context: &Context) -> Outcome {
    let request = Request::Dial { builder: args.builder.clone() };
    let failed = |error| home.failure(error);
    let mut asked =
        client::ask(&home.socket(), &request).and_then(client::Asked::patiently).map_err(failed)?;
    loop {
        let Some(reply) = asked.line().map_err(failed)? else {
            return Err(Failure::new(Code::MachineUnavailable, "the keeper of builders has ended"));
        };
        if let Some(refused) = reply.refused {
            return Err(Failure::new(Code::MachineUnavailable, refused));
        }
        if let Some(waiting) = reply.waiting {
            context.screen.note(format!("civm: waiting: {waiting}"));
        }
        if reply.connected == Some(true) {
            break;
        }
    }
    let (socket, rest) = asked.into_connection();
    splice(socket, &rest)?;
    Ok(0)
}

/// Both directions, until the builder's side ends.
fn splice(socket: UnixStream, rest: &[u8]) -> io::Result<()> {
    let up = socket.try_clone()?;
    thread::spawn(move || {
        let mut to = &up;
        let _ = copy(&mut io::stdin().lock(), &mut to);
        let _ = up.shutdown(Shutdown::Write);
    });
    let mut stdout = io::stdout().lock();
    stdout.write_all(rest)?;
    stdout.flush()?;
    copy(&mut &socket, &mut stdout)
}

/// Passes on what comes as soon as it comes.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all(&buffer[..count])?;
        to.flush()?;
    }
}
