//! What a running instance is asked over its control socket, with a guest that a script plays.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use civm::edge::lock::{Lock, open_file};
use civm::instance::Running;
use civm::instance::control::{Error, Session};
use civm::instance::event::{Event, Health};
use civm::instance::plan::{ConsoleLog, Machine, Staged};
use civm::instance::state::{Phase, Record};
use civm::instance::stop::{self, Patience};
use civm::instance::wire::{Code, Failure};
use civm::vm::agent::{Answer, Question};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::played::{SECONDS, down, scene, start, wait_ready};
use crate::scene::{KEY, Scene, wait_until};

/// One whose console is kept all the time, and its record.
fn start_with_console(scene: &Scene) -> (Running, Record) {
    let machine = Machine { console_log: ConsoleLog::Always, ..scene.machine("a", 0) };
    let running = scene.start(machine, None).expect("it starts");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    (running, record)
}

fn code<T: std::fmt::Debug>(answer: Result<T, Error>) -> Code {
    match answer {
        Err(Error::Refused(Failure { code, .. })) => code,
        other => panic!("{other:?}"),
    }
}

pub fn a_guest_is_asked_and_answers_by_number() {
    // It answers every second question, the later one first, and says a number that nobody asked.
    let scene = scene(
        r#"refuse() { tell answer ",\"id\":$1,\"answer\":{\"answer\":\"refused\",\"reason\":\"$2\"}"; }
        guest() {
            ready
            while read -r line <&$agent; do
                [[ $line == *'"ask"'* ]] || continue
                id=${line##*'"id":'} id=${id%%,*}
                case "$line" in
                *dry_run*true*) first=$id ;;
                *dry_run*false*) refuse 999 nobody; refuse $id later; refuse $first earlier ;;
                esac
            done
        }"#,
    );
    let mut running = start(&scene);
    let record = scene.place("a").running().expect("readable").expect("it runs");
    let open = || Session::open(&record, SECONDS).expect("its supervisor answers");
    wait_ready(&mut running).expect("it is ready");
    let status = stop::status(&record, &scene.environment).expect("it says how it is");
    assert_eq!((status.health, status.phase), (Health::Running, Some(Phase::Ready)));
    assert_eq!(status.run_state.as_deref(), Some("running"));
    let asked = std::thread::scope(|scope| {
        let first =
            scope.spawn(|| open().ask_guest(Question::Apply { dry_run: true }, SECONDS).expect("it answers"));
        std::thread::sleep(Duration::from_millis(300));
        let second = open().ask_guest(Question::Apply { dry_run: false }, SECONDS).expect("it answers");
        [first.join().expect("it ends"), second]
    });
    assert_eq!(asked, ["earlier", "later"].map(|reason| Answer::Refused { reason: reason.to_owned() }));
    // A guest that says nothing keeps nobody waiting longer than they wanted.
    assert_eq!(code(open().ask_guest(Question::Report, Duration::from_millis(100))), Code::NoAnswer);
    // Nor do those who connect and say nothing.
    let mut listener = open();
    listener.subscribe(SECONDS).expect("it is sent events");
    let control = record.control().expect("a socket");
    let connect = || UnixStream::connect(&control).expect("it is connected");
    let _silent: Vec<UnixStream> = (0..70).map(|_| connect()).collect();
    let status = stop::status(&record, &scene.environment).expect("it says how it is");
    assert_eq!(status.health, Health::Running);
    assert!(down(&scene, SECONDS).is_ok());
    let stopping = listener.next_event(SECONDS).expect("who listens keeps a seat");
    assert!(matches!(stopping, Event::Stopping { .. }), "{stopping:?}");
}

pub fn files_that_are_tried_are_there_for_one_answer() {
    let scene = scene(
        r#"guest() {
            tell key-taken; ready
            while read -r line <&$agent; do
                [[ $line == *'"ask"'* ]] || continue
                id=${line##*'"id":'} id=${id%%,*}
                show "round $(cat $share/host/round 2>/dev/null), key $(cat $key 2>/dev/null), $(ls -A $share | tr '\n' ' ')."
                tell answer ",\"id\":$id,\"answer\":{\"answer\":\"refused\",\"reason\":\"no\"}"
            done
        }"#,
    );
    let (mut running, record) = start_with_console(&scene);
    let open = || Session::open(&record, SECONDS).expect("its supervisor answers");
    wait_ready(&mut running).expect("it is ready");
    let ask = |session: &mut Session| session.ask_guest(Question::Apply { dry_run: true }, SECONDS);
    let seen = |count: usize| {
        wait_until("it has looked", || scene.console("a").matches("round").count() == count);
        scene.console("a").lines().last().map(|line| line.trim_end().to_owned()).unwrap_or_default()
    };
    let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
    let files = [
        Staged::bytes(KEY, 0o400, bytes("a key")),
        Staged::bytes("host/round", 0o644, bytes("1")),
        Staged::bytes("more/file", 0o644, bytes("1")),
    ];
    let mut session = open();
    for round in 0..2 {
        assert_eq!(session.stage_for_trial(&files, SECONDS).expect("it is staged").files, 3);
        assert!(ask(&mut session).is_ok());
        assert_eq!(seen(2 * round + 1), "round 1, key , .before host more secrets .");
        assert!(ask(&mut session).is_ok());
        assert_eq!(seen(2 * round + 2), "round , key , secrets .");
    }
    // One who goes away takes them along.
    session.stage_for_trial(&files, SECONDS).expect("it is staged");
    drop(session);
    std::thread::sleep(Duration::from_millis(500));
    assert!(ask(&mut open()).is_ok());
    assert_eq!(seen(5), "round , key , secrets .");
    assert!(down(&scene, SECONDS).is_ok());
}

