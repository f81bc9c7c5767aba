//! What ssh means by its exit code and by what it says under `LC_ALL=C`. Pure.

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The other side does not let us in.
    Auth,
    /// Its host key is not the one that is known.
    HostKey,
    /// It cannot be reached, or the connection broke.
    Network,
    /// A program is missing at the other end.
    Missing,
    /// The other side forbids what is needed, as a forwarding.
    Forbidden,
    /// The command itself failed.
    Command,
    /// ssh does not accept the configuration of this machine or its user.
    Config,
    /// The host key is in a list of those that count no more, or that list cannot be read.
    Revoked,
}

/// What ssh itself exits with when it is not the command that failed.
const OWN: i32 = 255;
/// What a shell exits with when it does not find a program.
const NOT_FOUND: i32 = 127;

/// Beginnings and parts of messages, the telling ones first: a wrong host key is followed by other complaints.
const MESSAGES: [(&str, Verdict); 28] = [
    ("in revoked keys file", Verdict::Revoked),
    ("revoked by file", Verdict::Revoked),
    ("REVOKED HOST KEY DETECTED", Verdict::Revoked),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Verdict::HostKey),
    ("Host key verification failed", Verdict::HostKey),
    ("host key is known for", Verdict::HostKey),
    ("no matching host key type found", Verdict::HostKey),
    ("Permission denied (", Verdict::Auth),
    ("Too many authentication failures", Verdict::Auth),
    ("No more authentication methods", Verdict::Auth),
    ("This account is currently not available", Verdict::Auth),
    ("administratively prohibited", Verdict::Forbidden),
    // Too few for what goes over one connection: `MaxSessions`.
    ("session request failed: Session open refused by peer", Verdict::Forbidden),
    ("Could not resolve hostname", Verdict::Network),
    ("Connection refused", Verdict::Network),
    ("timed out", Verdict::Network),
    ("Timeout, server", Verdict::Network),
    ("No route to host", Verdict::Network),
    ("Network is unreachable", Verdict::Network),
    ("kex_exchange_identification", Verdict::Network),
    ("Connection reset", Verdict::Network),
    ("Connection closed", Verdict::Network),
    ("closed by remote host", Verdict::Network),
    ("Broken pipe", Verdict::Network),
    ("Control socket connect", Verdict::Network),
    // Nobody listens at the port yet, or the other ssh says why not.
    ("Stdio forwarding request failed", Verdict::Network),
    ("Session open refused by peer", Verdict::Network),
    ("mux_client", Verdict::Network),
];

/// The verdict, and the line that led to it. `code` is ssh's exit code, none where a signal ended it.
#[must_use]
pub fn judge(code: Option<i32>, stderr: &str) -> (Verdict, Option<&str>) {
    if code != Some(OWN) && code.is_some() {
        let said = last_line(stderr);
        return if code == Some(NOT_FOUND) { (Verdict::Missing, said) } else { (Verdict::Command, said) };
    }
    if let Some(line) = rejected(stderr) {
        return (Verdict::Config, Some(line));
    }
    for (part, verdict) in MESSAGES {
        if let Some(line) = stderr.lines().rev().find(|line| line.contains(part)) {
            return (verdict, Some(line.trim()));
        }
    }
    (Verdict::Network, last_line(stderr))
}

/// The line of ssh's configuration that it ends with, in its words. What it only warns of is followed by something else.
fn rejected(stderr: &str) -> Option<&str> {
    const LAST: [&str; 3] = ["Bad owner or permissions on ", "percent_expand: ", "percent_dollar_expand: "];
    let last = last_line(stderr)?;
    if last.contains(": terminating, ") && last.ends_with(" bad configuration options") {
        let is_named = |line: &&str| line.contains(" line ") && line.contains(": ");
        return stderr.lines().map(str::trim).find(is_named).or(Some(last));
    }
    // Another line may say more.
    let telling = stderr.lines().map(str::trim).find(|line| line.contains("unknown key %"));
    LAST.iter().any(|words| last.starts_with(words)).then(|| telling.unwrap_or(last))
}

