use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::builder::keeper::retry::{LEAST, MOST};

fn policy(start: Start) -> Policy {
    Policy { start, idle: Duration::from_secs(30), hold: Duration::from_secs(20), most: 3 }
}

const SECOND: Time = Duration::from_secs(1);

/// A builder with a clock, and what was said of its sessions and connections.
struct World {
    state: State,
    policy: Policy,
    now: Time,
    /// The sessions that live, and whether each was told to stop or cut.
    sessions: Vec<u64>,
    answers: BTreeMap<u64, Vec<Action>>,
    dials: u64,
}

impl World {
    fn new(start: Start) -> Self {
        Self {
            state: State::default(),
            policy: policy(start),
            now: Time::ZERO,
            sessions: Vec::new(),
            answers: BTreeMap::new(),
            dials: 0,
        }
    }

    fn take(&mut self, input: Input) -> Vec<Action> {
        let failed = matches!(self.state.phase, Phase::Failed(_));
        let up = matches!(input, Input::Up);
        if let Input::Session { id, event: Event::Ended { .. } } = &input {
            self.sessions.retain(|session| session != id);
        }
        let waited = matches!(self.state.phase, Phase::Waiting { .. });
        let (state, actions) = self.state.clone().step(&self.policy, input, self.now);
        self.state = state;
        for action in &actions {
            match action {
                Action::Start { session } => {
                    assert!(self.sessions.is_empty(), "two sessions of one builder");
                    assert!(!failed || up, "a builder that failed is started by `up` alone");
                    self.sessions.push(*session);
                }
                Action::Stop { session } | Action::Cut { session } => {
                    assert!(self.sessions.contains(session), "a session that has ended");
                }
                Action::Connect { dial } | Action::Hold { dial } | Action::Refuse { dial, .. } => {
                    self.answers.entry(*dial).or_default().push(action.clone());
                }
            }
        }
        if let (Phase::Waiting { until, .. }, false) = (&self.state.phase, waited) {
            assert!((LEAST..=MOST).contains(&(*until - self.now)), "{until:?}");
        }
        actions
    }

    fn dial(&mut self, elsewhere: bool) -> Vec<Action> {
        self.dials += 1;
        let dial = self.dials;
        self.take(Input::Dial { dial, elsewhere })
    }

    fn session(&mut self, event: Event) -> Vec<Action> {
        let id = self.sessions.last().copied().unwrap_or(u64::MAX);
        self.take(Input::Session { id, event })
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.take(Input::Tick)
    }

    fn ready(start: Start) -> Self {
        let mut world = Self::new(start);
        world.take(Input::Enable);
        world.take(Input::Up);
        world.session(Event::Reached);
        world.session(Event::Started);
        world.session(Event::Ready);
        world
    }
}

fn broken(kind: Kind) -> Event {
    Event::Ended { ending: Ending::Broken(Reason::new(kind, "x")), chance: 7 }
}

#[test]
fn a_build_that_comes_early_waits_and_is_connected() {
    let mut world = World::new(Start::Always);
    assert_eq!(world.take(Input::Enable), [Action::Start { session: 1 }]);
    assert_eq!(world.dial(false), [Action::Hold { dial: 1 }]);
    assert!(world.state.is_published(false));
    world.session(Event::Reached);
    world.session(Event::Started);
    assert_eq!(world.session(Event::Ready), [Action::Connect { dial: 1 }]);
    assert_eq!(world.state.connections(), 1);
    assert_eq!(world.dial(true), [Action::Connect { dial: 2 }], "a ready builder asks for no other");
}

#[test]
fn more_connections_than_it_may_have_wait_for_their_turn() {
    let mut world = World::ready(Start::Always);
    for dial in 1..=3 {
        assert_eq!(world.dial(false), [Action::Connect { dial }]);
    }
    for dial in 4..=5 {
        assert_eq!(world.dial(false), [Action::Hold { dial }]);
    }
    assert_eq!(world.dial(true), [Action::Hold { dial: 6 }], "it may be this very store that is wanted");
    assert_eq!(world.take(Input::HungUp { dial: 6 }), []);
    assert_eq!(world.take(Input::Closed), [Action::Connect { dial: 4 }]);
    assert_eq!(world.take(Input::HungUp { dial: 5 }), []);
    assert_eq!(world.take(Input::Closed), []);
    // Those who came early are let in a few at a time as well.
    let mut world = World::new(Start::Always);
    world.take(Input::Enable);
    (0..5).for_each(|_| drop(world.dial(false)));
    assert_eq!(world.session(Event::Ready), [1, 2, 3].map(|dial| Action::Connect { dial }));
    assert_eq!((world.state.held(), world.pass(20 * SECOND).len()), (2, 2));
}