pub fn files_are_staged_for_a_guest_that_runs() {
    let scene = scene(
        r#"gone() { while [ -e $key ]; do sleep 0.02; done; }
        guest() {
            tell key-taken; gone; ready
            for round in 1 2; do
                until [ "$(cat $share/host/round 2>/dev/null)" = $round ]; do sleep 0.02; done
                until [ -e $key ]; do sleep 0.02; done
                show "round $round: $(cat $key) $(ls $share | tr '\n' ' ')"
                [ $round = 2 ] || tell key-taken
                gone; show "taken back $round"
            done
            # Long enough to be seen: the next boot begins another log.
            sleep 1
            reset
            until [ -e $key ]; do sleep 0.02; done
            show "booted: $(cat $key) $(cat $share/host/round)"
            tell key-taken; gone; ready
        }"#,
    );
    let (mut running, record) = start_with_console(&scene);
    let open = || Session::open(&record, SECONDS).expect("its supervisor answers");
    let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
    let stage = |session: &mut Session, round: &str| {
        let key = Staged::bytes(KEY, 0o400, bytes(&format!("key {round}")));
        session.stage(&[key, Staged::bytes("host/round", 0o644, bytes(round))], SECONDS)
    };
    let mut session = open();
    wait_ready(&mut running).expect("it is ready");
    session.subscribe(SECONDS).expect("it is sent events");
    assert_eq!(stage(&mut session, "1").expect("it is staged").files, 2);
    assert_eq!(
        session.next_event(SECONDS).expect("the guest took it"),
        Event::Guest { report: civm::vm::agent::Event::KeyTaken }
    );
    assert_eq!(session.next_event(SECONDS).expect("it is taken back"), Event::KeyRemoved);
    wait_until("the first round", || scene.console("a").contains("taken back 1"));
    // A guest that does not say that it has the key keeps it no longer than the one who sent it stays.
    assert!(stage(&mut session, "2").is_ok());
    wait_until("the second round", || scene.console("a").contains("round 2: key 2 host secrets"));
    assert!(!scene.console("a").contains("taken back 2"));
    // Files that cannot be sent change nothing.
    let mut other = open();
    let missing = [Staged {
        path: "host/x".into(),
        mode: 0,
        content: civm::instance::plan::Content::File("/no".into()),
    }];
    assert!(other.stage(&missing, SECONDS).is_err());
    drop(session);
    wait_until("the second key", || scene.console("a").contains("taken back 2"));
    wait_until("the next boot", || scene.console("a").contains("booted: key 2 2"));
    assert!(down(&scene, SECONDS).is_ok());
    scene.assert_gone(&record);
}

