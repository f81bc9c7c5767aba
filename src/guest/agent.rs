//! The agent: holds the port to the host, sends it events and follows its commands; it also listens to
//! the power button, and has a key for an sshd that starts before its own is there.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::host_clock::HostClock;
use super::modules::Modules;
use super::{Error, apply, console, events, identity, notify_ready, point, settle, sshd, usage};
use crate::image::layout;
use crate::vm::agent::{Answer, Command, Event, Go, Question};
use crate::vm::lines::Lines;

/// Longest event, in bytes; a longer one is cut off and so is not JSON any more. An answer has a bounded number of
/// names of a bounded length.
const LONGEST: usize = 256 << 10;
/// How often the port is looked at while the host is not there: the kernel says "end of file" then.
const ABSENT: Duration = Duration::from_millis(250);
/// The kernel's input events (linux/input.h) on 64-bit machines: two words of time, type, code, value.
const INPUT_EVENT: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// Drivers that no boot waits for: what gives freed memory back to the host, and the power button (`gpio_keys` where
/// there is no ACPI). Without udev nothing else loads them.
const LATE_MODULES: [&str; 4] = ["virtio_balloon", "button", "gpio_keys", "evdev"];

/// Runs until the guest stops.
pub(super) fn run() -> Result<(), Error> {
    let _ = fs::remove_file(events::SOCKET);
    let socket = UnixDatagram::bind(events::SOCKET).map_err(Error::io("create", events::SOCKET))?;
    let port = events::open_when_named();
    if port.is_none() {
        console::log("no port to the host: events stay here");
    }
    let clock = Arc::new(HostClock::default());
    let (boot_ended, button) = channel();
    thread::spawn(move || {
        if button.recv().is_ok() {
            watch_buttons();
        }
    });
    if let Some(port) = port.as_ref().and_then(|port| port.try_clone().ok()) {
        let clock = Arc::clone(&clock);
        thread::spawn(move || obey(port, &clock));
    }
    thread::spawn(|| sshd::hand_stand_in().unwrap_or_else(|error| console::log(&error.to_string())));
    notify_ready();
    relay(&socket, port, &clock, &boot_ended)
}

/// Passes every datagram to the host.
fn relay(
    socket: &UnixDatagram,
    mut port: Option<File>,
    clock: &HostClock,
    boot_ended: &Sender<()>,
) -> Result<(), Error> {
    let mut buffer = vec![0_u8; LONGEST];
    loop {
        let length = socket.recv(&mut buffer).map_err(Error::io("read", events::SOCKET))?;
        let Ok(event) = serde_json::from_slice::<Event>(&buffer[..length]) else { continue };
        let is_point = matches!(event, Event::Point { .. });
        // Looked at before anything is sent: whoever looks at the port when an answer has just come takes the kernel's
        // interrupt for it away from the thread that waits for one.
        let nobody_answers = is_point && port.as_ref().is_none_or(is_absent);
        if is_point {
            clock.ask();
        }
        if let Some(port) = &mut port {
            events::write(port, &events::line(&event));
        }
        if nobody_answers {
            point::tell(&Go { resumed: false, unix_ms: 0, seed: [0; 4] });
        }
        if matches!(event, Event::Ready { .. } | Event::Failed { .. }) {
            // The button's drivers are loaded only now: the boot does not wait for them.
            let _ = boot_ended.send(());
        }
    }
}

