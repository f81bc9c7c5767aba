//! The keeper of builders: it deploys them, holds them, and takes them away again.
//!
//! One thread, the hub, decides everything and never waits for anybody. Each builder has a session, a thread that
//! speaks with its remote; each request to the socket has a thread while it lasts. What they find out they send to the
//! hub as a [`Message`].

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::identity::Identity;
use super::place::Held;
use super::push::Binaries;
use super::ssh::child::STACK;
use super::wire::Owner;
use crate::edge::environment::Environment;

pub mod client;
pub mod dial;
pub mod gates;
pub mod reason;
pub mod retry;
pub mod session;
pub mod socket;
pub mod state;

mod builders;
mod hub;
mod listen;
mod ready;
mod report;

use hub::Hub;
use session::{Said, Shared};
use socket::{Line, Reply, Request};

/// Messages that may wait for the hub. Who says more waits, up to the remote that says so much.
const WAITING: usize = 1024;

/// Somebody who wants to be connected to a builder.
pub enum Caller {
    /// Through the socket.
    Socket(UnixStream),
    /// Through the builder's own port.
    Port(TcpStream),
}

/// What the hub is told.
pub enum Message {
    /// By a session.
    Session {
        /// Of this builder.
        builder: String,
        /// Its number.
        id: u64,
        /// What it says.
        said: Said,
    },
    /// By somebody at the socket.
    Ask {
        /// What is asked.
        request: Request,
        /// Where the answer goes; it ends when this is dropped.
        reply: SyncSender<Reply>,
        /// Whether they may change anything.
        owner: bool,
    },
    /// Somebody wants to be connected.
    Dial {
        /// To this builder.
        builder: String,
        /// Who.
        caller: Caller,
    },
    /// A connection has ended.
    Closed {
        /// To this builder.
        builder: String,
    },
    /// By the system.
    Signal(i32),
}

/// How a keeper is run.
pub struct Options {
    /// Where its files are.
    pub held: Held,
    /// Where the parcels are.
    pub parcels: PathBuf,
    /// Whether all builders that are found are wanted; else only those that somebody asks for.
    pub enable_all: bool,
    /// Whether it ends once no builder is wanted any more.
    pub exit_when_idle: bool,
    /// Who it is.
    pub owner: Owner,
    /// The program that nix's ssh runs to reach its socket.
    pub civm: PathBuf,
    /// The variables of this run.
    pub environment: Environment,
}

/// Runs a keeper until it is told to end, and everything that it made is gone. `tell` is given every line of its log.
///
/// # Errors
/// It cannot begin.
pub fn run(options: Options, tell: &mut dyn FnMut(&Line)) -> Result<(), String> {
    let identity = Identity::make()?;
    let (held, environment) = (&options.held, &options.environment);
    for user in held.users(environment) {
        let path = held.place.key(&user, None);
        held.write_key(&user, &path, &identity.client.private, environment)?;
    }
    let (sender, receiver): (SyncSender<Message>, Receiver<Message>) = sync_channel(WAITING);
    watch_signals(&sender)?;
    let shared = Arc::new(Shared {
        place: held.place.clone(),
        identity,
        binaries: Binaries::default(),
        gates: gates::Gates::default(),
        environment: environment.clone(),
        owner: options.owner.clone(),
    });
    let enable_all = options.enable_all;
    let mut hub = Hub::new(options, shared, sender.clone(), tell);
    // Who finds the socket finds what nix and ssh read as well.
    hub.reload(enable_all);
    let listener = hub.listener()?;
    listen::begin(listener, sender)?;
    notify(&[sd_notify::NotifyState::Ready]);
    hub.run(&receiver);
    notify(&[sd_notify::NotifyState::Stopping]);
    Ok(())
}

fn watch_signals(sender: &SyncSender<Message>) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot watch signals: {error}");
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(failed)?;
    let sender = sender.clone();
    let watch = move || {
        for signal in signals.forever() {
            if sender.send(Message::Signal(signal)).is_err() {
                break;
            }
        }
    };
    thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(watch).map(drop).map_err(failed)
}

/// Tells systemd, where it wants to be told.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    static WANTED: OnceLock<bool> = OnceLock::new();
    if *WANTED.get_or_init(|| std::env::var_os("NOTIFY_SOCKET").is_some()) {
        let _ = sd_notify::notify(states);
    }
}