#[test]
fn nobody_waits_where_another_builder_has_room() {
    let mut world = World::new(Start::Always);
    world.take(Input::Enable);
    assert_eq!(world.dial(true), [Action::Refuse { dial: 1, why: Refusal::Elsewhere }]);
    world.dial(false);
    world.session(broken(Kind::Network));
    assert!(world.state.is_published(false) && !world.state.is_published(true));
    assert_eq!(world.take(Input::Elsewhere), [Action::Refuse { dial: 2, why: Refusal::Elsewhere }]);
}

#[test]
fn one_whose_machine_does_not_answer_gets_no_new_builds_until_it_does() {
    let mut world = World::ready(Start::Always);
    assert!(world.state.is_well() && world.state.is_published(true));
    world.session(Event::Unwell);
    assert!(!world.state.is_well() && world.state.is_published(false) && !world.state.is_published(true));
    assert_eq!(world.dial(true), [Action::Refuse { dial: 1, why: Refusal::Elsewhere }]);
    assert_eq!(world.dial(false), [Action::Hold { dial: 2 }], "it is the last hope");
    assert_eq!(world.session(Event::Well), [Action::Connect { dial: 2 }]);
    assert!(world.state.is_published(true));
    // Whoever waits goes elsewhere as soon as that is possible.
    world.session(Event::Unwell);
    world.dial(false);
    assert_eq!(world.take(Input::Elsewhere), [Action::Refuse { dial: 3, why: Refusal::Elsewhere }]);
    // A new machine is well.
    world.session(broken(Kind::Network));
    world.pass(120 * SECOND);
    world.session(Event::Ready);
    assert!(world.state.is_well());
}

#[test]
fn a_wait_ends_in_any_case() {
    let mut world = World::new(Start::Always);
    world.take(Input::Enable);
    world.dial(false);
    assert_eq!(world.pass(19 * SECOND), []);
    assert_eq!(world.pass(SECOND), [Action::Refuse { dial: 1, why: Refusal::Late }]);
}

#[test]
fn one_that_is_started_on_demand_stops_when_nobody_wants_it_and_starts_again() {
    let mut world = World::new(Start::OnDemand);
    assert_eq!(world.take(Input::Enable), []);
    assert!(world.state.is_published(true), "nix must know of it to want it");
    assert_eq!(world.dial(false), [Action::Hold { dial: 1 }, Action::Start { session: 1 }]);
    world.session(Event::Ready);
    assert_eq!(world.pass(100 * SECOND), [], "a build runs");
    world.take(Input::Closed);
    assert_eq!(world.pass(29 * SECOND), []);
    assert_eq!(world.pass(SECOND), [Action::Stop { session: 1 }]);
    assert_eq!(world.dial(false), [Action::Hold { dial: 2 }], "it comes while it stops");
    let ended = Event::Ended { ending: Ending::Gone, chance: 0 };
    assert_eq!(world.session(ended.clone()), [Action::Start { session: 2 }]);
    world.session(Event::Ready);
    world.take(Input::Closed);
    world.pass(30 * SECOND);
    world.session(ended);
    assert_eq!(*world.state.phase(), Phase::Idle);
    assert!(world.state.is_enabled());
}

#[test]
fn what_no_second_try_changes_is_not_tried_again() {
    for kind in [Kind::Auth, Kind::HostKey, Kind::Binary, Kind::Remote(wire::Kind::Kvm), Kind::Local] {
        let mut world = World::new(Start::Always);
        world.take(Input::Enable);
        world.dial(false);
        assert_eq!(world.session(broken(kind)), [Action::Refuse { dial: 1, why: Refusal::Failed }]);
        assert_eq!(world.pass(10_000 * SECOND), []);
        assert_eq!(world.dial(false), [Action::Refuse { dial: 2, why: Refusal::Failed }]);
        assert!(!world.state.is_published(false));
        assert_eq!(world.take(Input::Up), [Action::Start { session: 2 }]);
    }
}

#[test]
fn a_machine_that_does_not_boot_is_not_started_for_ever() {
    let mut world = World::new(Start::Always);
    world.take(Input::Enable);
    for _ in 0..2 {
        world.session(broken(Kind::Remote(wire::Kind::Boot)));
        assert_eq!(world.state.phase().name(), "waiting");
        world.pass(MOST);
    }
    world.session(broken(Kind::Remote(wire::Kind::Boot)));
    assert_eq!(world.state.phase().name(), "failed");
}