pub fn an_instance_of_an_older_civm_is_listed_asked_and_stopped() {
    let scene = Scene::new();
    let place = scene.place("builder-demo");
    let runtime = place.path.join("run");
    fs::create_dir(&runtime).expect("a directory");
    let mut record: Value = serde_json::from_str(include_str!("older/instance.json")).expect("a record");
    (record["project"], record["runtime"]) = (json!(scene.directory()), json!(runtime));
    // Somebody else may have that port today.
    (record["disk"], record["forwards"]) = (Value::Null, json!([]));
    fs::write(place.path.join("instance.json"), record.to_string()).expect("a record");
    let lock = Lock::try_open(open_file(&place.lock()).expect("a lock")).expect("a lock");
    let listener = UnixListener::bind(runtime.join("control.sock")).expect("a socket");
    let played = std::thread::spawn(move || {
        let ask = |line: &str| serde_json::from_str::<Value>(line).expect("it is JSON")["ask"].clone();
        let exchanges: Vec<&str> = include_str!("older/control.txt").split("> ").skip(1).collect();
        loop {
            let (mut socket, _) = listener.accept().expect("somebody asks");
            let mut line = String::new();
            BufReader::new(&socket).read_line(&mut line).expect("a line");
            let recorded = exchanges.iter().filter_map(|exchange| exchange.split_once('\n'));
            let (_, answers) =
                recorded.clone().find(|(asked, _)| ask(asked) == ask(&line)).expect("it knows that");
            for answer in answers.lines() {
                writeln!(socket, "{}", answer.trim_start_matches("< ")).expect("somebody listens");
            }
            if ask(&line) == "stop" {
                return drop(lock);
            }
        }
    });
    let running = scene.home().running();
    let [record] = &running[..] else { panic!("{running:?}") };
    assert_eq!(
        (record.name.as_str(), record.host.as_str(), record.phase),
        ("builder-demo", "builder-demo", Phase::Ready)
    );
    assert!(scene.home().view().complaints().is_empty());
    assert_eq!(stop::health(record, &scene.environment), Health::Running);
    let mut events = Vec::new();
    let stopped = stop::down(&place, Patience::Usual(SECONDS), &scene.environment, &mut |event| {
        events.push(event.clone());
    });
    assert_eq!(stopped.expect("it goes down").reason.as_deref(), Some("the guest powered off"));
    assert!(matches!(&events[..], [Event::Stopping { .. }, Event::Ended { clean: true, .. }]), "{events:?}");
    played.join().expect("it was asked what it knows");
    assert!(!runtime.exists() && scene.home().running().is_empty());
}

pub fn one_types_on_the_console_and_others_take_over() {
    let scene = scene(r#"guest() { printf '# ' >&$console; ready; cat <&$console >&$console; }"#);
    let mut running = start(&scene);
    wait_ready(&mut running).expect("it is ready");
    let record = scene.place("a").running().expect("readable").expect("it runs");
    let attach = || {
        let socket = UnixStream::connect(record.control().expect("a socket")).expect("it attaches");
        socket.set_read_timeout(Some(SECONDS)).expect("a deadline");
        socket
    };
    let until = |socket: &mut UnixStream, word: &str| {
        let mut text = String::new();
        while !text.contains(word) {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("more comes");
            text.push(char::from(byte[0]));
        }
    };
    let ask = |socket: &mut UnixStream, typing: &str| {
        writeln!(socket, r#"{{"id":1,"request":"console","typing":"{typing}"}}"#).expect("it is asked");
    };
    let (mut first, mut second) = (attach(), attach());
    ask(&mut first, "offered");
    until(&mut first, "\"types\":true,\"another\":false}}\n# ");
    ask(&mut second, "offered");
    until(&mut second, "somebody else types on this console");
    first.write_all(b"one").expect("it types");
    until(&mut first, "one");
    until(&mut second, "one");
    let mut third = attach();
    ask(&mut third, "taken");
    until(&mut third, "\"types\":true,\"another\":true}}\n");
    until(&mut first, "from now on\r\n");
    first.write_all(b"lost").expect("nobody hears it");
    third.write_all(b"three").expect("it types");
    let mut text = [0; 5];
    first.read_exact(&mut text).expect("it looks on");
    assert_eq!(&text, b"three");
    assert!(down(&scene, SECONDS).is_ok());
}

/// The number behind a word in a file of `/proc`.
fn number(text: &str, word: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(word)).expect(word);
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

pub fn what_waits_uses_no_processor_and_little_memory() {
    let scene = scene("");
    let mut running = start(&scene);
    wait_ready(&mut running).expect("it is ready");
    running.detach().expect("it is told");
    std::thread::sleep(Duration::from_millis(500));
    let stages: Vec<i32> = scene
        .processes()
        .iter()
        .filter(|(_, name)| name.contains("__keeper") || name.contains("__supervisor"))
        .map(|(pid, _)| pid.as_raw())
        .collect();
    assert_eq!(stages.len(), 2);
    let woken = || {
        let status = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        stages.iter().map(|pid| number(&status(pid), "voluntary_ctxt_switches:")).sum::<u64>()
    };
    let before = woken();
    std::thread::sleep(Duration::from_secs(5));
    // Once in ten seconds QEMU is asked how it is, and answers.
    assert!(woken() - before <= 4, "woken {} times", woken() - before);
    let mut private = 0;
    for pid in stages {
        // Only root may see that of a process that dumps no core.
        let Ok(memory) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            return println!("skipped: the memory of a stage (only root sees it)");
        };
        private += number(&memory, "Private_Clean:") + number(&memory, "Private_Dirty:");
    }
    assert!(private < 8 << 10, "{private} KiB");
}