/// Follows the host's commands, one a line. Reads of the port neither block nor end.
fn obey(mut port: File, clock: &HostClock) {
    let mut lines = Lines::new(LONGEST);
    let mut piece = [0_u8; 1024];
    loop {
        match port.read(&mut piece) {
            Ok(0) => thread::sleep(ABSENT),
            Ok(length) => lines.push(&piece[..length]).iter().for_each(|line| follow(line, clock)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(&port),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn follow(line: &[u8], clock: &HostClock) {
    match serde_json::from_slice(line) {
        Ok(Command::PowerOff) => power_off(),
        Ok(Command::Go(go)) => {
            clock.answered(&go);
            point::tell(&go);
        }
        Ok(Command::SetTime { unix_ms }) => match identity::clock(Duration::from_millis(unix_ms)) {
            Ok(true) => console::log("the machine stood still for a while; the clock was set to the host's"),
            Ok(false) => {}
            Err(error) => console::log(&error.to_string()),
        },
        Ok(Command::ConsoleSize { rows, columns }) => resize_console(rows, columns),
        Ok(Command::Ask { id, question }) => {
            thread::spawn(move || answer(id, question));
        }
        Err(error) => console::log(&format!("unknown command of the host: {error}")),
    }
}

/// Answers a question of the host.
fn answer(id: u64, question: Question) {
    let answer = match question {
        Question::Report => usage::usage().map(Answer::Report),
        Question::Apply { dry_run } => apply_apart(id, dry_run),
    };
    let answer = answer.unwrap_or_else(|error| Answer::Refused { reason: error.to_string() });
    events::send(&Event::Answer { id, answer });
}

/// Lets a unit of its own apply the layer, and reads its answer. The number of this agent's process is part of the
/// job's name: after a restart of the agent no job has the name of one that may still run.
fn apply_apart(id: u64, dry_run: bool) -> Result<Answer, Error> {
    let kind = if dry_run { apply::DRY_RUN } else { "apply" };
    let job = format!("{kind}-{}-{id}", std::process::id());
    let done = console::run("systemctl", &["start", &format!("civm-change@{job}.service")]);
    let path = apply::answer_path(&job)?;
    let Ok(text) = fs::read(&path) else {
        return done.and_then(|()| Err(Error::content(&path, "the apply has left no answer")));
    };
    let _ = fs::remove_file(&path);
    serde_json::from_slice(&text).map_err(|error| Error::content(&path, error.to_string()))
}

/// Sleeps until the host has written something.
fn wait(port: &File) {
    // An absent host keeps the descriptor in the state "hung up": poll returns at once.
    if hangs_up(port, PollTimeout::NONE) {
        thread::sleep(ABSENT);
    }
}

/// Whether nobody holds the other end.
fn is_absent(port: &File) -> bool {
    hangs_up(port, PollTimeout::ZERO)
}

fn hangs_up(port: &File, patience: PollTimeout) -> bool {
    let mut fds = [PollFd::new(port.as_fd(), PollFlags::POLLIN)];
    let _ = poll(&mut fds, patience);
    fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}

/// A serial line has no size of its own: the terminal's is set, and who works on the console is told.
fn resize_console(rows: u16, columns: u16) {
    let device = format!("/dev/{}", console::device());
    let (rows, columns) = (rows.to_string(), columns.to_string());
    if let Err(error) = console::run("stty", &["-F", &device, "rows", &rows, "cols", &columns]) {
        console::log(&error.to_string());
    }
}

/// Stops the guest in good order. There is no logind, so the unit is started directly.
fn power_off() {
    console::log("powering off");
    let args = ["start", "--no-block", "--job-mode=replace-irreversibly", "poweroff.target"];
    if let Err(error) = console::run("systemctl", &args) {
        console::log(&error.to_string());
    }
}

/// Waits for the power button on every input device that is there.
fn watch_buttons() {
    settle::await_login(Instant::now(), settle::LOGIN);
    match Modules::open(&Path::new(layout::RUN_DIR).join(layout::MODULES)) {
        // One of the buttons is always missing: they are for different machines.
        Ok(modules) => LATE_MODULES.iter().for_each(|name| modules.load(name)),
        Err(error) => console::log(&error.to_string()),
    }
    for device in input_devices() {
        if let Ok(input) = File::open(&device) {
            thread::spawn(move || watch_button(input));
        }
    }
}

fn input_devices() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/dev/input") else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter(|path| path.to_string_lossy().contains("/event")).collect()
}

fn watch_button(input: impl Read) {
    let mut input = BufReader::with_capacity(INPUT_EVENT * 16, input);
    while let Ok(bytes) = input.fill_buf() {
        if bytes.is_empty() {
            return;
        }
        // The kernel gives whole events only.
        let pressed = bytes.chunks_exact(INPUT_EVENT).any(is_power_button);
        let length = bytes.len();
        input.consume(length);
        if pressed {
            power_off();
        }
    }
}

fn is_power_button(event: &[u8]) -> bool {
    let field = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    field(16) == EV_KEY && field(18) == KEY_POWER && event[20..24] != [0; 4]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&code.to_ne_bytes());
        bytes.extend_from_slice(&value.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_the_press_of_the_power_key_counts() {
        assert!(is_power_button(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_power_button(&event(EV_KEY, KEY_POWER, 0)));
        assert!(!is_power_button(&event(EV_KEY, 30, 1)));
        assert!(!is_power_button(&event(0, KEY_POWER, 1)));
    }

    #[test]
    fn the_hosts_commands_have_the_form_that_the_agent_reads() {
        for command in [
            Command::PowerOff,
            Command::SetTime { unix_ms: 1 },
            Command::ConsoleSize { rows: 50, columns: 160 },
            Command::Ask { id: 3, question: Question::Apply { dry_run: false } },
        ] {
            let line = serde_json::to_vec(&command).expect("json");
            assert_eq!(serde_json::from_slice::<Command>(&line).expect("command"), command);
        }
    }
}
