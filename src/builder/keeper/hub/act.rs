//! What the hub does: sessions, connections, and what nix and ssh read.

use super::*;
use crate::builder::keeper::reason::{Kind, Reason};
use crate::builder::keeper::state::Ending;

impl Hub<'_> {
    pub(super) fn start(&mut self, name: &str, id: u64) {
        // The alias that the first login uses must be there before it.
        self.publish();
        let (shared, keeper) = (Arc::clone(&self.shared), self.sender.clone());
        let Some(builder) = self.builders.get_mut(name) else { return };
        builder.forget_session();
        let loaded = Arc::clone(&builder.loaded);
        // They went when it was not wanted any more.
        let keys = self.write_keys(&loaded).and_then(|()| self.held.remote_key(&loaded));
        let key = match keys {
            Ok(key) => key,
            Err(message) => return self.broken(name, id, message),
        };
        let Some(builder) = self.builders.get_mut(name) else { return };
        let on = &builder.loaded.parcel.builder;
        let access = Access::new(&on.on, &on.on_public_key, key, name, &shared.place.dir);
        let orders = Arc::new(Orders::default());
        builder.orders = Some(Arc::clone(&orders));
        let session = Session { loaded, id, shared, orders, keeper, access };
        let spawned = thread::Builder::new().name("session".into()).stack_size(SESSION_STACK);
        if let Err(error) = spawned.spawn(move || session.run()) {
            self.broken(name, id, format!("cannot start a thread: {error}"));
        }
    }

    /// A session that never was.
    fn broken(&mut self, builder: &str, id: u64, message: String) {
        let ending = Ending::Broken(Reason::new(Kind::Local, message));
        let said = Said::Event(Event::Ended { ending, chance: 0 });
        self.own.push_back(Message::Session { builder: builder.to_owned(), id, said });
    }

    /// Gives somebody's socket to an ssh that leads it to the builder.
    pub(super) fn connect(&mut self, name: &str, dial: u64) {
        let caller = self.callers.remove(&dial).map(|(_, caller)| caller);
        let way = self.builders.get(name).and_then(|builder| builder.way.as_ref());
        let closed = Message::Closed { builder: name.to_owned() };
        let started = match (caller, way) {
            (Some(caller), Some(way)) => self.lead(&caller, &way.arguments, name),
            _ => Err("it is gone".to_owned()),
        };
        if let Err(error) = started {
            self.own.push_back(closed);
            self.log(name, &format!("a connection could not be made: {error}"));
        }
    }

    fn lead(&self, caller: &Caller, arguments: &[std::ffi::OsString], name: &str) -> Result<(), String> {
        tell(caller, Reply { connected: Some(true), ..Reply::default() });
        let fd = match caller {
            Caller::Socket(stream) => stream.as_fd().try_clone_to_owned(),
            Caller::Port(stream) => stream.as_fd().try_clone_to_owned(),
        };
        let fd: OwnedFd = fd.map_err(|error| error.to_string())?;
        let other = fd.try_clone().map_err(|error| error.to_string())?;
        let mut command = command(arguments, &self.shared.environment).map_err(|error| error.message)?;
        let command = command.stdin(Stdio::from(fd)).stdout(Stdio::from(other)).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let (sender, builder) = (self.sender.clone(), name.to_owned());
        let wait = move || {
            let _ = child.wait();
            let _ = sender.send(Message::Closed { builder });
        };
        thread::Builder::new()
            .name("connection".into())
            .stack_size(STACK / 4)
            .spawn(wait)
            .map(drop)
            .map_err(|error| error.to_string())
    }

    /// Writes what nix and ssh read, where it has changed.
    pub(super) fn publish(&mut self) {
        let ending = self.is_ending();
        let published = |name: &str, builder: &Builder| {
            !ending && builder.state.is_published(self.has_room_elsewhere(name))
        };
        let told: Vec<_> =
            self.builders.iter().map(|(name, builder)| builder.told(published(name, builder))).collect();
        if let Err(text) = publish::write(&self.held, &told, &self.civm) {
            (self.tell)(&Line { at: 0, builder: String::new(), text });
        }
    }

    pub(in crate::builder::keeper) fn views(&self) -> Vec<View> {
        let now = self.now();
        let view = |(name, builder): (&String, &Builder)| {
            builder.view(builder.state.is_published(self.has_room_elsewhere(name)), now)
        };
        self.builders.iter().map(view).collect()
    }
}
