//! Checks the keys and values of a host: defaults, ranges, and what excludes each other.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use super::load::{SecretsFile, Sources};
use super::raw::{self, ByArch, Mapping};
use super::units::{Either, Names, Plain, Size};
use super::{
    Arch, MachineType, Provider, Resources, Spec, check_artifacts, check_image, check_nix, check_secrets,
    check_services, check_system, check_templates, check_users,
};
use crate::host::error::{Error, SpecError, alike};
use crate::host::generated::builders::UNIT;
use crate::host::{generated, layer};
use crate::vm::network::Network;
use crate::vm::ports::{Forward, SSH};

pub(super) type Checked<T> = Result<T, SpecError>;

/// What is known of a host besides its text.
pub(super) struct Facts<'a> {
    pub(super) name: &'a str,
    pub(super) extends: &'a [String],
    pub(super) arch: Arch,
    /// The host whose file of secrets counts, and that file.
    pub(super) secrets: Option<(&'a str, SecretsFile)>,
    /// The hosts that builders are made of; `None` for such a host itself.
    pub(super) builders: Option<Builders<'a>>,
}

/// Reads a host of the project for a kind of machine.
pub(super) type Builders<'a> = &'a dyn Fn(&str, Arch) -> Result<Spec, Error>;

/// Processors of a host that names none.
const CPUS: u32 = 2;
/// The most processors that QEMU's machines take without an interrupt remapper (x2APIC ids below 255).
pub(super) const CPUS_MAX: u32 = 255;
/// Memory of a host that names none.
const MEMORY: Size = Size::mebibytes(2048);
/// Below this a guest does not come up: it uses 165 MB with its daemons running.
pub(super) const MEMORY_MIN: Size = Size::mebibytes(256);
/// Disk of a host that names none.
const DISK: Size = Size::mebibytes(16 * 1024);
/// The largest file of ext4, where most disks lie: a larger disk could never be filled.
pub(super) const DISK_MAX: Size = Size::mebibytes(16 * 1024 * 1024);
/// What QEMU is told is a number of MiB in 32 bits.
pub(super) const MEMORY_MAX: Size = Size::mebibytes(u32::MAX as u64 / 1024 * 1024);
/// The least size that an image's own file system has.
pub(super) const DISK_MIN: Size = Size::mebibytes(4 * 1024);
/// In a forward, a port of the host that the kernel chooses.
const AUTO: &str = "auto";

pub(super) fn check(host: raw::Host, facts: &Facts<'_>, sources: &Sources) -> Checked<Spec> {
    check_image::only_debian(&host, sources)?;
    let given = [host.cpus.is_some(), host.memory.is_some(), host.disk.is_some()];
    let zram = check_system::zram(host.zram, sources)?;
    let (secrets, sops_files) = check_secrets::secrets(host.secrets, facts, sources)?;
    let templates = check_templates::templates(host.templates, &secrets, facts, sources)?;
    let unlisted_secrets = check_secrets::unlisted(&secrets, facts);
    let (users, root_authorized_keys) = check_users::users(host.users, sources)?;
    let (services, written) = check_services::services(host.services, sources)?;
    let mut units = check_system::units(host.units, sources)?;
    for (name, unit) in written {
        if units.contains_key(&name) {
            let message = format!("`{name}` is among `services` already");
            return Err(sources.error(&["units", &name], message));
        }
        units.insert(name, unit);
    }
    let mut spec = Spec {
        name: facts.name.into(),
        description: host.description,
        extends: facts.extends.to_vec(),
        arch: facts.arch,
        image: check_image::image(host.image, host.packages, sources)?,
        machine_type: machine_type(host.machine, facts, sources)?,
        cpus: cpus(host.cpus, facts, sources)?,
        memory: size("memory", host.memory, MEMORY, MEMORY_MIN..=MEMORY_MAX, facts, sources)?,
        disk: size("disk", host.disk, DISK, DISK_MIN..=DISK_MAX, facts, sources)?,
        forwards: forwards(host.forwards, sources)?,
        network: network(host.network.as_deref(), sources)?,
        secrets_host: facts.secrets.as_ref().map(|(host, _)| (*host).to_owned()),
        unlisted_secrets,
        nix: host.nix.map(|nix| check_nix::nix(nix, &secrets, facts, sources)).transpose()?,
        secrets,
        sops_files,
        templates,
        users,
        root_authorized_keys,
        services,
        units,
        artifacts: check_artifacts::artifacts(host.artifacts, sources)?,
        files: check_system::files(host.files, sources)?,
        sysctls: check_system::sysctls(host.sysctls, zram.is_some(), sources)?,
        zram,
        known_hosts: check_nix::known_hosts(host.known_hosts, sources)?,
        hostname: check_system::hostname(host.hostname, sources)?,
        timezone: check_system::timezone(host.timezone, sources)?,
        console_login: host.console_login.unwrap_or(true),
        console_log: match host.console_log.as_deref() {
            None | Some("until-ready") => false,
            Some("always") => true,
            Some(other) => {
                let message = format!("console_log is `{other}`: it can be `until-ready` or `always`");
                return Err(sources.error(&["console_log"], message));
            }
        },
        source: host.source.unwrap_or(false),
    };
    if let Provider::Nixos(nixos) = &mut spec.image.provider {
        nixos.given = Resources {
            cpus: given[0].then_some(spec.cpus),
            memory: given[1].then_some(spec.memory),
            disk: given[2].then_some(spec.disk),
            forwards: spec.forwards.clone(),
        };
        // What is installed in the guest, the configuration says.
        spec.unlisted_secrets.clear();
    }
    for path in generated::paths(&spec) {
        if spec.files.contains_key(path) {
            return Err(
                sources.error(&["files", path], format!("civm writes {path} from other keys of host.yaml"))
            );
        }
    }
    if let Some(one) = spec.artifacts.iter().find(|one| spec.files.contains_key(&one.layer.path)) {
        let path = one.layer.path.as_str();
        return Err(sources.error(&["artifacts", path], format!("{path} is among `files` already")));
    }
    let deploys = spec.nix.as_ref().is_some_and(|nix| !nix.deployed.is_empty());
    if deploys && spec.units.contains_key(UNIT) {
        return Err(
            sources.error(&["units", UNIT], format!("`{UNIT}` is the keeper of this host's builders"))
        );
    }
    Ok(spec)
}

