//! What this machine is, has and lacks. All that is missing is named at once, each with what to do about it here.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::refusal::{Refusal, UNWRITABLE};
use super::{kept, lease};
use crate::builder::wire::{Facts, ImageState, Kind, Missing};
use crate::edge::environment::Environment;
use crate::edge::finding::State;
use crate::edge::os_release;
use crate::host::parcel::Order;
use crate::host::spec::{Arch, Require};
use crate::image;
use crate::instance::preflight::Resources;
use crate::instance::{Home, accel, doctor};
use crate::lifecycle::{self, image_outlook};
use crate::vm::spec::Accel;

/// Less than this leaves no room for what a guest writes, in MiB.
const DISK_MIN_MIB: u64 = 1024;
/// What makes disks, and who has it.
const QEMU_IMG: (&str, &str) = ("qemu-img", "qemu-utils");

/// What a keeper wants of this machine.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) order: Option<&'a Order>,
    pub(super) require: Require,
    /// The name of an image that the keeper has.
    pub(super) image: Option<&'a str>,
}

/// How programs come to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distribution {
    Debian,
    NixOs,
    Other,
}

impl Distribution {
    fn of(os_release: &str) -> Self {
        let field = |name| os_release::field(os_release, name).unwrap_or_default();
        let words = format!("{} {}", field("ID"), field("ID_LIKE"));
        let is = |name| words.split_whitespace().any(|word| word == name);
        if is("nixos") {
            Self::NixOs
        } else if is("debian") {
            Self::Debian
        } else {
            Self::Other
        }
    }

    /// How to install a program that Debian has in this package.
    fn install(self, package: &str) -> String {
        let attribute = nix_attribute(package);
        let debian = format!("sudo apt-get install {package}");
        let nixos = format!(
            "add pkgs.{attribute} to environment.systemPackages there, or in host.yaml \
             `run_with: [nix, shell, \"nixpkgs#{attribute}\", -c]`"
        );
        match self {
            Self::Debian => debian,
            Self::NixOs => nixos,
            Self::Other => format!("Debian: {debian}; NixOS: {nixos}"),
        }
    }
}

/// The attribute of nixpkgs that has what a package of Debian has.
fn nix_attribute(package: &str) -> &str {
    match package {
        "qemu-system-x86" | "qemu-system-arm" | "qemu-utils" => "qemu",
        "qemu-user-static" => "qemu-user",
        "tar" => "gnutar",
        "xz-utils" => "xz",
        "uidmap" => "shadow",
        other => other,
    }
}

/// Looks at this machine.
pub(super) fn look(wanted: Wanted<'_>, home: &Home, swept: Vec<String>, environment: &Environment) -> Facts {
    let os_release = os_release::read();
    let field = |name| os_release::field(&os_release, name);
    let distribution = Distribution::of(&os_release);
    let resources = Resources::of_machine(Some(&home.path().join("disk")));
    let cache = lifecycle::image_cache(environment);
    let cache_free = cache.as_deref().and_then(free_mib);
    let native = Arch::native();
    let arch = wanted.order.map_or(native, |order| Some(order.arch)).unwrap_or(Arch::X86_64);
    let mut missing = Vec::new();
    let qemu = environment.find_program(arch.qemu());
    let tools = environment.clone().with_system_dirs();
    for (program, package, is_there) in [
        (arch.qemu(), doctor::package(arch), qemu.is_some()),
        (QEMU_IMG.0, QEMU_IMG.1, tools.find_program(QEMU_IMG.0).is_some()),
    ] {
        if !is_there {
            missing.push(program_missing(program, package, distribution));
        }
    }
    let kvm = match &qemu {
        Some(qemu) => accel::outlook(arch, qemu, home.path(), environment),
        None => Err("it was not tried: there is no QEMU".to_owned()),
    };
    let (accel, accel_reason) = match kvm {
        Ok(reason) => (Some(Accel::Kvm), reason),
        Err(reason) => (qemu.is_some().then_some(Accel::Tcg), reason),
    };
    missing.extend(staging(environment));
    let mut image = ImageState::None;
    if let Some(order) = wanted.order {
        if wanted.require == Require::Kvm && qemu.is_some() && accel != Some(Accel::Kvm) {
            missing.push(no_kvm(order, native, &accel_reason));
        }
        missing.extend(lacking(order, &resources));
        // A keeper sends one only to where its builder may be emulated.
        if wanted.require == Require::Any
            && let Err(error) = lifecycle::check_guest_binary(order, environment)
        {
            let remedy = format!(
                "build civm for {} where the builder is deployed from (docs/aarch64.md): it is sent along then",
                order.arch
            );
            missing.push(Missing { kind: Kind::Arch, what: error.to_string(), remedy });
        }
        image = image_state(order, wanted.image, distribution, environment, &mut missing);
        let is_there = image == ImageState::Present;
        let written = [Some(home.path()), cache.as_deref().filter(|_| !is_there)];
        missing.extend(written.into_iter().flatten().filter_map(closed));
    }
    let disk_mib = resources.disk_free_mib.unwrap_or_default().min(cache_free.unwrap_or(u64::MAX));
    Facts {
        civm: env!("CARGO_PKG_VERSION").to_owned(),
        arch: native.unwrap_or(arch),
        os: field("PRETTY_NAME").or_else(|| field("NAME")).unwrap_or_else(|| "Linux".to_owned()),
        cpus: resources.cpus,
        memory_mib: resources.available_mib,
        disk_mib,
        accel,
        accel_reason,
        missing,
        image,
        swept,
        leases: lease::held(home),
        kept: kept::list(environment).into_iter().map(|kept| (kept.name(), kept.bytes)).collect(),
    }
}

