//! The machine that is lent: made, started and waited for by a thread, asked how it is by another, ended by a third.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::facts::free_mib;
use super::inbox::Input;
use super::outbox::Outbox;
use super::refusal::Refusal;
use crate::builder::wire::{FromRemote, Pong};
use crate::edge::environment::Environment;
use crate::host::parcel::Order;
use crate::image;
use crate::instance::accel::AccelRequest;
use crate::instance::control::Session;
use crate::instance::deadline::scaled;
use crate::instance::event::Health;
use crate::instance::plan::Staged;
use crate::instance::state::Phase;
use crate::instance::stop::{self, Patience};
use crate::instance::{self, Home, Place};
use crate::lifecycle::{Lent, Observer, Progress};
use crate::vm::agent::{Answer, Question};
use crate::vm::ports::SSH;
use crate::{secrets, vm};

/// How long QEMU, and then the guest's agent, may take to say how they are: together less than the time between two
/// pings.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a guest may take to power off. It has nothing to save: its disk goes with it.
const POWER_OFF: Duration = Duration::from_secs(8);
/// How long a machine may take to be gone once it is killed, before its processes are.
const KILLED: Duration = Duration::from_secs(10);
/// How long the end may take in all.
const END: Duration = Duration::from_secs(60);
/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Pings that may wait for an answer; who sends more of them needs no answer to each.
const PINGS_MAX: usize = 64;

/// What a machine comes to.
pub(super) enum Event {
    /// QEMU runs: this port leads to the guest's sshd.
    Started(u16),
    /// It did not become ready, and has been stopped.
    Failed(Refusal),
    /// It was ready, and has ended.
    Ended(String),
}

/// What a machine is made of.
pub(super) struct Making {
    pub(super) home: Home,
    pub(super) place: Place,
    pub(super) order: Order,
    pub(super) image: Option<String>,
    pub(super) accel: AccelRequest,
    pub(super) staged: Vec<Staged>,
    pub(super) environment: Environment,
}

/// How far a machine has come, as far as it matters to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Nothing has been started yet.
    Open,
    /// It is being started, or runs.
    Passed,
    /// It is not to be started any more.
    Closed,
}

/// A machine, from the order to its end.
pub(super) struct Machine {
    place: Place,
    environment: Environment,
    gate: Arc<Mutex<Gate>>,
    maker: JoinHandle<()>,
    pings: SyncSender<u64>,
}

impl Machine {
    /// Begins to make it.
    pub(super) fn begin(making: Making, outbox: &Outbox, to: &SyncSender<Input>) -> Self {
        let (place, environment) = (making.place.clone(), making.environment.clone());
        let gate = Arc::new(Mutex::new(Gate::Open));
        let (pings, asked) = sync_channel(PINGS_MAX);
        {
            let (place, environment, outbox) = (place.clone(), environment.clone(), outbox.clone());
            std::thread::spawn(move || answer(&asked, &place, &environment, &outbox));
        }
        let maker = {
            let (gate, outbox, to) = (Arc::clone(&gate), outbox.clone(), to.clone());
            std::thread::spawn(move || {
                let mut watch = Watch { outbox: &outbox, to: &to, shown: None, accel: None };
                if let Some(event) = make(making, &gate, &mut watch) {
                    let _ = to.send(Input::Machine(event));
                }
            })
        };
        Self { place, environment, gate, maker, pings }
    }

    /// Answers a ping once QEMU and the guest have been asked.
    pub(super) fn ping(&self, n: u64) {
        let _ = self.pings.try_send(n);
    }

    /// Begins its end; [`Input::Stopped`] says when it has come.
    pub(super) fn end(self, now: bool, to: &SyncSender<Input>) -> Ending {
        let before = {
            let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *gate, Gate::Closed)
        };
        let (place, to) = (self.place.clone(), to.clone());
        let (environment, pings) = (self.environment, self.pings);
        let patience = scaled(END, &environment).max(END);
        // A build of its image, which may take minutes, ends with this process.
        let maker = (before == Gate::Passed).then_some(self.maker);
        std::thread::spawn(move || {
            let _ = to.send(Input::Stopped(ended(&place, maker.as_ref(), now, &environment)));
        });
        Ending { place: self.place, pings, patience }
    }
}

