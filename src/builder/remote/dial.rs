//! The way to a machine that is lent, where the remote's sshd forwards no connections.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::lease;
use crate::edge::environment::Environment;
use crate::edge::splice;
use crate::instance::Home;
use crate::instance::deadline::scaled;

/// How long it may take until the port of a machine that has just been started is written down.
const WRITTEN: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Connects stdin and stdout to the sshd of the machine that is lent to a keeper as this builder, and to nothing else.
///
/// # Errors
/// There is no such machine, or it does not listen.
pub fn dial(keeper: &str, builder: &str, environment: &Environment) -> Result<(), String> {
    let home = Home::find(environment).map_err(|error| error.to_string())?;
    let until = Instant::now() + scaled(WRITTEN, environment);
    let port = loop {
        let leases = lease::held(&home).into_iter();
        let mut own = leases.filter(|lease| lease.owner.keeper == keeper && lease.owner.builder == builder);
        match own.next().map(|lease| lease.port) {
            Some(Some(port)) => break port,
            Some(None) if Instant::now() < until => thread::sleep(LOOK),
            Some(None) => return Err(format!("the machine of `{builder}` is not started yet")),
            None => return Err(format!("no machine is lent to this keeper as `{builder}`")),
        }
    };
    let failed = |error: io::Error| format!("no connection to `{builder}`: {error}");
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    splice::stdio(socket.into(), &[]).map(drop).map_err(failed)
}