/// The refusal that names all that is missing.
pub(super) fn refusal(missing: &[Missing]) -> Option<Refusal> {
    let kind = Kind::of(missing)?;
    let what: Vec<&str> = missing.iter().map(|missing| missing.what.as_str()).collect();
    let mut remedies: Vec<&str> = missing.iter().map(|missing| missing.remedy.as_str()).collect();
    remedies.dedup();
    Some(Refusal { kind, message: what.join("; "), hint: Some(remedies.join("\n")) })
}

fn program_missing(program: &str, package: &str, distribution: Distribution) -> Missing {
    Missing {
        kind: Kind::Tools,
        what: format!("there is no `{program}`"),
        remedy: distribution.install(package),
    }
}

/// Whether keys have a place there that nobody else sees.
fn staging(environment: &Environment) -> Option<Missing> {
    let problem = doctor::staging(environment).into_iter().find(|found| found.state == State::Problem)?;
    Some(Missing { kind: Kind::Tools, what: problem.message, remedy: problem.remedy.unwrap_or_default() })
}

/// A directory that cannot be written to, or in which it cannot be made.
fn closed(path: &Path) -> Option<Missing> {
    let there = path.ancestors().find(|path| path.exists())?;
    let error = access(there, AccessFlags::W_OK | AccessFlags::X_OK).err()?;
    let what = format!("nothing can be written to {}: {}", there.display(), error.desc());
    Some(Missing { kind: Kind::State, what, remedy: UNWRITABLE.to_owned() })
}

fn no_kvm(order: &Order, native: Option<Arch>, reason: &str) -> Missing {
    let emulated = "or let it be emulated, which is slower: `require: any` in host.yaml";
    if let Some(native) = native.filter(|native| *native != order.arch) {
        let what = format!("the machine is {native}, and the builder {}", order.arch);
        return Missing { kind: Kind::Arch, what, remedy: format!("use a machine of that kind, {emulated}") };
    }
    Missing {
        kind: Kind::Kvm,
        what: format!("KVM does not work: {reason}"),
        remedy: format!("make KVM work there, {emulated}"),
    }
}

/// The memory and the disk that it does not have.
fn lacking(order: &Order, resources: &Resources) -> Vec<Missing> {
    let mut missing = Vec::new();
    if order.memory_mib > resources.memory_mib {
        missing.push(Missing {
            kind: Kind::Memory,
            what: format!(
                "the builder wants {} MiB of memory, and the machine has {} MiB",
                order.memory_mib, resources.memory_mib
            ),
            remedy: format!("set `memory` in hosts/{}/host.yaml to less", order.host),
        });
    }
    if let Some(free) = resources.disk_free_mib.filter(|free| *free < DISK_MIN_MIB) {
        missing.push(Missing {
            kind: Kind::Disk,
            what: format!("only {free} MiB are free for the builder's disk"),
            remedy: "make room there, or set XDG_STATE_HOME for this user to where there is room".to_owned(),
        });
    }
    missing
}

/// Where the image comes from. What its build lacks is missing only where nobody can send it.
fn image_state(
    order: &Order,
    named: Option<&str>,
    distribution: Distribution,
    environment: &Environment,
    missing: &mut Vec<Missing>,
) -> ImageState {
    let error = match image_outlook(order, named, environment) {
        Ok(true) => return ImageState::Present,
        Ok(false) => return ImageState::Buildable,
        Err(error) => error,
    };
    if named.is_some() && !matches!(error, lifecycle::Error::NoCache) {
        return ImageState::Absent;
    }
    match error {
        lifecycle::Error::Image(image::Error::MissingTools(tools)) => {
            for tool in tools {
                let tool = program_missing(tool.program, tool.package, distribution);
                if !missing.contains(&tool) {
                    missing.push(tool);
                }
            }
        }
        error => missing.push(Missing {
            kind: Kind::Image,
            what: format!("the image cannot be built: {error}"),
            remedy: "build it where the builder is deployed from (`civm image build`): it is sent then"
                .to_owned(),
        }),
    }
    ImageState::Absent
}

/// Free space of the file system that a path is on, or will be, in MiB.
pub(super) fn free_mib(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|path| path.is_dir())?;
    Resources::of_machine(Some(&there.join("disk"))).disk_free_mib
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_are_those_of_the_distribution() {
        let of = |text| Distribution::of(text);
        assert_eq!(of("ID=debian\n"), Distribution::Debian);
        assert_eq!(of("ID=ubuntu\nID_LIKE=debian\n"), Distribution::Debian);
        assert_eq!(of("NAME=NixOS\nID=nixos\n"), Distribution::NixOs);
        assert_eq!(of("ID=fedora\n"), Distribution::Other);
        assert_eq!(Distribution::Debian.install("qemu-utils"), "sudo apt-get install qemu-utils");
        let nixos = Distribution::NixOs.install("qemu-system-x86");
        assert!(nixos.contains("pkgs.qemu ") && nixos.contains("\"nixpkgs#qemu\""), "{nixos}");
        let other = Distribution::Other.install("mmdebstrap");
        assert!(other.contains("Debian: ") && other.contains("NixOS: "), "{other}");
    }

    #[test]
    fn all_that_is_missing_is_in_one_refusal_and_no_remedy_twice() {
        let missing = |what: &str, remedy: &str| Missing {
            kind: Kind::Tools,
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        };
        let refusal = refusal(&[missing("a", "x"), missing("b", "x"), missing("c", "y")]).unwrap();
        assert_eq!((refusal.message.as_str(), refusal.hint.as_deref()), ("a; b; c", Some("x\ny")));
        assert!(super::refusal(&[]).is_none());
    }
}
