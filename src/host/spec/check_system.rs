//! What a guest is set up with: its name and time zone, units, files, parameters of the kernel, swap.

use std::collections::BTreeMap;

use super::check::{Checked, entries, is_path, is_word};
use super::load::Sources;
use super::raw::{self, Mapping};
use super::units::{Either, Mode, Plain};
use crate::host::layer;

/// Size of the zram device in per cent of the memory.
const ZRAM_PERCENT: u32 = 150;
/// Above this the kernel spends more memory on the table of the device than it can win.
const ZRAM_PERCENT_MAX: u32 = 400;
/// Compressor of the zram device.
const ZRAM_ALGORITHM: &str = "zstd";
/// Compressors of the kernel's zram.
const ZRAM_ALGORITHMS: [&str; 6] = ["zstd", "lz4", "lz4hc", "lzo", "lzo-rle", "deflate"];
/// Settings for swap in memory: it is cheap, and reading ahead gains nothing (documentation of zram-generator).
const ZRAM_SYSCTLS: [(&str, &str); 4] = [
    ("vm.swappiness", "180"),
    ("vm.watermark_boost_factor", "0"),
    ("vm.watermark_scale_factor", "125"),
    ("vm.page-cluster", "0"),
];
/// Kinds of units that can be started.
const UNIT_KINDS: [&str; 7] = ["service", "socket", "timer", "target", "path", "mount", "swap"];
/// The longest host name of Linux, and of a part of one between dots.
const HOSTNAME_MAX: usize = 64;
const LABEL_MAX: usize = 63;
/// Mode of a file that names none.
const FILE_MODE: u32 = 0o644;

/// A list of names of units.
pub(super) fn unit_list(
    names: Option<Vec<String>>,
    path: &[&str],
    sources: &Sources,
) -> Checked<Vec<String>> {
    let names = names.unwrap_or_default();
    for (at, name) in names.iter().enumerate() {
        let at = at.to_string();
        is_unit(name).map_err(|message| sources.error(&[path, &[at.as_str()]].concat(), message))?;
    }
    Ok(names)
}

/// A name of a machine, with or without a domain (RFC 1123); the kernel takes 64 bytes.
pub(super) fn hostname(name: Option<String>, sources: &Sources) -> Checked<Option<String>> {
    let label = |label: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        is_word(label, "-")
            && label.len() <= LABEL_MAX
            && edge(label.chars().next())
            && edge(label.chars().last())
    };
    match name {
        Some(name) if name.len() > HOSTNAME_MAX || !name.split('.').all(label) => {
            let message = format!(
                "`{name}` is not a host name: letters, digits and `-`, {HOSTNAME_MAX} characters at most"
            );
            Err(sources.error(&["hostname"], message))
        }
        name => Ok(name),
    }
}

/// A name below /usr/share/zoneinfo. Whether the image has it is known once there is one.
pub(super) fn timezone(name: Option<String>, sources: &Sources) -> Checked<Option<String>> {
    match name {
        Some(name) if !name.split('/').all(|part| is_word(part, "_+-")) => {
            let message = format!("`{name}` is not a time zone: it has a name such as Europe/Helsinki");
            Err(sources.error(&["timezone"], message))
        }
        name => Ok(name),
    }
}

/// Whether a name is that of a unit that can be started.
pub(super) fn is_unit(name: &str) -> Result<(), String> {
    let kind = name.rsplit_once('.').filter(|(stem, _)| is_word(stem, "@:_.\\-")).map(|(_, kind)| kind);
    if kind.is_some_and(|kind| UNIT_KINDS.contains(&kind)) && name.len() <= 255 {
        return Ok(());
    }
    Err(format!("`{name}` is not a unit name: it ends in one of .{}", UNIT_KINDS.join(", .")))
}

pub(super) fn units(
    units: Option<Mapping<Either<String, raw::Unit>>>,
    sources: &Sources,
) -> Checked<BTreeMap<String, layer::Unit>> {
    let mut out = BTreeMap::new();
    for (name, unit) in entries(units) {
        is_unit(&name).map_err(|message| sources.error(&["units", &name], message))?;
        let unit = match unit {
            Either::Short(text) => layer::Unit { text, start: true },
            Either::Long(raw::Unit { text: Some(text), start }) => {
                layer::Unit { text, start: start.unwrap_or(true) }
            }
            Either::Long(_) => return Err(sources.error(&["units", &name], "the unit has no `text`")),
        };
        out.insert(name, unit);
    }
    Ok(out)
}

pub(super) fn files(
    files: Option<Mapping<Either<String, raw::File>>>,
    sources: &Sources,
) -> Checked<BTreeMap<String, layer::File>> {
    let mut out = BTreeMap::new();
    for (path, file) in entries(files) {
        is_path(&path).map_err(|message| sources.error(&["files", &path], message))?;
        let file = match file {
            Either::Short(text) => layer::File { text, mode: FILE_MODE, ..layer::File::default() },
            Either::Long(raw::File { text: Some(text), mode, restart_units, reload_units }) => layer::File {
                text,
                mode: mode.map_or(FILE_MODE, |Mode(mode)| mode),
                restart_units: unit_list(restart_units, &["files", &path, "restart_units"], sources)?,
                reload_units: unit_list(reload_units, &["files", &path, "reload_units"], sources)?,
            },
            Either::Long(_) => return Err(sources.error(&["files", &path], "the file has no `text`")),
        };
        out.insert(path, file);
    }
    Ok(out)
}

pub(super) fn sysctls(
    sysctls: Option<Mapping<Plain>>,
    zram: bool,
    sources: &Sources,
) -> Checked<BTreeMap<String, String>> {
    let defaults = if zram { &ZRAM_SYSCTLS[..] } else { &[] };
    let mut out: BTreeMap<String, String> =
        defaults.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    for (key, Plain(value)) in entries(sysctls) {
        let parts = key.split(['.', '/']).all(|part| is_word(part, "_-*"));
        if !parts || value.contains('\n') {
            return Err(
                sources.error(&["sysctls", &key], format!("`{key}` is not a sysctl key with a value"))
            );
        }
        out.insert(key, value);
    }
    Ok(out)
}

pub(super) fn zram(zram: Option<Either<bool, raw::Zram>>, sources: &Sources) -> Checked<Option<layer::Zram>> {
    let zram = match zram {
        Some(Either::Short(false)) => return Ok(None),
        None | Some(Either::Short(true)) => raw::Zram::default(),
        Some(Either::Long(zram)) => zram,
    };
    let percent = zram.percent.unwrap_or(ZRAM_PERCENT);
    if !(1..=ZRAM_PERCENT_MAX).contains(&percent) {
        let message =
            format!("percent is {percent}: it can be 1 to {ZRAM_PERCENT_MAX}; `zram: false` turns it off");
        return Err(sources.error(&["zram", "percent"], message));
    }
    let algorithm = zram.algorithm.unwrap_or_else(|| ZRAM_ALGORITHM.into());
    if !ZRAM_ALGORITHMS.contains(&algorithm.as_str()) {
        let message = format!("unknown algorithm `{algorithm}`: it can be {}", ZRAM_ALGORITHMS.join(", "));
        return Err(sources.error(&["zram", "algorithm"], message));
    }
    Ok(Some(layer::Zram { percent, algorithm }))
}
