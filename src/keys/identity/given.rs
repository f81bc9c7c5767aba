//! Identities that the caller already has.

use std::sync::{Arc, Mutex};

use super::as_sops::Reading;
use super::{Half, Identities, Key, Slot, Source, load, text};
use crate::edge::environment::Environment;
use crate::edge::terminal::Nobody;
use crate::keys::native::AgeIdentity;

/// An identity that the caller has read itself.
pub struct Given(Key);

impl Given {
    /// Reads the identities of a file, one a line; and what is wrong with other lines, by number and without their text.
    #[must_use]
    pub fn parse(text: &[u8]) -> (Vec<Self>, Vec<String>) {
        let found = text::parse(text, false);
        (found.keys.into_iter().map(Self).collect(), found.problems)
    }

    /// Its public half.
    #[must_use]
    pub fn half(&self) -> Half {
        self.0.half()
    }
}

impl From<AgeIdentity> for Given {
    fn from(key: AgeIdentity) -> Self {
        Self(Key::Native(key))
    }
}

impl Identities {
    /// Uses only these identities: no place is searched, and the user is not asked.
    #[must_use]
    pub fn of(keys: impl IntoIterator<Item = impl Into<Given>>) -> Self {
        Self::given(keys, Vec::new(), &Environment::empty())
    }

    /// The same, and after them the places where sops looks. The user is not asked.
    #[must_use]
    pub fn with_places(keys: impl IntoIterator<Item = impl Into<Given>>, environment: &Environment) -> Self {
        Self::given(keys, load::all(environment), environment)
    }

    fn given(
        keys: impl IntoIterator<Item = impl Into<Given>>,
        places: Vec<Slot>,
        environment: &Environment,
    ) -> Self {
        let keys: Vec<Key> = keys.into_iter().map(|key| key.into().0).collect();
        let sops = Reading { identities: keys.len(), ..Reading::default() };
        let given = Slot::Read(Arc::new(Source { keys, sops, ..Source::default() }));
        Self {
            slots: std::iter::once(given).chain(places).collect(),
            prompt: Arc::new(Nobody),
            environment: environment.clone(),
            plugins: Mutex::new(()),
        }
    }
}
