//! Events on their way to the host: through the agent where it runs, else straight into the port.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use crate::vm::agent::{Event, PORT};

/// Where the agent takes events, one JSON line a datagram.
pub(super) const SOCKET: &str = "/run/civm/agent.sock";
/// Where the kernel lists virtio-serial ports.
const PORTS: &str = "/sys/class/virtio-ports";
/// A virtio device's number for a console, as sysfs writes it.
const CONSOLE_DEVICE: &str = "0x0003";
/// How long the kernel may take to name the port; it does so some milliseconds after the driver's load.
const NAMED_WITHIN: Duration = Duration::from_millis(1500);
/// How long a host that does not read may hold the guest up.
const READ_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// Milliseconds since the kernel started.
pub(super) fn uptime_ms() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_whitespace().next().and_then(parse_uptime).unwrap_or_default()
}

/// `12.34` seconds are 12340 milliseconds.
fn parse_uptime(seconds: &str) -> Option<u64> {
    let (whole, hundredths) = seconds.split_once('.')?;
    Some(whole.parse::<u64>().ok()? * 1000 + hundredths.get(..2)?.parse::<u64>().ok()? * 10)
}

/// Sends an event; a host that does not listen loses it.
pub(super) fn send(event: &Event) {
    let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(line(event).as_bytes(), SOCKET));
    if sent.is_err()
        && let Some(mut port) = open()
    {
        write(&mut port, &line(event));
    }
}

/// The event as the line that goes through the port.
pub(super) fn line(event: &Event) -> String {
    // The events' types have no way to fail; an empty line says nothing and harms nobody.
    serde_json::to_string(event).unwrap_or_default() + "\n"
}

/// The port, opened without ever blocking; `None` where the machine has none. Only one process can
/// hold it.
pub(super) fn open() -> Option<File> {
    let path = find()?;
    let flags = OFlag::O_NONBLOCK.bits();
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok()
}

/// As [`open`], waiting for the kernel to name the port of a machine that has such a device.
pub(super) fn open_when_named() -> Option<File> {
    let begun = Instant::now();
    if !has_device() {
        return None;
    }
    loop {
        if let Some(port) = open() {
            return Some(port);
        }
        if begun.elapsed() > NAMED_WITHIN {
            return None;
        }
        thread::sleep(POLL);
    }
}

/// Writes a line into the port, waiting a while for a host that reads slowly.
pub(super) fn write(port: &mut File, line: &str) {
    let begun = Instant::now();
    let mut rest = line.as_bytes();
    while !rest.is_empty() && begun.elapsed() < READ_WITHIN {
        match port.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                thread::sleep(POLL);
            }
            Err(_) => return,
        }
    }
}

fn find() -> Option<PathBuf> {
    fs::read_dir(PORTS).ok()?.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        (name.trim() == PORT).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

fn has_device() -> bool {
    let Ok(devices) = fs::read_dir("/sys/bus/virtio/devices") else { return false };
    devices.flatten().any(|device| {
        let number = fs::read_to_string(device.path().join("device")).unwrap_or_default();
        number.trim() == CONSOLE_DEVICE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_read_to_the_hundredth() {
        assert_eq!(parse_uptime("12.34"), Some(12340));
        assert_eq!(parse_uptime("0.05"), Some(50));
        assert_eq!(parse_uptime("x"), None);
    }

    #[test]
    fn an_event_is_one_line() {
        let text = line(&Event::Warning { message: "two\nlines".to_owned() });
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(text, "{\"event\":\"warning\",\"message\":\"two\\nlines\"}\n");
    }
}
