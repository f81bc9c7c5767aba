//! The last step: a new generation becomes the active one.

use super::decrypt::Decrypted;
use super::difference::Difference;
use super::error::Error;
use super::{generation, links, write};

/// Makes the links to the active generation where a new one would not differ from it; says whether that is so.
pub(super) fn keep(decrypted: &Decrypted, difference: &Difference) -> Result<bool, Error> {
    let plan = &decrypted.plan;
    let Some(active) = generation::active(plan).filter(|_| difference.is_empty()) else { return Ok(false) };
    links::check(plan, &active)?;
    links::make(plan)?;
    Ok(true)
}

/// Writes a new generation and lets the link lead to it; its number.
///
/// Up to the switch a failure leaves the active generation as it was, and what it leaves half written is replaced by the
/// next run.
pub(super) fn activate(decrypted: &Decrypted) -> Result<u64, Error> {
    let plan = &decrypted.plan;
    let generation = generation::begin(plan)?;
    write::files(plan, &generation, decrypted.secrets().chain(decrypted.templates()))?;
    links::check(plan, &generation)?;
    generation::switch(plan, &generation)?;
    links::make(plan)?;
    generation::prune(plan, &generation)?;
    Ok(generation.number)
}
