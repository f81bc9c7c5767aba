//! Hosts whose machine is a NixOS configuration of a flake: what civm takes from it, and what it adds.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::identity::Identity;
use crate::host::layer::{LAYER, Layer};
use crate::host::spec::{Provider, SSH_PORT, Size, Spec};
use crate::image;
use crate::image::nixos::{self, Built, Found, Reference};
use crate::instance::plan::{Machine, Staged};
use crate::instance::{Place, ssh};
use crate::lifecycle::{Error, Observer, Progress, Request, Site, share};
use crate::vm::ports::Forward;
use crate::vm::runner::Runner;
use crate::vm::spec::Arch;

/// In an instance's state directory: a link to the runner that made its disk, which may be based on a file of the store.
/// It stays as long as the instance, as the link to its runner does.
const ROOT_OF_DISK: &str = "runner-of-disk";
/// What Nix says while it builds.
const LOG: &str = "nix.log";

/// A configuration that was evaluated for an instance.
#[derive(Debug)]
pub(super) struct Nixos {
    reference: Reference,
    found: Found,
    client: String,
    /// Virtual CPUs and memory that somebody wants in place of the configuration's.
    cpus: Option<u32>,
    memory_mib: Option<u32>,
    /// What of it civm does not do, as text for the user.
    doubts: Vec<String>,
}

impl Nixos {
    /// Evaluates the configuration of a host, if it is one, and completes its description by what that says.
    pub(super) fn of(site: &Site, spec: &mut Spec, request: &Request) -> Result<Option<Self>, Error> {
        let Provider::Nixos(nixos) = &mut spec.image.provider else { return Ok(None) };
        let reference = Reference { flake: nixos.flake.clone(), configuration: nixos.configuration.clone() };
        let client = ssh::client_key(&site.state)?.public;
        let disk = request.disk_mib.or(nixos.given.disk.map(Size::in_mebibytes));
        let root = site.project.root();
        let mut found = nixos::evaluate(&reference, &client, disk, root, &site.environment)?;
        let wanted = format!("{}-linux", spec.arch);
        if found.system != wanted {
            let reason = format!("it is for {}, and this machine's guests are {wanted}", found.system);
            return Err(image::Error::Nix { what: reference.to_string(), reason }.into());
        }
        nixos.sops = found.sops.take().map(|sops| (root.join(sops.path), sops.text.into_bytes()));
        let given = nixos.given.clone();
        spec.cpus = given.cpus.unwrap_or(found.cpus);
        spec.memory = given.memory.unwrap_or(Size::mebibytes(found.memory_mib));
        spec.disk = Size::mebibytes(disk.unwrap_or(found.disk_mib));
        let (own, doubts) = forwards(&found);
        spec.forwards = own;
        spec.forwards.retain(|old| given.forwards.iter().all(|new| new.guest_port != old.guest_port));
        spec.forwards.extend(given.forwards);
        if spec.forwards.iter().all(|forward| forward.guest_port != SSH_PORT) {
            // Readiness is proved by a login.
            spec.forwards.push(Forward::loopback(0, SSH_PORT));
        }
        let cpus = request.cpus.or(given.cpus);
        let memory = request.memory_mib.or(given.memory.map(Size::in_mebibytes));
        let memory_mib = memory.and_then(|memory| u32::try_from(memory).ok());
        Ok(Some(Self { reference, found, client, cpus, memory_mib, doubts }))
    }

    /// The name of what it builds.
    pub(super) fn id(&self) -> String {
        self.found.name()
    }

    /// Whether its runner is in the store.
    pub(super) fn is_built(&self) -> bool {
        self.found.is_built()
    }

    /// The machine that its runner runs.
    pub(super) fn machine(&self, machine: Machine, place: &Place, built: Option<&Built>) -> Machine {
        let runner = Runner {
            program: built.map_or_else(|| self.found.expected_program(), |built| built.program.clone()),
            qemu: built.and_then(|built| built.qemu.clone()),
            temporary: place.runner_files(),
            cpus: self.cpus,
            memory_mib: self.memory_mib,
        };
        let disk = machine.disk.filter(|_| self.found.has_disk);
        Machine { runner: Some(runner), disk, ..machine }
    }

    /// Builds it.
    pub(super) fn build(
        &self,
        site: &Site,
        place: &Place,
        makes_disk: bool,
        observer: &mut dyn Observer,
    ) -> Result<Built, Error> {
        for doubt in &self.doubts {
            observer.tell(Progress::Warning(doubt.clone()));
        }
        let mut roots = vec![place.runner()];
        roots.extend(makes_disk.then(|| place.path.join(ROOT_OF_DISK)));
        let log = place.path.join(LOG);
        let mut tell = |event| observer.tell(Progress::Image(&event));
        Ok(nixos::build(&self.reference, &self.found, &roots, &log, &site.environment, &mut tell)?)
    }

