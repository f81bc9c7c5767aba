//! The cases as a table to read.

use std::io::Write as _;

use super::Verdict;

/// Prints a row per case and gives back what is not as it should be.
pub(super) fn print<'a>(rows: impl Iterator<Item = (&'a str, &'a str, &'a Verdict)>) -> Vec<String> {
    let mut text = String::new();
    let mut failed = Vec::new();
    let mut last = "";
    let mut counts = [0; 3];
    for (title, case, verdict) in rows {
        if title != last {
            text += &format!("\n{title}\n{:<58} {:<14} {:<14}\n", "case", "sops", "civm");
            last = title;
        }
        let (kind, word) = if !verdict.faults.is_empty() {
            (2, "NOT AS IT SHOULD BE".to_owned())
        } else if verdict.reasons.is_empty() {
            (0, "same".to_owned())
        } else {
            (1, format!("deviates: {}", verdict.reasons.join("; ")))
        };
        counts[kind] += 1;
        let case_short: String = case.chars().take(58).collect();
        text +=
            &format!("{case_short:<58} {:<14} {:<14} {word}\n", codes(&verdict.theirs), codes(&verdict.ours));
        if kind == 2 {
            failed.push(format!("{case}\n    {}", verdict.faults.join("\n    ")));
        }
    }
    text += &format!(
        "\n{} the same, {} deviate by intent, {} are not as they should be\n",
        counts[0], counts[1], counts[2]
    );
    // Past the capture of the test's output: the table is to be seen.
    let _ = std::io::stderr().write_all(text.as_bytes());
    failed
}

/// Exit codes with runs of one made short.
fn codes(codes: &[i32]) -> String {
    let mut parts: Vec<(i32, usize)> = Vec::new();
    for code in codes {
        match parts.last_mut() {
            Some((last, times)) if last == code => *times += 1,
            _ => parts.push((*code, 1)),
        }
    }
    let text =
        |(code, times): &(i32, usize)| if *times > 1 { format!("{code}x{times}") } else { code.to_string() };
    parts.iter().map(text).collect::<Vec<_>>().join(" ")
}
