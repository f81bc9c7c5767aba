//! A running guest is brought in line with its host.yaml, files and secrets, without a restart.

use std::time::Duration;

use crate::instance::control::{self, Session};
use crate::instance::deadline::scaled;
use crate::instance::{self, Place, Record};
use crate::lifecycle::files::Files;
use crate::lifecycle::shape::Shape;
use crate::lifecycle::{Error, Observer, Plan, Request, Site, identity, share, turn};
use crate::vm::agent::answer::Changes;
use crate::vm::agent::{Answer, Question};

/// How long the supervisor may take to answer, and to take the files.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the guest may take: units that are restarted take their time.
const GUEST: Duration = Duration::from_secs(300);

/// What an apply did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// In the guest.
    pub changes: Changes,
    /// What only a restart brings, as text for the user.
    pub restart_for: Vec<String>,
}

/// What has changed in a project since an instance was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Whether an apply would bring something.
    pub apply: bool,
    /// What only a restart brings, as text for the user.
    pub restart_for: Vec<String>,
    /// What was asked for now and not at its start, as text for the user. A restart does not bring it.
    pub not_taken: Vec<String>,
}

/// Stages what the project says now and has the guest bring it about; with `dry_run` the guest only tells what it would
/// change, and the share is afterwards as it was.
///
/// # Errors
/// It does not run, its secrets cannot be opened, or the guest refuses.
pub fn apply(site: &Site, name: &str, dry_run: bool, observer: &mut dyn Observer) -> Result<Applied, Error> {
    let place = site.place(name)?;
    // Neither a start nor a removal of the instance comes in between, nor another apply.
    let (_turn, _) = turn::take(&place, observer)?;
    let record = place.running()?.ok_or_else(|| instance::Error::NotRunning(place.name.clone()))?;
    let Plan { request, mut spec, shape, nixos, .. } = plan(site, &place, &record)?;
    if nixos.is_some() {
        let reason = "it is a machine of a NixOS configuration, which only a restart changes".to_owned();
        return Err(Error::Refused { name: place.name.clone(), reason });
    }
    check_source(&record, spec.source)?;
    let files = Files::read(site, &spec)?;
    let files = if dry_run { files.for_trial() } else { files };
    let identity = identity::host_key(site, &request, &mut spec, &place, observer)?;
    let shape = shape.with_share(share::fingerprint(&spec, &place, &files, identity.secrets.as_deref())?);
    let mut restart_for = Shape::last(&place)?.map(|before| before.differences(&shape)).unwrap_or_default();
    files.fetch(&site.environment, observer)?;
    let staged = share::staged(site, &spec, &place, identity, files, false, observer)?;
    let failed = |error| Error::Apply { name: place.name.clone(), error };
    let environment = &site.environment;
    let mut session = Session::open(&record, scaled(ANSWER, environment)).map_err(failed)?;
    let patience = scaled(ANSWER, environment);
    let sent =
        if dry_run { session.stage_for_trial(&staged, patience) } else { session.stage(&staged, patience) };
    sent.map_err(failed)?;
    drop(staged);
    let answer =
        session.ask_guest(Question::Apply { dry_run }, scaled(GUEST, environment)).map_err(failed)?;
    let changes = match answer {
        Answer::Applied(changes) => changes,
        Answer::Refused { reason } => return Err(Error::Refused { name: place.name.clone(), reason }),
        Answer::Report(_) => return Err(failed(control::Error::Strange)),
    };
    if !dry_run && let Some(before) = Shape::last(&place)? {
        // What needs a restart is still to come.
        before.with_share_of(&shape).save(&place)?;
    }
    restart_for.extend(changes.restart_for.iter().cloned());
    Ok(Applied { changes, restart_for })
}

/// The guest of an older civm would lose sight of the source.
fn check_source(record: &Record, has_source: bool) -> Result<(), Error> {
    if record.links_source || !has_source {
        return Ok(());
    }
    let reason = "an older civm started it, whose guest looks for the project's source elsewhere: restart it"
        .to_owned();
    Err(Error::Refused { name: record.name.clone(), reason })
}

/// What has changed in the project since an instance that runs was started, and what of it somebody asks to be
/// otherwise now. Nothing is opened for it.
///
/// # Errors
/// Its host.yaml is not valid any more, or a file cannot be read.
pub(super) fn drift(site: &Site, asked: Plan) -> Result<Drift, Error> {
    let place = &asked.place;
    let (Some(before), Some(last)) = (Shape::last(place)?, Request::last(place)?) else {
        return Ok(Drift::default());
    };
    let last = Request { host: asked.request.host.clone(), name: asked.request.name.clone(), ..last };
    let asked = Plan::of(site, asked.request.over(&last))?;
    let plan = Plan::of(site, last)?;
    let not_taken = plan.shape.differences(&asked.shape);
    let (place, spec) = (&plan.place, &plan.spec);
    let files = Files::read(site, spec)?;
    let secrets = match &spec.secrets_host {
        Some(owner) if !plan.request.without_secrets && !spec.secrets.is_empty() => {
            Some(site.project.read(&site.project.secrets_file(owner), crate::host::project::SECRETS_MAX)?)
        }
        _ => None,
    };
    let mut spec = spec.clone();
    if plan.request.without_secrets {
        spec.leave_out_secrets();
    }
    let now = plan.shape.clone().with_share(share::fingerprint(&spec, place, &files, secrets.as_deref())?);
    Ok(Drift { apply: before.has_other_share(&now), restart_for: before.differences(&now), not_taken })
}

/// The plan of an instance that runs, as it was asked for.
fn plan(site: &Site, place: &Place, record: &Record) -> Result<Plan, Error> {
    let last = Request::last(place)?.unwrap_or_default();
    Plan::of(site, Request { host: record.host.clone(), name: Some(place.name.clone()), ..last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_of_an_older_civm_keeps_its_source() {
        let place = Place { project: "/p".into(), name: "a".into(), path: "/s".into() };
        let record = Record::new(&place, "a", 1);
        check_source(&record, true).expect("it is this one's");
        let older = Record { links_source: false, ..record };
        check_source(&older, false).expect("it has none");
        let refused = check_source(&older, true).expect_err("it would be lost");
        assert!(refused.to_string().ends_with("restart it"), "{refused}");
    }
}