    /// What its share holds: the key where the guest looks for it; a layer, for a guest with civm's own side; and the
    /// project where the share was the configuration's own, since those who make one bring that.
    pub(super) fn staged(
        &self,
        site: &Site,
        place: &Place,
        identity: Identity,
    ) -> Result<Vec<Staged>, Error> {
        let layer = Layer {
            hostname: place.name.clone(),
            machine_id: share::machine_id(&identity.public, Some(&place.name)),
            root_authorized_keys: vec![self.client.clone()],
            console_login: true,
            ..Layer::default()
        };
        let layer = serde_json::to_vec_pretty(&layer).map_err(Error::Layer)?;
        let mut staged = vec![
            Staged::bytes(self.found.share.key.clone(), 0o400, identity.private),
            Staged::bytes(LAYER, 0o400, Zeroizing::new(layer)),
        ];
        if !self.found.share.added {
            staged.extend(share::source(site, false)?);
        }
        Ok(staged)
    }
}

/// The forwards of a configuration, on loopback where it names no address, and what cannot be one.
fn forwards(found: &Found) -> (Vec<Forward>, Vec<String>) {
    let (mut forwards, mut doubts) = (Vec::new(), Vec::new());
    for port in &found.forwards {
        let address = match port.address.as_str() {
            "" => Some(Ipv4Addr::LOCALHOST),
            text => text.parse().ok(),
        };
        match address.filter(|_| port.protocol == "tcp") {
            Some(address) => {
                forwards.push(Forward { address, host_port: port.host, guest_port: port.guest });
            }
            None => doubts.push(format!(
                "the configuration forwards {} port {} of `{}`, which civm does not",
                port.protocol, port.host, port.address
            )),
        }
    }
    (forwards, doubts)
}

/// The names of a flake's configurations, for a project's own flake or another one.
///
/// # Errors
/// There is no Nix, or no such flake.
pub fn configurations(site: &Site, flake: &str) -> Result<Vec<String>, Error> {
    Ok(nixos::configurations(flake, site.project.root(), &site.environment)?)
}

/// The configuration that a request's host is, where this project has no host of that name: as the request says, or as
/// the instance was started last.
pub(super) fn of_request(site: &Site, request: &Request) -> Option<Reference> {
    let name = request.name.as_ref().unwrap_or(&request.host);
    if request.flake.is_some() || site.project.host_file(&request.host).is_file() {
        return request.flake.clone();
    }
    let is_there = crate::vm::spec::check_name(name).is_ok() && site.state.path.join(name).is_dir();
    let place = if is_there { site.state.place(name).ok()? } else { return None };
    // A damaged one is written anew by whoever starts the instance.
    Request::last(&place).ok().flatten()?.flake
}

/// The description of a request's host.
pub(super) fn spec(site: &Site, host: &str, flake: Option<&Reference>) -> Result<Spec, Error> {
    let Some(Reference { flake, configuration }) = flake else { return site.spec(host) };
    let arch = Arch::native().ok_or(Error::NoArch)?;
    Ok(site.project.of_flake(host, flake, configuration, arch)?)
}

/// Where the disk of a machine is: not beside a flake that is not in git, for Nix copies all that lies there.
pub(super) fn disk(site: &Site, spec: &Spec, place: &Place) -> PathBuf {
    let root = site.project.root();
    let copied = root.join(crate::host::project::FLAKE_FILE).is_file()
        && !root.ancestors().any(|directory| directory.join(".git").exists());
    if spec.nixos().is_some() && copied {
        return place.path.join("disk.qcow2");
    }
    site.project.disk(&place.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::nixos::{Port, Share};

    #[test]
    fn ports_are_on_loopback_where_the_configuration_names_no_address() {
        let port = |protocol: &str, address: &str, host| Port {
            protocol: protocol.to_owned(),
            address: address.to_owned(),
            host,
            guest: 22,
        };
        let ports = vec![port("tcp", "", 2322), port("tcp", "0.0.0.0", 80), port("udp", "", 53)];
        let share = Share { tag: "shr".into(), key: "k".into(), added: false };
        let (forwards, doubts) = forwards(&Found::sample(ports, share));
        let addresses: Vec<String> = forwards.iter().map(|one| one.address.to_string()).collect();
        assert_eq!((addresses, doubts.len()), (vec!["127.0.0.1".to_owned(), "0.0.0.0".to_owned()], 1));
    }
}
