//! What root in a guest can reach of the machine that runs it: its network, its share.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

use super::machine::Machine;

/// In the guest: says the name and `yes` where a connection is answered, else `no`.
const TRY: &str = r#"try() { if timeout 5 bash -c "read -r l < /dev/tcp/$2/$3 && test \$l = reached" 2>/dev/null; then echo "$1 yes"; else echo "$1 no"; fi; }"#;

/// In the guest: what is meant for its own loopback goes out to the gateway instead; and back.
const TURN: &str = "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
ip route add table 77 127.0.0.0/8 via 10.0.2.2 dev eth0 src 10.0.2.15
ip rule add pref 50 lookup 77; ip rule add pref 100 lookup local; ip rule del pref 0";
const TURN_BACK: &str = "ip rule add pref 0 lookup local; ip rule del pref 50; ip rule del pref 100";

/// In the guest: UDP datagrams that no kernel would send, each with the address that it goes to as its text.
const RAW: &str = include_str!("raw.pl");
/// All that QEMU might take for the host, and the gateway first.
const RAW_TO: [&str; 14] = [
    "10.0.2.2",
    "10.0.2.3",
    "10.0.2.9",
    "127.0.0.1",
    "127.0.0.2",
    "0.0.0.0",
    "255.255.255.255",
    "fec0::2",
    "fec0::3",
    "fec0::9",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:0:7f00:1",
];
/// How long the last datagrams may be on their way.
const ON_THE_WAY: Duration = Duration::from_secs(3);

/// Says `reached` to everybody who comes to this address, on a port that the kernel chooses, as long as the tests run.
fn listen(address: IpAddr) -> Option<u16> {
    let listener = TcpListener::bind((address, 0)).ok()?;
    let port = listener.local_addr().ok()?.port();
    std::thread::spawn(move || {
        for mut guest in listener.incoming().flatten() {
            let _ = writeln!(guest, "reached");
        }
    });
    Some(port)
}

/// The address from which this machine reaches others: a listener there stands for another machine.
fn outer_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    // Nothing is sent: the kernel only looks up the way (TEST-NET-3 of RFC 5737).
    socket.connect(("203.0.113.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The names of what root in the guest reaches: `outside`, and what leads to the host.
fn reached(machine: &Machine, host: &str) -> BTreeSet<String> {
    let port = listen(Ipv4Addr::LOCALHOST.into()).expect("a port on the loopback");
    let mut script = format!("{TRY}\n");
    if let Some((address, port)) = outer_address().and_then(|address| Some((address, listen(address)?))) {
        script += &format!("try outside {address} {port}\n");
    }
    for address in ["10.0.2.2", "10.0.2.3", "10.0.2.9"] {
        script += &format!("try {address} {address} {port}\n");
    }
    if let Some(port) = listen(Ipv6Addr::LOCALHOST.into()) {
        script += &format!("try fec0::2 fec0::2 {port}\n");
    }
    script += &format!("{TURN}\ntry 127.0.0.1 127.0.0.1 {port}\n{TURN_BACK}\n");
    let tried = machine.guest(host, &script).ok();
    let yes = tried.out().lines().filter_map(|line| line.strip_suffix(" yes"));
    yes.map(str::to_owned).chain(reached_raw(machine, host)).collect()
}

/// The same by datagrams, marked as such.
fn reached_raw(machine: &Machine, host: &str) -> Vec<String> {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port on the loopback");
    let port = socket.local_addr().expect("its port").port();
    let sockets: Vec<UdpSocket> =
        std::iter::once(socket).chain(UdpSocket::bind((Ipv6Addr::LOCALHOST, port))).collect();
    let script = format!("perl - {port} {} <<'END'\n{RAW}\nEND", RAW_TO.join(" "));
    machine.guest(host, &script).ok();
    let until = Instant::now() + ON_THE_WAY;
    let mut found = Vec::new();
    for socket in sockets {
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            socket.set_read_timeout(Some(left)).expect("a timeout");
            let mut text = [0; 64];
            let Ok(length) = socket.recv(&mut text) else { break };
            found.push(format!("udp {}", String::from_utf8_lossy(&text[..length])));
        }
    }
    found
}

/// Whether the guest's resolver answers; `None` where this machine's own does not.
fn resolves(machine: &Machine, host: &str) -> Option<bool> {
    let name = "deb.debian.org";
    if !(name, 80).to_socket_addrs().is_ok_and(|mut found| found.next().is_some()) {
        eprintln!("skipped: this machine resolves no names");
        return None;
    }
    Some(machine.guest(host, &format!("getent hosts {name}")).code == 0)
}

fn outside() -> BTreeSet<String> {
    if outer_address().is_none() {
        eprintln!("skipped: this machine has no address besides its loopback");
    }
    outer_address().map(|_| "outside".to_owned()).into_iter().collect()
}

/// By default: other machines are reached, and the resolver, but by no way the host's loopback.
#[track_caller]
pub fn reaches_all_but_its_host(machine: &Machine, host: &str) {
    assert_eq!(reached(machine, host), outside());
    assert_ne!(resolves(machine, host), Some(false));
}

/// With `network: open` the loopback is reached: what is kept off otherwise is really there.
#[track_caller]
pub fn reaches_its_host(machine: &Machine, host: &str) {
    let reached = reached(machine, host);
    for way in ["10.0.2.2", "127.0.0.1", "udp 10.0.2.2"] {
        assert!(reached.contains(way), "{way}: {reached:?}");
    }
    assert!(reached.is_superset(&outside()), "{reached:?}");
    if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        assert!(reached.contains("udp ::1") && reached.contains("udp fec0::2"), "{reached:?}");
    }
    assert_ne!(resolves(machine, host), Some(false));
}

