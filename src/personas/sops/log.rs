//! What sops says besides results: its log lines, and those of `updatekeys`.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::edge::environment::Environment;
use crate::edge::stream::to_stderr;
use crate::edge::terminal;
use crate::personas::go_text::quoted;

/// Red, green, and their end.
const COLOURS: [&str; 3] = ["\x1b[31m", "\x1b[32m", "\x1b[0m"];

/// Where words go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    /// Whether it also tells what is not a problem.
    verbose: bool,
    /// Whether words have colours, also those on stderr: as in sops stdout decides.
    pub(super) colours: bool,
}

impl Log {
    pub(super) fn new(environment: &Environment, verbose: bool) -> Self {
        // Nothing else than a terminal gets colours, whatever variables say: scripts read the words.
        let colours = terminal::stdout_is_terminal() && terminal::colours(environment, true);
        Self { verbose, colours }
    }

    pub(super) fn info(self, message: &str) {
        if self.verbose {
            self.line("info", message, None);
        }
    }

    pub(super) fn warn(self, message: &str) {
        self.line("warning", message, None);
    }

    /// A comment that is not ciphertext, and where it stands. Its text is nobody's business.
    pub(super) fn unencrypted_comment(self, place: &str) {
        let message = "Found possibly unencrypted comment in file. This is to be expected if the file being \
                       decrypted was created with an older version of SOPS.";
        self.line_of("SOPS", "warning", message, Some(("place", place)));
    }

    /// Something that failed, though the work goes on.
    pub(super) fn error(self, message: &str, reason: Option<&str>) {
        self.line("error", message, reason.map(|reason| ("error", reason)));
    }

    /// The last words of a run.
    pub(super) fn fatal(self, message: &str) {
        self.line("fatal", message, None);
    }

    /// A line of `updatekeys`.
    pub(super) fn note(self, message: &str) {
        to_stderr(&format!("{} {}", now().strftime("%Y/%m/%d %H:%M:%S"), harmless(message)));
    }

    fn line(self, level: &str, message: &str, field: Option<(&str, &str)>) {
        self.line_of("CMD", level, message, field);
    }

    fn line_of(self, logger: &str, level: &str, message: &str, field: Option<(&str, &str)>) {
        let (on, off) = if self.colours { ("\x1b[1m", "\x1b[22m") } else { ("", "") };
        let time = now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
        let time = time.strip_suffix("+00:00").map_or(time.clone(), |utc| format!("{utc}Z"));
        let field = field.map(|(name, text)| format!(" {name}={}", value(text))).unwrap_or_default();
        to_stderr(&format!(
            "{on}[{logger}]{off}\t time=\"{time}\" level={level} msg={}{field}",
            value(message)
        ));
    }
}

/// What others put into a message, file names among them, must not steer the terminal. The colours of the tree
/// of keys stay.
pub(super) fn harmless(text: &str) -> String {
    let keep = |c: char| !c.is_control() || c == '\n' || c == '\t';
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let colour = COLOURS.iter().find(|colour| rest.starts_with(**colour));
        let length = colour.map_or(first.len_utf8(), |colour| colour.len());
        let (piece, after) = rest.split_at(length);
        clean.push_str(if colour.is_some() || keep(first) { piece } else { "\u{fffd}" });
        rest = after;
    }
    clean
}

fn now() -> jiff::Zoned {
    Timestamp::now().to_zoned(TimeZone::system())
}

/// A field's value, in quotes unless it is a plain word.
fn value(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { quoted(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_need_no_quotes() {
        assert_eq!(value("EOF"), "EOF");
        assert_eq!(value("a/b-c_d.e@f^g+h"), "a/b-c_d.e@f^g+h");
        assert_eq!(value("two words"), "\"two words\"");
        assert_eq!(value("a\"b"), "\"a\\\"b\"");
    }

    #[test]
    fn colours_stay_and_nothing_else_steers_the_terminal() {
        assert_eq!(harmless("a\tü\n\x1b[31mFAILED\x1b[0m"), "a\tü\n\x1b[31mFAILED\x1b[0m");
        assert_eq!(harmless("\x1b[2J\x07\u{9b}1m\r"), "\u{fffd}[2J\u{fffd}\u{fffd}1m\u{fffd}");
    }
}
