//! What the instance room's failures mean for the user.

use crate::instance::Error;
use crate::outcome::{Code, Failure};

/// The failure: the machine never ran, or never became ready.
pub(super) fn failure(error: Error) -> Failure {
    Failure::new(Code::MachineUnavailable, error.to_string())
}