/// With `network: none` nobody is reached, by name or address. Forwards work, or nobody could look.
#[track_caller]
pub fn reaches_nobody(machine: &Machine, host: &str) {
    assert_eq!(reached(machine, host), BTreeSet::new());
    assert_ne!(resolves(machine, host), Some(true));
}

/// Root cannot write to the share, and sees nothing else of the host by it, however it is mounted. It is not mounted
/// afterwards.
#[track_caller]
pub fn sees_its_share_and_no_more(machine: &Machine, host: &str) {
    let listing = "ls -lA /shared /shared/host";
    let before = machine.guest(host, listing).ok();
    let all = format!("mounted: {}", machine.guest(host, "echo $(ls -A /shared)").ok().out().trim_end());
    let script = format!(
        "write() {{
            touch $1/x; mkdir $1/y; ln -s /etc $1/l; mknod $1/n c 1 3
            rm -rf $1/host; chmod 777 $1/host; mv $1/host $1/z; echo > $1/host/layer.json
        }} 2>/dev/null
        mount -o remount,rw /shared
        write /shared
        {listing}
        umount -l /run/source/project 2>/dev/null; umount -l /shared; mkdir -p /mnt/again
        again() {{ mount -t 9p -o trans=virtio,$2 $1 /mnt/again 2>/dev/null; }}
        for options in msize=8192 version=9p2000.u,cache=none aname=/etc aname=../.. aname=host access=client,cache=mmap
        do
            again shr $options || continue
            write /mnt/again
            echo mounted: $(ls -A /mnt/again)
            umount /mnt/again
        done
        for tag in / .. shr/.. shr/host etc; do again $tag msize=8192 && echo another share: $tag; done
        true"
    );
    let ran = machine.guest(host, &script).ok();
    let mounted =
        ran.out().strip_prefix(before.out()).unwrap_or_else(|| panic!("{} {}", before.out(), ran.out()));
    let mounted: Vec<&str> = mounted.lines().collect();
    assert!(mounted.len() >= 4, "it is mounted with other options: {mounted:?}");
    assert!(mounted.iter().all(|line| *line == all), "{mounted:?}");
}

/// A user of host.yaml reads the project in /shared/source and nothing else of the share, whichever way it is reached; a
/// user of the image not even that. `project`: the host whose host.yaml is read there.
#[track_caller]
pub fn users_read_the_source_alone(machine: &Machine, host: &str, user: &str, project: &str) {
    const WAYS: [&str; 5] =
        ["", "/shared/..", "/proc/self/root", "/proc/$$/cwd/..", "/shared/source/../../.."];
    let file = format!("/shared/source/hosts/{project}/host.yaml");
    let script = format!(
        r#"as() {{ who=$1; shift; setpriv --reuid=$who --regid=$who --init-groups "$@"; }}
        as {user} cat {file} | cmp - {file} && as {user} ls /shared/source/hosts >/dev/null && echo source
        as daemon cat {file} 2>/dev/null && echo a stranger reads the source
        touch {file} /run/source/project/x 2>/dev/null && echo it can be written to
        # All that there is, what there may be for a moment, and something that everybody may read.
        {{
            find /shared -mindepth 1 ! -path /shared/source
            printf '/shared/%s\n' . .incoming .outgoing .before artifacts
            echo /etc/passwd
        }} >/run/paths
        for path in secrets/ssh_host_ed25519_key host/layer.json project/tree/hosts; do
            grep -qx /shared/$path /run/paths || echo $path is not there
        done
        chmod 644 /run/paths
        for who in {user} daemon; do
            as $who sh -c '
                ls -d /shared/* /shared/.[!.]*
                cd /shared && ls .
                (exec 3</shared && ls /proc/self/fd/3)
                while read path; do
                    for way in "" /proc/1/root {ways}; do true <"$way$path" && echo "opens $way$path"; done
                done </run/paths
                mount --bind /shared/host /mnt && echo mounts
                unshare -rm sh -c "ls /shared /shared/host; umount /shared/secrets && ls /shared/secrets"
            ' 2>/dev/null | sed "s,^,$who: ,; s,/proc/[0-9][0-9]*/cwd,/proc/\$\$/cwd,"
        done
        rm /run/paths"#,
        ways = WAYS[1..].join(" ")
    );
    let seen = machine.guest(host, &script);
    let opens = |who: &str, ways: &[&str]| -> String {
        ways.iter().map(|way| format!("{who}: opens {way}/etc/passwd\n")).collect()
    };
    // The way by the source is closed to a stranger from its beginning.
    let wanted = format!("source\n{}{}", opens(user, &WAYS), opens("daemon", &WAYS[..4]));
    assert_eq!(seen.out(), wanted, "{}", seen.stderr);
}