/// A machine that is being ended.
pub(super) struct Ending {
    place: Place,
    pings: SyncSender<u64>,
    /// How long that may take.
    pub(super) patience: Duration,
}

impl Ending {
    /// Still answers.
    pub(super) fn ping(&self, n: u64) {
        let _ = self.pings.try_send(n);
    }

    /// Gives the guest no more time.
    pub(super) fn hurry(&self) {
        let place = self.place.clone();
        std::thread::spawn(move || {
            if let Some(record) = place.record() {
                stop::kill(&record);
            }
        });
    }
}

/// Makes it, starts it, waits until it is ready and until it has ended; nothing where it is not wanted any more.
fn make(making: Making, gate: &Mutex<Gate>, watch: &mut Watch<'_>) -> Option<Event> {
    let Making { home, place, order, image, accel, staged, environment } = making;
    let lent = Lent {
        home: &home,
        place: &place,
        order: &order,
        image: image.as_deref(),
        accel,
        environment: &environment,
    };
    let prepared = match lent.prepare(watch) {
        Ok(prepared) => prepared,
        Err(error) => return Some(Event::Failed(Refusal::of(&error))),
    };
    {
        let mut gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
        if *gate == Gate::Closed {
            return None;
        }
        *gate = Gate::Passed;
    }
    match prepared.start(staged, watch) {
        Err(error) => Some(Event::Failed(Refusal::of(&error))),
        Ok(running) => {
            watch.outbox.say(FromRemote::Ready);
            Some(Event::Ended(running.wait_end(&mut |event| watch.tell(Progress::Instance(event))).0))
        }
    }
}

/// Ends a machine that may still be on its way up, and says what is left of it.
fn ended(place: &Place, maker: Option<&JoinHandle<()>>, now: bool, environment: &Environment) -> Vec<String> {
    let over = [Phase::Starting, Phase::Ended];
    let running = || place.record().filter(|record| !over.contains(&record.phase));
    let down = |patience| match stop::down(place, Patience::AtMost(patience), environment, &mut |_| {}) {
        Ok(_) | Err(instance::Error::NotRunning(_)) => Vec::new(),
        Err(instance::Error::Left { left, .. }) => left,
        Err(error) => vec![error.to_string()],
    };
    if !now && running().is_some() {
        down(POWER_OFF);
    }
    // One that is just being started cannot be told before it runs. Its maker knows when it is over.
    let until = Instant::now() + scaled(KILLED, environment);
    while maker.is_some_and(|maker| !maker.is_finished()) && Instant::now() < until {
        if let Some(record) = running() {
            stop::kill(&record);
        }
        std::thread::sleep(LOOK);
    }
    if maker.is_some_and(|maker| !maker.is_finished()) {
        // Whoever holds it does not answer. Nobody else is to be told of its end.
        stop::kill_stages(place);
    }
    down(Duration::ZERO)
}

/// Answers pings, the last of those that have come meanwhile.
fn answer(asked: &Receiver<u64>, place: &Place, environment: &Environment, outbox: &Outbox) {
    while let Ok(first) = asked.recv() {
        let n = asked.try_iter().last().unwrap_or(first);
        outbox.say(FromRemote::Pong(Pong { n, ..health(place, environment) }));
    }
}

