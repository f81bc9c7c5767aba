//! No core dumps of a process that holds keys.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Turns core dumps of this process off and keeps other processes of the same user from reading its
/// memory; children inherit the core limit of 0.
///
/// Both measures are tried even if one fails; a kernel that refuses them leaves civm as safe as any other
/// program, so there is nothing to report.
///
/// A process that is not dumpable cannot write its own `/proc/self/uid_map` unless it is root: a stage
/// enters its user namespace first and calls this afterwards. An exec makes a process dumpable again.
pub fn forbid_core_dumps() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = prctl::set_dumpable(false);
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::getrlimit;

    #[test]
    fn the_process_is_no_longer_dumpable() {
        forbid_core_dumps();
        assert!(!prctl::get_dumpable().expect("the kernel answers"));
        assert_eq!(getrlimit(Resource::RLIMIT_CORE).expect("the kernel answers"), (0, 0));
        // Other tests of this process may look at /proc/self.
        prctl::set_dumpable(true).expect("the kernel agrees");
    }
}
