//! How many may do the same thing at once: a remote's sshd turns away many logins at a time, and a machine can only
//! build so many images.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Logins at once to one address. sshd's own limit begins to drop some at ten.
pub const HANDSHAKES: usize = 8;
/// Images that are built at once.
pub const IMAGES: usize = 4;
/// How often somebody who waits looks whether he still wants to.
const LOOK: Duration = Duration::from_millis(100);

/// A gate that lets so many through at once.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    free: Mutex<usize>,
    freed: Condvar,
}

/// Somebody who is through. The next one follows when this is dropped.
pub struct Permit(Arc<Inner>);

impl Gate {
    /// One for so many.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Inner { free: Mutex::new(count), freed: Condvar::new() }))
    }

    /// Goes through at once, if there is room.
    #[must_use]
    pub fn try_pass(&self) -> Option<Permit> {
        let mut free = lock(&self.0.free);
        *free = free.checked_sub(1)?;
        Some(Permit(Arc::clone(&self.0)))
    }

    /// Waits for room; `None` once `give_up` says so.
    pub fn pass(&self, give_up: &dyn Fn() -> bool) -> Option<Permit> {
        let mut free = lock(&self.0.free);
        loop {
            if give_up() {
                return None;
            }
            if let Some(less) = free.checked_sub(1) {
                *free = less;
                return Some(Permit(Arc::clone(&self.0)));
            }
            free = self.0.freed.wait_timeout(free, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.freed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The gates of a keeper.
pub struct Gates {
    handshakes: Mutex<BTreeMap<(String, u16), Gate>>,
    /// That of images.
    pub images: Gate,
}

impl Default for Gates {
    fn default() -> Self {
        Self { handshakes: Mutex::default(), images: Gate::new(IMAGES) }
    }
}

impl Gates {
    /// The gate of logins to an address.
    pub fn handshake(&self, host: &str, port: u16) -> Gate {
        let mut known = lock(&self.handshakes);
        known.entry((host.to_owned(), port)).or_insert_with(|| Gate::new(HANDSHAKES)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_more_than_that_are_through_at_once() {
        let gates = Gates::default();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    let permit = gates.handshake("h", 22).pass(&|| false);
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(2));
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                });
            }
        });
        assert!((1..=HANDSHAKES).contains(&most.load(Ordering::SeqCst)));
        let other = gates.handshake("h", 2200);
        let held: Vec<_> = std::iter::from_fn(|| other.try_pass()).collect();
        assert_eq!(held.len(), HANDSHAKES);
        assert!(other.pass(&|| true).is_none());
        assert!(gates.handshake("h", 22).try_pass().is_some(), "another port is another sshd");
    }
}