/// How QEMU and the guest are.
fn health(place: &Place, environment: &Environment) -> Pong {
    let mut pong = idle(place, 0);
    let within = scaled(ANSWER, environment);
    let session = place.record().and_then(|record| Session::open(&record, within).ok());
    let Some(mut session) = session else { return pong };
    pong.qemu = session.status(within).is_ok_and(|status| status.health == Health::Running);
    if pong.qemu
        && let Ok(Answer::Report(usage)) = session.ask_guest(Question::Report, within)
    {
        pong.agent = true;
        pong.disk_free_mib = Some(usage.disk_available_kib / 1024);
        pong.disk_read_only = usage.disk_read_only;
        pong.load_centi = usage.load.first().copied();
    }
    pong
}

/// The answer to a ping while there is no machine.
pub(super) fn idle(place: &Place, n: u64) -> Pong {
    Pong { n, remote_disk_free_mib: free_mib(&place.path), ..Pong::default() }
}

/// Passes on what a start says of itself.
struct Watch<'a> {
    outbox: &'a Outbox,
    to: &'a SyncSender<Input>,
    /// Step and per cent of the image that were told last.
    shown: Option<(String, u64)>,
    accel: Option<String>,
}

impl Watch<'_> {
    fn phase(&self, phase: impl Into<String>) {
        self.outbox.say(FromRemote::Progress { phase: phase.into(), done: None, total: None });
    }

    fn warn(&self, message: impl Into<String>) {
        self.outbox.say(FromRemote::Warning { message: message.into() });
    }

    fn image(&mut self, event: &image::Event) {
        match event {
            image::Event::Waiting => self.phase("waiting for another civm that builds the same image"),
            image::Event::Building { .. } | image::Event::BuildingWithNix { .. } => {
                self.phase("building the image");
            }
            image::Event::Step { name } => {
                self.phase(format!("image: {name}"));
                self.shown = Some(((*name).to_owned(), 0));
            }
            image::Event::Fraction(fraction) => {
                // From 0 to 1, whatever it is.
                let percent = (1..=100_u8).take_while(|n| f32::from(*n) <= fraction * 100.0).count() as u64;
                if let Some((step, shown)) = &mut self.shown
                    && *shown != percent
                {
                    *shown = percent;
                    let (phase, done, total) = (format!("image: {step}"), Some(percent), Some(100));
                    self.outbox.say(FromRemote::Progress { phase, done, total });
                }
            }
            image::Event::Built { seconds } => self.phase(format!("image built in {seconds} s")),
        }
    }

    fn instance(&mut self, event: &instance::Event) {
        match event {
            instance::Event::Accel { reason, .. } => self.accel = Some(reason.clone()),
            instance::Event::Warning { message } => self.warn(message),
            instance::Event::Started { accel, forwards } => {
                let ssh = forwards.iter().find(|forward| forward.guest_port == SSH);
                let port = ssh.map_or(0, |forward| forward.host_port);
                let reason = self.accel.take().unwrap_or_default();
                self.outbox.say(FromRemote::Started { port, accel: *accel, reason });
                let _ = self.to.send(Input::Machine(Event::Started(port)));
            }
            instance::Event::Guest { report } => match report {
                vm::agent::Event::Warning { message } => self.warn(format!("the guest: {message}")),
                vm::agent::Event::Waiting { what } => self.phase(format!("still starting: {what}")),
                vm::agent::Event::Started { .. } => self.phase("the guest boots"),
                vm::agent::Event::LayerApplied => self.phase("the guest is set up"),
                _ => {}
            },
            instance::Event::Resumed => self.phase("the guest is resumed from a template"),
            instance::Event::Rebooting => self.warn("the guest boots again"),
            instance::Event::Panicked { message } => {
                self.warn(format!("the guest's kernel panicked: {message}"));
            }
            _ => {}
        }
    }
}

impl Observer for Watch<'_> {
    fn tell(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Image(event) => self.image(event),
            Progress::Instance(event) => self.instance(event),
            Progress::Warning(message) => self.warn(message),
            Progress::Cold { reason } => self.phase(format!("no warm start: {reason}")),
            _ => {}
        }
    }

    fn boots_without_secrets(&mut self, _: &str, _: &secrets::Error) -> Option<bool> {
        None
    }
}