#[test]
fn builds_that_run_may_finish_but_not_for_ever() {
    let mut world = World::ready(Start::Always);
    world.dial(false);
    assert_eq!(world.take(Input::Down { within: Some(60 * SECOND) }), []);
    assert!(!world.state.is_published(false));
    assert_eq!(world.dial(false), [Action::Refuse { dial: 2, why: Refusal::Draining }]);
    let mut other = World { state: world.state.clone(), sessions: vec![1], ..World::new(Start::Always) };
    assert_eq!(other.take(Input::Closed), [Action::Stop { session: 1 }]);
    assert_eq!(world.pass(59 * SECOND), []);
    assert_eq!(world.pass(SECOND), [Action::Stop { session: 1 }]);
    assert_eq!(world.pass(STOP_WITHIN), [Action::Cut { session: 1 }]);
    assert_eq!(world.pass(STOP_WITHIN), [], "once is enough");
    world.session(broken(Kind::Network));
    assert_eq!(*world.state.phase(), Phase::Idle);
}

#[test]
fn a_builder_that_drains_can_be_taken_back() {
    let mut world = World::ready(Start::Always);
    world.dial(false);
    world.take(Input::Down { within: None });
    assert_eq!(world.pass(1_000_000 * SECOND), []);
    world.take(Input::Up);
    assert_eq!(world.state.phase().name(), "ready");
}

fn event() -> impl Strategy<Value = Event> {
    let kinds = prop_oneof![
        3 => Just(Kind::Network),
        1 => Just(Kind::Auth),
        1 => Just(Kind::Remote(wire::Kind::Boot)),
        1 => Just(Kind::Remote(wire::Kind::Ended)),
    ];
    prop_oneof![
        Just(Event::Reached),
        Just(Event::Started),
        Just(Event::Ready),
        Just(Event::Unwell),
        Just(Event::Well),
        (kinds, any::<u32>()).prop_map(|(kind, chance)| Event::Ended {
            ending: Ending::Broken(Reason::new(kind, "x")),
            chance
        }),
        any::<u32>().prop_map(|chance| Event::Ended { ending: Ending::Gone, chance }),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Take(Input),
    Dial(bool),
    HungUp(u64),
    Session(Event),
    Old(Event),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Take(Input::Enable)),
        1 => Just(Step::Take(Input::Up)),
        1 => proptest::option::of(0_u64..40).prop_map(|within| Step::Take(Input::Down {
            within: within.map(Duration::from_secs)
        })),
        4 => any::<bool>().prop_map(Step::Dial),
        1 => (0_u64..20).prop_map(Step::HungUp),
        2 => Just(Step::Take(Input::Closed)),
        1 => Just(Step::Take(Input::Elsewhere)),
        8 => event().prop_map(Step::Session),
        1 => event().prop_map(Step::Old),
        4 => (0_u64..90_000).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whatever_happens(
        on_demand in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(if on_demand { Start::OnDemand } else { Start::Always });
        let mut gone = Vec::new();
        for step in steps {
            match step {
                Step::Take(input) => { world.take(input); }
                Step::Dial(elsewhere) => { world.dial(elsewhere); }
                Step::HungUp(dial) => { world.take(Input::HungUp { dial }); gone.push(dial); }
                Step::Session(event) => { world.session(event); }
                // One that was given up has nothing to say any more.
                Step::Old(event) => { world.take(Input::Session { id: 0, event }); }
                Step::Pass(millis) => { world.pass(Duration::from_millis(millis)); }
            }
        }
        // Every wait ends, with one answer.
        world.pass(world.policy.hold);
        prop_assert_eq!(world.state.held(), 0);
        for (dial, answers) in &world.answers {
            let last = answers.iter().filter(|answer| !matches!(answer, Action::Hold { .. })).count();
            prop_assert!(last <= 1, "{dial}: {answers:?}");
            prop_assert!(last == 1 || gone.contains(dial), "{dial}: {answers:?}");
        }
        // A stop ends with nothing left, even if the remote never says a word.
        world.take(Input::Down { within: Some(Duration::ZERO) });
        let actions = world.pass(STOP_WITHIN);
        if let Some(session) = world.sessions.first().copied() {
            let cut_now = actions.contains(&Action::Cut { session });
            let cut_before = matches!(world.state.phase(), Phase::Stopping { cut: true, .. });
            prop_assert!(cut_now || cut_before);
            world.session(broken(Kind::Network));
        }
        prop_assert!(world.state.is_gone() && world.sessions.is_empty());
        prop_assert_eq!(world.state.phase(), &Phase::Idle);
        // And it stays so.
        prop_assert_eq!(world.pass(Duration::from_secs(100_000)), []);
    }
}
