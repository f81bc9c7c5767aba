//! civm's settings in git's configuration, and the hook. Both are shell commands that fall back where civm is missing or
//! broken: git then merges and shows the files as text, and commits are not blocked.

use crate::commands::Context;
use crate::commands::secrets::of_git;
use crate::edge::git::Git;
use crate::outcome::{Code, Failure};

/// The sections of git's configuration that are civm's.
pub(super) const SECTIONS: [&str; 3] = ["merge.civm", "merge.civm-inner", "diff.civm"];
/// The first lines of the hook.
pub(super) const HOOK_HEAD: &str =
    "#!/bin/sh\n# By `civm git install --hooks`; `civm git uninstall` takes it away.\n";
/// The first version of git that passes labels for conflict markers to a merge driver (`%S`, `%X`, `%Y`).
const WITH_LABELS: (u32, u32) = (2, 44);

/// A shell expression for the path to civm: the one on PATH, so that the configuration survives an update, else the path
/// at which this civm is installed.
pub(super) fn finder() -> Result<String, Failure> {
    let unknown = |reason: String| {
        Failure::new(Code::Generic, format!("cannot find the path of civm itself: {reason}"))
            .help("start civm by its full path")
    };
    let path = std::env::current_exe().map_err(|error| unknown(error.to_string()))?;
    let path = path.to_str().ok_or_else(|| unknown("its path is not UTF-8".to_owned()))?;
    let quoted = shlex::try_quote(path).map_err(|error| unknown(error.to_string()))?;
    Ok(format!("$(command -v civm || command -v {quoted})"))
}

/// Whether git passes labels for conflict markers to a merge driver.
pub(super) fn has_labels(git: &Git) -> Result<bool, Failure> {
    let version = git.output(["version"]).map_err(of_git)?;
    // `git version 2.44.0 (…)`.
    let version = String::from_utf8_lossy(&version).into_owned();
    let mut numbers = version.split_whitespace().nth(2).unwrap_or_default().split('.').map(str::parse);
    Ok(match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= WITH_LABELS,
        _ => false,
    })
}

/// The settings by name.
pub(super) fn settings(finder: &str, labels: bool) -> Vec<(String, String)> {
    // git expands placeholders that start with a percent sign.
    let civm = finder.replace('%', "%%");
    let names = if labels { " --labels %S %X %Y" } else { "" };
    let [base, ours, theirs] = if labels { ["%S", "%X", "%Y"] } else { ["base", "ours", "theirs"] };
    // 0 and 1 are results; with any other exit code civm failed, and the file must not be left with our version only.
    let driver = |how: &str| {
        format!(
            "civm={civm} && {{ \"$civm\" secrets merge-driver{how} --marker-size %L{names} -- %O %A %B %P; s=$?; \
             [ $s -gt 1 ] || exit $s; }}; git merge-file -q --marker-size=%L -L {ours} -L {base} -L {theirs} %A %O %B || exit 1"
        )
    };
    // git appends the file name.
    let textconv =
        format!("f() {{ civm={finder} && \"$civm\" secrets textconv -- \"$1\" || cat -- \"$1\"; }}; f");
    let [merge, inner, diff] = SECTIONS;
    [
        (merge, "name", "sops files, by value".to_owned()),
        (merge, "driver", driver("")),
        // While git merges common ancestors, the user cannot be asked.
        (merge, "recursive", "civm-inner".to_owned()),
        (inner, "name", "sops files, by value, of common ancestors".to_owned()),
        (inner, "driver", driver(" --common-ancestors")),
        (diff, "textconv", textconv),
        // A cache would store plaintext in the repository, whatever the user's own configuration says.
        (diff, "cachetextconv", "false".to_owned()),
    ]
    .into_iter()
    .map(|(section, key, value)| (format!("{section}.{key}"), value))
    .collect()
}

/// The hook's text.
pub(super) fn hook(finder: &str) -> String {
    format!(
        "{HOOK_HEAD}civm={finder} || {{\n    echo 'civm is not installed: the sops files of this commit are not \
         checked' >&2\n    exit 0\n}}\nexec \"$civm\" secrets check --staged\n"
    )
}

/// Says that somebody else's hook, or hooks directory (`core.hooksPath`), is left alone.
pub(super) fn leave_hook(path: &std::path::Path, is_missing: bool, context: &Context) {
    let path = path.display();
    let why = match is_missing {
        true => format!("`{path}` is not created, because core.hooksPath may belong to another tool"),
        false => format!("`{path}` was not written by civm and is left unchanged"),
    };
    context.screen.warn(format!(
        "{why}; to check the files before each commit, add `civm secrets check --staged` to it"
    ));
}
