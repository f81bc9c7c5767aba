//! Globs, in the syntax of git's attributes, for the files that creation rules match.
//!
//! A glob may match more than its rule, because the merge driver and textconv leave other files to git. So an expression
//! that a glob cannot represent is widened, and never narrowed on purpose.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use super::Config;

/// How many globs a rule may become; if there would be more, parts of them are widened.
const MOST: usize = 24;
/// The endings by which sops knows a format: what a rule for all files is taken to mean.
const FORMATS: [&str; 5] = ["*.yaml", "*.yml", "*.json", "*.env", "*.ini"];

/// A part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// This byte.
    Byte(u8),
    /// One of these bytes.
    One(Vec<u8>),
    /// Any byte within a name.
    Any,
    /// Any part of a name.
    Star,
    /// Any part of a path.
    Deep,
    /// The start of the path.
    Start,
    /// Its end.
    End,
}

impl Config {
    /// Globs for the files that the rules are for, each once, in the order of the rules. `directory` is where the
    /// rules are, from where the globs count: empty, or a path that ends with a slash.
    #[must_use]
    pub fn globs(&self, directory: &str) -> Vec<String> {
        let mut globs: Vec<String> = Vec::new();
        for entry in self.entries() {
            let of_rule = match &entry.pattern {
                Some(Ok(pattern)) => of_expression(pattern.spelled(), directory),
                Some(Err(_)) => Vec::new(),
                None => of_formats(directory),
            };
            for glob in of_rule {
                if !globs.contains(&glob) {
                    globs.push(glob);
                }
            }
        }
        globs
    }
}

/// Globs for every file whose name tells its format.
#[must_use]
pub fn of_formats(directory: &str) -> Vec<String> {
    FORMATS.iter().map(|glob| anywhere(directory, glob)).collect()
}

fn of_expression(expression: &str, directory: &str) -> Vec<String> {
    let Ok(hir) = ParserBuilder::new().utf8(false).nest_limit(1000).build().parse(expression) else {
        return of_formats(directory);
    };
    let mut globs = Vec::new();
    for parts in alternatives(&hir) {
        let Some(parts) = anchored(parts) else { continue };
        if !parts.iter().any(|part| matches!(part, Part::Byte(byte) if *byte != b'/')) {
            return of_formats(directory);
        }
        globs.extend(spelled(&parts).into_iter().map(|glob| match glob.strip_prefix("**/") {
            Some(name) if !name.contains('/') => anywhere(directory, name),
            Some(_) if directory.is_empty() => glob,
            _ => format!("/{}{glob}", escaped(directory)),
        }));
    }
    globs
}

/// A glob of a name, at any depth of a directory.
fn anywhere(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("/{}**/{name}", escaped(directory)) }
}

fn escaped(text: &str) -> String {
    let mut glob = String::new();
    for letter in text.chars() {
        if r"*?[\".contains(letter) {
            glob.push('\\');
        }
        glob.push(letter);
    }
    glob
}

/// What an expression can match, part by part; at most [`MOST`] alternatives.
fn alternatives(hir: &Hir) -> Vec<Vec<Part>> {
    let found = match hir.kind() {
        HirKind::Empty => vec![vec![]],
        HirKind::Literal(literal) => vec![literal.0.iter().copied().map(Part::Byte).collect()],
        HirKind::Class(class) => vec![vec![of_class(class)]],
        HirKind::Look(Look::Start) => vec![vec![Part::Start]],
        HirKind::Look(Look::End) => vec![vec![Part::End]],
        HirKind::Look(_) => vec![vec![]],
        HirKind::Capture(capture) => alternatives(&capture.sub),
        HirKind::Repetition(repetition) => repeated(repetition),
        HirKind::Concat(items) => items.iter().map(alternatives).fold(vec![vec![]], |before, next| {
            if before.len() * next.len() > MOST {
                // Any text in place of this one.
                return before.into_iter().map(|parts| [parts, vec![Part::Deep]].concat()).collect();
            }
            let behind = |parts: &Vec<Part>| {
                next.iter().map(|next| [parts.as_slice(), next].concat()).collect::<Vec<_>>()
            };
            before.iter().flat_map(behind).collect()
        }),
        HirKind::Alternation(items) => items.iter().flat_map(alternatives).collect(),
    };
    if found.len() > MOST { vec![vec![Part::Deep]] } else { found }
}