/// The fingerprint of the host key that was offered, where ssh names it, or the kinds of keys.
#[must_use]
pub fn offered(stderr: &str) -> Option<&str> {
    let word = |line: &'_ str| -> Option<usize> { line.find("SHA256:") };
    for line in stderr.lines() {
        if let Some(at) = word(line) {
            return line[at..].split_whitespace().next().map(|found| found.trim_end_matches('.'));
        }
        if let Some((_, offer)) = line.split_once("no matching host key type found. Their offer: ") {
            return Some(offer.trim());
        }
    }
    None
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{Verdict, judge, offered};

    const CHANGED: &str = "\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r
Someone could be eavesdropping on you right now (man-in-the-middle attack)!\r
It is also possible that a host key has just been changed.\r
The fingerprint for the ED25519 key sent by the remote host is
SHA256:SK5FgxrORgkqTUcHBu4U8T1qkjh00OaHC05iPJt0A4o.\r
Please contact your system administrator.\r
Add correct host key in /tmp/kp/kh to get rid of this message.\r
Offending ED25519 key in /tmp/kp/kh:1\r
  remove with:\r
  ssh-keygen -f \"/tmp/kp/kh\" -R \"civm-remote-x\"\r
Host key for civm-remote-x has changed and you have requested strict checking.\r
Host key verification failed.\r
";

    /// What OpenSSH 9.2 and 10 say.
    #[test]
    fn real_messages_are_understood() {
        let cases = [
            (255, CHANGED, Verdict::HostKey),
            (
                255,
                "No ED25519 host key is known for civm-remote-x and you have requested strict checking.\r\n\
                 Host key verification failed.\r\n",
                Verdict::HostKey,
            ),
            (
                255,
                "Unable to negotiate with 127.0.0.1 port 22311: no matching host key type found. Their offer: ssh-ed25519\r\n",
                Verdict::HostKey,
            ),
            (255, "lender@127.0.0.1: Permission denied (publickey,keyboard-interactive).\r\n", Verdict::Auth),
            (
                255,
                "Load key \"/run/x/id\": error in libcrypto\r\nlender@10.0.0.1: Permission denied (publickey).\r\n",
                Verdict::Auth,
            ),
            (
                255,
                "Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures\r\nDisconnected from 127.0.0.1 port 22\r\n",
                Verdict::Auth,
            ),
            (255, "ssh: connect to host 127.0.0.1 port 1: Connection refused\r\n", Verdict::Network),
            (255, "ssh: connect to host 10.1.1.1 port 22: Connection timed out\r\n", Verdict::Network),
            (255, "ssh: connect to host 10.1.1.1 port 22: No route to host\r\n", Verdict::Network),
            (
                255,
                "ssh: Could not resolve hostname no.such.host.invalid: Name or service not known\r\n",
                Verdict::Network,
            ),
            (255, "Connection timed out during banner exchange\r\n", Verdict::Network),
            (
                255,
                "kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 127.0.0.1 port 22313\r\n",
                Verdict::Network,
            ),
            (
                255,
                "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by 127.0.0.1 port 22\r\n",
                Verdict::Network,
            ),
            (255, "client_loop: send disconnect: Broken pipe\r\n", Verdict::Network),
            (255, "Timeout, server 10.1.1.1 not responding.\r\n", Verdict::Network),
            (255, "Connection to 10.1.1.1 closed by remote host.\r\n", Verdict::Network),
            (255, "", Verdict::Network),
            (
                255,
                "/h/.ssh/config: line 1: Bad configuration option: foo\r\n/h/.ssh/config: terminating, 1 bad configuration options\r\n",
                Verdict::Config,
            ),
            (
                255,
                "cfg line 1: no argument after keyword \"port\"\ncfg: terminating, 1 bad configuration options\n",
                Verdict::Config,
            ),
            (
                255,
                "vdollar_percent_expand: unknown key %q\r\npercent_dollar_expand: failed\r\n",
                Verdict::Config,
            ),
            (255, "Bad owner or permissions on /h/.ssh/config\r\n", Verdict::Config),
            (
                255,
                "cfg line 3: Unsupported option \"rsaauthentication\"\r\n\
                 ssh: connect to host 127.0.0.1 port 1: Connection refused\r\n",
                Verdict::Network,
            ),
            (
                255,
                "Error checking host key ED25519 SHA256:x in revoked keys file /none: No such file or directory\r\n\
                 Host key verification failed.\r\n",
                Verdict::Revoked,
            ),
            (
                255,
                "Host key ED25519 SHA256:x revoked by file /etc/ssh/revoked\r\nHost key verification failed.\r\n",
                Verdict::Revoked,
            ),
            (
                255,
                "channel 1: open failed: administratively prohibited: open failed\r\nstdio forwarding failed\r\n",
                Verdict::Forbidden,
            ),
            (
                255,
                "mux_client_request_session: session request failed: Session open refused by peer\r\n\
                 kex_exchange_identification: Connection closed by remote host\r\n",
                Verdict::Forbidden,
            ),
            (255, "Stdio forwarding request failed: Session open refused by peer\r\n", Verdict::Network),
            (127, "sh: 1: nix: not found\n", Verdict::Missing),
            (1, "This account is currently not available.\n", Verdict::Command),
            (3, "something of its own\n", Verdict::Command),
        ];
        for (code, stderr, wanted) in cases {
            assert_eq!(judge(Some(code), stderr).0, wanted, "{stderr}");
        }
        assert_eq!(judge(None, "").0, Verdict::Network, "killed");
    }

    #[test]
    fn the_offered_key_is_named_as_ssh_names_it() {
        assert_eq!(offered(CHANGED), Some("SHA256:SK5FgxrORgkqTUcHBu4U8T1qkjh00OaHC05iPJt0A4o"));
        let other =
            "Unable to negotiate with ::1 port 22: no matching host key type found. Their offer: ssh-rsa\n";
        assert_eq!(offered(other), Some("ssh-rsa"));
        assert_eq!(offered("Host key verification failed.\n"), None);
    }

    #[test]
    fn a_banner_does_not_hide_the_reason() {
        let text = format!("Authorized use only.\n{CHANGED}bye\n");
        let (verdict, line) = judge(Some(255), &text);
        assert_eq!(
            (verdict, line),
            (Verdict::HostKey, Some("@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @"))
        );
    }
}