/// The entries of a mapping that are there.
pub(super) fn entries<V>(mapping: Option<Mapping<V>>) -> impl Iterator<Item = (String, V)> {
    mapping.into_iter().flatten().filter_map(|(name, value)| Some((name, value?)))
}

/// ASCII letters, digits and some more, at least one.
pub(super) fn is_word(text: &str, more: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

/// The architecture of the host; every value that is given by architecture depends on it.
pub(super) fn arch(name: Option<&str>, native: Arch, sources: &Sources) -> Checked<Arch> {
    let found = name.map(arch_named).transpose();
    found.map(|arch| arch.unwrap_or(native)).map_err(|message| sources.error(&["arch"], message))
}

/// The architecture of a name.
pub(super) fn arch_named(name: &str) -> Result<Arch, String> {
    let known = [Arch::X86_64, Arch::Aarch64];
    known.into_iter().find(|arch| arch.name() == name).ok_or_else(|| {
        format!("arch is `{name}`: it can be {}", known.map(|arch| format!("`{arch}`")).join(" or "))
    })
}

/// The value for this kind of machine, and the path that it stands at.
fn of_arch<T>(
    field: &'static str,
    value: Option<ByArch<T>>,
    facts: &Facts<'_>,
    sources: &Sources,
) -> Checked<(Option<T>, Vec<&'static str>)> {
    match value {
        None => Ok((None, vec![field])),
        Some(Either::Short(value)) => Ok((Some(value), vec![field])),
        Some(Either::Long(each)) => match each.of(facts.arch) {
            Some(value) => Ok((Some(value), vec![field, facts.arch.name()])),
            None => Err(sources.error(&[field], format!("{field} is not given for {}", facts.arch))),
        },
    }
}

fn machine_type(value: Option<ByArch<String>>, facts: &Facts<'_>, sources: &Sources) -> Checked<MachineType> {
    let (value, path) = match value {
        // An architecture without one has its usual one.
        Some(Either::Long(each)) => (each.of(facts.arch), vec!["machine", facts.arch.name()]),
        value => of_arch("machine", value, facts, sources)?,
    };
    let Some(value) = value else { return Ok(MachineType::usual(facts.arch)) };
    let possible = MachineType::ALL.into_iter().filter(|known| known.arch() == facts.arch);
    let possible: Vec<&str> = possible.map(MachineType::name).collect();
    let (message, suggestion) = match MachineType::ALL.into_iter().find(|known| known.name() == value) {
        Some(known) if known.arch() == facts.arch => return Ok(known),
        Some(known) => (
            format!(
                "machine is `{known}`, which is of {}: on {} it can be {}; one for each is `machine: {{ {}: {known} }}`",
                known.arch(),
                facts.arch,
                possible.join(" or "),
                known.arch(),
            ),
            None,
        ),
        None => (
            format!("unknown machine `{value}`: it can be {}", possible.join(" or ")),
            alike(&value, possible.iter().copied()),
        ),
    };
    Err(SpecError { suggestion, ..sources.error(&path, message) })
}

fn cpus(value: Option<ByArch<u32>>, facts: &Facts<'_>, sources: &Sources) -> Checked<u32> {
    let (value, path) = of_arch("cpus", value, facts, sources)?;
    let cpus = value.unwrap_or(CPUS);
    if (1..=CPUS_MAX).contains(&cpus) {
        return Ok(cpus);
    }
    Err(sources.error(&path, format!("cpus is {cpus}: a machine can have 1 to {CPUS_MAX}")))
}

fn size(
    field: &'static str,
    value: Option<ByArch<Size>>,
    default: Size,
    range: RangeInclusive<Size>,
    facts: &Facts<'_>,
    sources: &Sources,
) -> Checked<Size> {
    let (value, path) = of_arch(field, value, facts, sources)?;
    let size = value.unwrap_or(default);
    let message = if size < *range.start() {
        format!("{field} is {size}: a guest needs at least {}", range.start())
    } else if size > *range.end() {
        format!("{field} is {size}: it can be {} at most", range.end())
    } else if size.bytes() % Size::mebibytes(1).bytes() != 0 {
        format!("{field} is {size}: it must be whole mebibytes")
    } else {
        return Ok(size);
    };
    Err(sources.error(&path, message))
}

fn forwards(forwards: Option<Names<Plain, Plain>>, sources: &Sources) -> Checked<Vec<Forward>> {
    let mut out: Vec<Forward> = Vec::new();
    let list = match forwards {
        None => Vec::new(),
        Some(Names::List(list)) => {
            list.into_iter().enumerate().map(|(at, text)| (at.to_string(), None, text.0)).collect()
        }
        Some(Names::Map(map)) => {
            entries(Some(map)).map(|(name, text)| (name.clone(), Some(name), text.0)).collect()
        }
    };
    for (key, name, text) in list {
        let path = ["forwards", key.as_str()];
        let forward = forward(name.as_deref(), &text).map_err(|message| sources.error(&path, message))?;
        if out.iter().any(|other| other.clashes(&forward)) {
            return Err(sources.error(&path, format!("port {} is forwarded twice", forward.host_port)));
        }
        out.push(forward);
    }
    Ok(out)
}

/// What the guest may reach; where nothing is said, not its host.
fn network(name: Option<&str>, sources: &Sources) -> Checked<Network> {
    let Some(name) = name else { return Ok(Network::default()) };
    let known = Network::ALL.map(Network::name);
    Network::ALL.into_iter().find(|network| network.name() == name).ok_or_else(|| {
        let message = format!("network is `{name}`: it can be `{}`", known.join("`, `"));
        SpecError { suggestion: alike(name, known), ..sources.error(&["network"], message) }
    })
}

/// `[[ADDRESS:]HOST:]GUEST`, with `auto` for a port of the host that the kernel chooses; a forward that is called `ssh`
/// leads to the guest's sshd where it names no port.
pub(super) fn forward(name: Option<&str>, text: &str) -> Result<Forward, String> {
    let bad = || {
        format!("`{text}` is not a forward: write PORT, HOST_PORT:PORT, auto:PORT or ADDRESS:HOST_PORT:PORT")
    };
    let (rest, guest) = text.rsplit_once(':').map_or((None, text), |(rest, guest)| (Some(rest), guest));
    let (address, host) = match rest.map(|rest| rest.rsplit_once(':').unwrap_or(("", rest))) {
        None => ("", guest),
        Some((address, host)) => (address, host),
    };
    let port = |text: &str| text.parse().ok().filter(|port: &u16| *port != 0).ok_or_else(bad);
    let host = if host == AUTO && rest.is_some() { 0 } else { port(host)? };
    let guest = port(guest)?;
    let address = match address {
        "" if rest.is_some_and(|rest| rest.contains(':')) => return Err(bad()),
        "" => Ipv4Addr::LOCALHOST,
        text if text.starts_with('[') => {
            return Err(format!("`{text}`: QEMU's user network forwards IPv4 addresses only"));
        }
        text => text.parse().map_err(|_| bad())?,
    };
    let guest = if rest.is_none() && name == Some("ssh") { SSH } else { guest };
    Ok(Forward { address, host_port: host, guest_port: guest })
}

/// Whether a path is absolute, plain, and not of a place that the guest makes itself.
pub(super) fn is_path(path: &str) -> Result<(), String> {
    let plain = path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..") && !path.contains('\0')
    });
    if !plain {
        return Err(format!("`{path}` must be an absolute path without `.`, `..` or empty parts"));
    }
    for own in [layer::SHARE_MOUNT, "/run/secrets", "/run/secrets.d", "/proc", "/sys", "/dev"] {
        if path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Err(format!("`{path}` is below {own}, which the guest makes itself"));
        }
    }
    Ok(())
}