fn repeated(repetition: &Repetition) -> Vec<Vec<Part>> {
    let once = alternatives(&repetition.sub);
    match (repetition.min, repetition.max) {
        (1, Some(1)) => once,
        (0, Some(1)) => std::iter::once(vec![]).chain(once).collect(),
        (min @ 2..=4, Some(max)) if min == max && once.len() == 1 => {
            vec![(0..min).flat_map(|_| once.concat()).collect()]
        }
        _ => {
            let in_name = |part: &Part| match part {
                Part::Byte(byte) => *byte != b'/',
                Part::One(bytes) => !bytes.contains(&b'/'),
                Part::Any | Part::Star => true,
                Part::Deep | Part::Start | Part::End => false,
            };
            // A class with a slash in it is `Any` where it stands alone; `.*` goes through directories.
            let deep = !once.iter().flatten().all(in_name) || holds_slash(&repetition.sub);
            vec![vec![if deep { Part::Deep } else { Part::Star }]]
        }
    }
}

fn holds_slash(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&'/'))
        }
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().any(|range| (range.start()..=range.end()).contains(&b'/'))
        }
        HirKind::Capture(capture) => holds_slash(&capture.sub),
        HirKind::Concat(items) | HirKind::Alternation(items) => items.iter().any(holds_slash),
        HirKind::Repetition(repetition) => holds_slash(&repetition.sub),
        _ => false,
    }
}

/// A few plain letters as they are, anything else as any one: nobody who writes `secrets.yaml$` thinks of a slash.
fn of_class(class: &Class) -> Part {
    let ranges: Vec<(u32, u32)> = match class {
        Class::Unicode(class) => {
            class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
        }
        Class::Bytes(class) => {
            class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
        }
    };
    if ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum::<u64>() > 8 {
        return Part::Any;
    }
    let letters: Option<Vec<u8>> = ranges
        .into_iter()
        .flat_map(|(first, last)| first..=last)
        .map(|letter| {
            u8::try_from(letter).ok().filter(|byte| byte.is_ascii_alphanumeric() || b"._".contains(byte))
        })
        .collect();
    letters.map_or(Part::Any, Part::One)
}

/// The parts of a whole path: what the expression leaves open at its ends can be anything. `None` where nothing
/// matches.
fn anchored(parts: Vec<Part>) -> Option<Vec<Part>> {
    let mut whole = Vec::new();
    let start = parts.iter().rposition(|part| *part == Part::Start);
    let end = parts.iter().position(|part| *part == Part::End);
    let empty = |part: &Part| !matches!(part, Part::Byte(_) | Part::One(_) | Part::Any);
    let inside = start.map_or(0, |at| at + 1)..end.unwrap_or(parts.len());
    if inside.start > inside.end || !parts[..inside.start].iter().chain(&parts[inside.end..]).all(empty) {
        return None;
    }
    let open = |closed: Option<usize>| closed.is_none().then_some(Part::Deep);
    for part in open(start).into_iter().chain(parts[inside].iter().cloned()).chain(open(end)) {
        match (whole.last(), &part) {
            (Some(Part::Deep), Part::Deep | Part::Star) | (Some(Part::Star), Part::Star) => {}
            (Some(Part::Star), Part::Deep) => {
                whole.pop();
                whole.push(Part::Deep);
            }
            _ => whole.push(part),
        }
    }
    Some(whole)
}

/// The globs of a whole path. `**` stands for directories only between slashes, so what may go on in the same name or
/// in one further down is two globs.
fn spelled(parts: &[Part]) -> Vec<String> {
    let mut globs = vec![String::new()];
    for (at, part) in parts.iter().enumerate() {
        let slash_before = at == 0 || parts[at - 1] == Part::Byte(b'/');
        let slash_behind = parts.get(at + 1) == Some(&Part::Byte(b'/'));
        let last = at + 1 == parts.len();
        let texts: Vec<String> = match part {
            Part::Byte(byte) => vec![match byte {
                b'*' | b'?' | b'[' | b'\\' => format!("\\{}", char::from(*byte)),
                b' '..=b'~' => char::from(*byte).to_string(),
                _ => "?".to_owned(),
            }],
            Part::One(bytes) => vec![format!("[{}]", String::from_utf8_lossy(bytes))],
            Part::Any => vec!["?".to_owned()],
            Part::Star => vec!["*".to_owned()],
            Part::Deep if slash_before && (last || slash_behind) => vec!["**".to_owned()],
            Part::Deep if slash_before => vec!["**/*".to_owned()],
            Part::Deep if slash_behind => vec!["*/**".to_owned()],
            Part::Deep if last => vec!["*".to_owned(), "*/**".to_owned()],
            Part::Deep => vec!["*".to_owned(), "*/**/*".to_owned()],
            Part::Start | Part::End => vec![],
        };
        if !texts.is_empty() {
            globs =
                globs.iter().flat_map(|glob| texts.iter().map(move |text| format!("{glob}{text}"))).collect();
        }
    }
    globs
}

