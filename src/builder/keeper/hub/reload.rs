//! What the builders are made of, read again and again.

use super::*;
use crate::builder::parcels::{self, Loaded};

impl Hub<'_> {
    /// Reads the parcels again. A builder that is made of something else by now goes, and comes back so.
    pub(in crate::builder::keeper) fn reload(&mut self, enable: bool) {
        let mut complaints = Vec::new();
        let found = parcels::load(&self.parcels, &mut |complaint| complaints.push(complaint));
        let mut found: BTreeMap<String, Loaded> = match found {
            Ok(found) => found.into_iter().map(|one| (one.name().to_owned(), one)).collect(),
            Err(error) => {
                // That does not mean that nobody wants them any more.
                let text =
                    format!("cannot list {}: {error}; all builders stay as they are", self.parcels.display());
                (self.tell)(&Line { at: 0, builder: String::new(), text });
                return;
            }
        };
        for text in complaints {
            (self.tell)(&Line { at: 0, builder: String::new(), text });
        }
        let known: Vec<String> = self.builders.keys().cloned().collect();
        for name in known {
            let Some(builder) = self.builders.get_mut(&name) else { continue };
            let next = found.remove(&name).map(Arc::new);
            if next.as_ref().is_some_and(|next| **next == *builder.loaded) {
                builder.next = None;
                continue;
            }
            let drain = builder.loaded.parcel.builder.drain;
            builder.next_is_wanted = builder.state.is_enabled() || self.enable_all;
            builder.next = Some(next);
            self.step(&name, Input::Down { within: Some(drain) });
        }
        for (name, loaded) in found {
            self.add(name, Arc::new(loaded), enable);
        }
        self.renew();
        self.publish();
    }

    fn add(&mut self, name: String, loaded: Arc<Loaded>, enable: bool) {
        let prepared = self.shared.identity.host(&name).and_then(|host_key| {
            self.write_keys(&loaded)?;
            Ok(host_key)
        });
        match prepared {
            Ok(host_key) => {
                self.refused.remove(&name);
                self.builders.insert(name.clone(), Builder::new(loaded, host_key));
                self.changed = true;
                if enable {
                    self.step(&name, Input::Enable);
                }
            }
            Err(text) => {
                (self.tell)(&Line { at: 0, builder: name.clone(), text: text.clone() });
                self.refused.insert(name, text);
            }
        }
    }

    /// A builder whose key is a secret: those who may build have a copy.
    pub(super) fn write_keys(&self, loaded: &Loaded) -> Result<(), String> {
        let Some(pair) = loaded.key()? else { return Ok(()) };
        let environment = &self.shared.environment;
        for user in self.held.users(environment) {
            let path = self.held.place.key(&user, Some(loaded));
            self.held.write_key(&user, &path, &pair.private, environment)?;
        }
        Ok(())
    }

    /// Puts those that are gone in order: they come back as something else, or not at all.
    pub(super) fn renew(&mut self) {
        let due = |builder: &Builder| builder.next.is_some() && builder.state.is_gone();
        let names: Vec<String> =
            self.builders.iter().filter(|(_, builder)| due(builder)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(old) = self.builders.remove(&name) else { continue };
            self.changed = true;
            if matches!(old.next, Some(None)) {
                self.held.remove_keys(&name);
            }
            if let Some(next) = old.next.flatten() {
                self.add(name.clone(), next, false);
                if old.next_is_wanted {
                    // One that is started on demand waits until somebody wants it.
                    self.step(&name, Input::Enable);
                }
            }
        }
    }
}
