//! What must not outlive this process: directories that go with it when a signal ends it, too.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;

use super::foreground::ignored;

/// What ends a process that does nothing about it, and can be caught. SIGPIPE is not among them: Rust ignores it.
const ENDING: [i32; 11] =
    [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGXCPU, SIGXFSZ];

/// Who deals with signals that end this process.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handling {
    /// Nobody has said: the kernel.
    Default,
    /// This module, as soon as there is something to remove.
    OnDemand,
    /// This module, which listens.
    Installed,
    /// Other code, which removes what there is by dropping it.
    External,
}

/// What removes a directory.
pub(super) type Remove = fn(&Path);

struct State {
    handling: Handling,
    /// Directories, and what removes them.
    registered: Vec<(PathBuf, Remove)>,
}

static STATE: RwLock<State> = RwLock::new(State { handling: Handling::Default, registered: Vec::new() });

fn state() -> RwLockWriteGuard<'static, State> {
    STATE.write().unwrap_or_else(PoisonError::into_inner)
}

/// From here on a signal that ends this process removes what is registered first. For programs that do nothing else
/// about signals; what they ignore stays ignored.
pub fn on_signals() {
    let mut state = state();
    if state.handling == Handling::Default {
        state.handling = Handling::OnDemand;
    }
}

/// From here on other code deals with signals.
pub(super) fn leave_signals() {
    state().handling = Handling::External;
}

/// While this lives no signal ends the process by way of this module.
pub(super) struct HoldSignals {
    state: RwLockWriteGuard<'static, State>,
}

impl HoldSignals {
    pub(super) fn begin() -> Self {
        let mut state = state();
        if state.handling == Handling::OnDemand && listen() {
            state.handling = Handling::Installed;
        }
        Self { state }
    }

    /// Registers a directory.
    pub(super) fn register(&mut self, path: &Path, remove: Remove) {
        self.state.registered.push((path.to_path_buf(), remove));
    }

    /// Forgets one.
    pub(super) fn forget(&mut self, path: &Path) {
        self.state.registered.retain(|(known, _)| known != path);
    }
}

/// The same for many threads at once, which make and name files in directories that are registered already.
pub(super) struct ShareHeldSignals {
    _state: RwLockReadGuard<'static, State>,
}

impl ShareHeldSignals {
    pub(super) fn begin() -> Self {
        Self { _state: STATE.read().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// Starts to listen. Where the system refuses, a signal leaves what there is to the next sweep.
fn listen() -> bool {
    let ignored = ignored();
    let wanted = ENDING.into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let Ok(mut signals) = Signals::new(wanted) else { return false };
    std::thread::spawn(move || {
        for signal in signals.forever() {
            // Held to the end: nobody makes another directory.
            let mut state = state();
            if state.handling == Handling::Installed {
                for (path, remove) in state.registered.drain(..) {
                    remove(&path);
                }
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    });
    true
}