#[cfg(test)]
mod tests {
    use ignore::gitignore::GitignoreBuilder;

    use super::*;
    use crate::sops::pattern::Pattern;

    fn globs(expression: &str) -> Vec<String> {
        of_expression(Pattern::new(expression).unwrap().spelled(), "")
    }

    #[test]
    fn expressions_become_globs() {
        for (expression, wanted) in [
            (r"\.sops\.ya?ml$", &["*.sops.yml", "*.sops.yaml"][..]),
            (
                r".*\.sops\.(yaml|json)",
                &["*.sops.yaml*", "**/*.sops.yaml*/**", "*.sops.json*", "**/*.sops.json*/**"],
            ),
            (r"^secrets/.*", &["/secrets/**"]),
            (r"^secrets/", &["/secrets/**"]),
            (r"hosts/[^/]+/secrets\.yaml$", &["**/*hosts/*/secrets.yaml"]),
            (r"^hosts/[^/]*/secrets\.yaml$", &["/hosts/*/secrets.yaml"]),
            (r"secrets.yaml$", &["*secrets?yaml"]),
            (r"^s\.yaml$", &["/s.yaml"]),
            (r"/secrets/[a-z]{2}\.yaml$", &["**/secrets/??.yaml"]),
            (r"(?i)\.env$", &["*.[Ee][Nn][Vv]"]),
            (r"a[*]b$", &[r"*a\*b"]),
            (r"^a.*b$", &["/a*b", "/a*/**/*b"]),
            ("", &FORMATS),
            (".*", &FORMATS),
            ("^(a|b)?.*$", &FORMATS),
        ] {
            assert_eq!(globs(expression), wanted, "{expression}");
        }
        assert_eq!(of_expression(r"\.sops\.yaml$", "a b/"), ["/a b/**/*.sops.yaml"]);
        assert_eq!(of_expression("^x/", "team/"), ["/team/x/**"]);
        assert_eq!(of_expression("y/z$", "team/"), ["/team/**/*y/z"]);
    }

    #[test]
    fn however_many_alternatives_there_are_the_globs_are_few() {
        assert!(globs("(a|b|c|d|e|f)(a|b|c|d|e|f)(a|b|c|d|e|f)x$").len() <= 2 * MOST);
        assert!(globs("a?b?c?d?e?f?g?h?i?x$").len() <= 2 * MOST);
    }

    #[test]
    fn what_a_rule_matches_its_globs_match() {
        let expressions = [
            r"\.sops\.ya?ml$",
            "^secrets/.*",
            r"hosts/[^/]+/secrets\.yaml$",
            "secrets",
            r"^a.*\.yaml$",
            r"(dev|prod)/.+\.(env|json)$",
            r"\w+-secret\.yaml$",
            r"^(?:x/)?y/[^.]+\.yaml$",
            "^a/b",
            r"c.*d/e.*f",
            "(a|b|c|d|e|f)(a|b|c|d|e|f)(a|b|c|d|e|f)/x",
        ];
        let names = [
            "a",
            "b",
            "secrets",
            "hosts",
            "x",
            "y",
            "dev",
            "prod",
            "secrets.yaml",
            "a.sops.yml",
            "abc",
            "k.env",
            "k.json",
            "my-secret.yaml",
            "b.yaml",
            "cxd",
            "exf",
            "xhosts",
            "s.sops.yaml",
            "c",
            "d",
            "f",
        ];
        let mut paths: Vec<String> = names.iter().map(ToString::to_string).collect();
        for _ in 0..2 {
            let longer: Vec<String> =
                paths.iter().flat_map(|path| names.map(|name| format!("{path}/{name}"))).collect();
            paths.extend(longer);
        }
        let mut matched = 0;
        for expression in expressions {
            let pattern = Pattern::new(expression).unwrap();
            let mut builder = GitignoreBuilder::new("/");
            for glob in globs(expression) {
                builder.add_line(None, &glob).unwrap();
            }
            let matcher = builder.build().unwrap();
            for path in paths.iter().filter(|path| pattern.is_match(path.as_bytes())) {
                matched += 1;
                assert!(
                    matcher.matched(path, false).is_ignore(),
                    "{expression} {path}: {:?}",
                    globs(expression)
                );
            }
        }
        assert!(matched > 1000);
    }
}
