//! What comes from the other side, as it may reach a terminal, a log and this one's memory.

use super::{Facts, FromRemote, Lease, Missing, Owner};
use crate::vm::agent::answer::NAME_MAX;
use crate::vm::agent::printable;

/// The most characters of a text from a remote that are kept, and the most entries of a list.
const TEXT_MAX: usize = 2000;
const LIST_MAX: usize = 1000;

impl FromRemote {
    /// The same as it may reach a terminal, a log and the memory of a keeper.
    #[must_use]
    pub fn bounded(self) -> Self {
        match self {
            Self::Facts(facts) => Self::Facts(facts.bounded()),
            Self::Progress { phase, done, total } => Self::Progress { phase: line(&phase), done, total },
            Self::Started { port, accel, reason } => Self::Started { port, accel, reason: line(&reason) },
            Self::Warning { message } => Self::Warning { message: line(&message) },
            Self::Failed { kind, message, hint } => {
                Self::Failed { kind, message: line(&message), hint: hint.as_deref().map(lines) }
            }
            Self::Purged { paths, bytes } => Self::Purged { paths: list(paths, |path| line(&path)), bytes },
            Self::Gone { reason, left } => {
                Self::Gone { reason: line(&reason), left: list(left, |left| line(&left)) }
            }
            Self::NeedImage | Self::Ready | Self::Pong(_) | Self::Unknown => self,
        }
    }
}

impl Facts {
    fn bounded(self) -> Self {
        let missing =
            |one: Missing| Missing { kind: one.kind, what: line(&one.what), remedy: lines(&one.remedy) };
        let lease = |one: Lease| Lease { id: line(&one.id), owner: one.owner.bounded(), ..one };
        Self {
            civm: line(&self.civm),
            os: line(&self.os),
            accel_reason: line(&self.accel_reason),
            missing: list(self.missing, missing),
            swept: list(self.swept, |one| line(&one)),
            leases: list(self.leases, lease),
            kept: list(self.kept, |(path, bytes)| (line(&path), bytes)),
            ..self
        }
    }
}

/// What of several lines may be shown.
fn lines(text: &str) -> String {
    printable(text).chars().take(TEXT_MAX).collect()
}

fn line(text: &str) -> String {
    lines(text).replace('\n', " ")
}

fn list<T>(of: Vec<T>, bound: impl Fn(T) -> T) -> Vec<T> {
    of.into_iter().take(LIST_MAX).map(bound).collect()
}

impl Owner {
    /// The same as it may reach a terminal: other keepers see it when they look.
    #[must_use]
    pub fn bounded(self) -> Self {
        let bounded = |text: String| printable(&text).replace('\n', " ").chars().take(NAME_MAX).collect();
        Self {
            keeper: bounded(self.keeper),
            host: bounded(self.host),
            project: bounded(self.project),
            builder: bounded(self.builder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::wire::{ImageState, Kind};
    use crate::host::spec::Arch;
    use crate::vm::spec::Accel;

    #[test]
    fn a_remote_can_neither_steer_a_terminal_nor_fill_the_memory() {
        let evil = "\u{1b}]0;x\u{7}\n\u{9b}2J".to_owned() + &"x".repeat(10_000);
        let owner =
            Owner { keeper: evil.clone(), host: evil.clone(), project: evil.clone(), builder: evil.clone() };
        let lease = Lease { id: evil.clone(), owner, since: 0, port: None };
        let missing = Missing { kind: Kind::Tools, what: evil.clone(), remedy: evil.clone() };
        let facts = Facts {
            civm: evil.clone(),
            arch: Arch::X86_64,
            os: evil.clone(),
            cpus: 1,
            memory_mib: 1,
            disk_mib: 1,
            accel: None,
            accel_reason: evil.clone(),
            missing: vec![missing; 1001],
            image: ImageState::None,
            swept: vec![evil.clone(); 1001],
            leases: vec![lease; 1001],
            kept: vec![(evil.clone(), 1); 1001],
        };
        for said in [
            FromRemote::Facts(facts),
            FromRemote::Progress { phase: evil.clone(), done: None, total: None },
            FromRemote::Started { port: 1, accel: Accel::Tcg, reason: evil.clone() },
            FromRemote::Warning { message: evil.clone() },
            FromRemote::Failed { kind: Kind::Boot, message: evil.clone(), hint: Some(evil.clone()) },
            FromRemote::Purged { paths: vec![evil.clone(); 1001], bytes: 1 },
            FromRemote::Gone { reason: evil.clone(), left: vec![evil.clone(); 1001] },
        ] {
            let text = format!("{:?}", said.bounded());
            assert!(!text.contains("\\u{") && !text.contains(&"x".repeat(TEXT_MAX)), "{text:.300}");
            assert!(text.matches("]0;").count() <= 9003, "{}", text.matches("]0;").count());
        }
    }

    #[test]
    fn an_owner_cannot_steer_a_terminal() {
        let text = |text: &str| text.to_owned();
        let owner = Owner {
            keeper: "k".repeat(NAME_MAX + 1),
            host: text("a\u{1b}[2Jb"),
            project: text("a\nb"),
            builder: text("big"),
        };
        let bounded = Owner {
            keeper: "k".repeat(NAME_MAX),
            host: text("a[2Jb"),
            project: text("a b"),
            builder: text("big"),
        };
        assert_eq!(owner.bounded(), bounded);
    }
}
