//! What a request comes to: which machine, under which name, with which disk and ports. Nothing is made or started yet.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::host::parcel::Order;
use crate::host::spec::Spec;
use crate::image::Image;
use crate::instance::accel::AccelRequest;
use crate::instance::plan::{ConsoleLog, Machine};
use crate::instance::{Place, launch};
use crate::lifecycle::disk::RootDisk;
use crate::lifecycle::nixos::Nixos;
use crate::lifecycle::shape::Shape;
use crate::lifecycle::{Error, Request, Site, image, nixos, request, shape};
use crate::vm::ports::Forward;
use crate::vm::spec::{self as machine, Accel, Boot, check_name};

/// An instance as it would be started.
#[derive(Debug)]
pub struct Plan {
    /// When planning began.
    pub(super) begun: Instant,
    /// What was asked for.
    pub request: Request,
    /// The host, with the resources that were asked for.
    pub spec: Spec,
    /// Where the instance's state is.
    pub place: Place,
    pub(super) disk: RootDisk,
    pub(super) shape: Shape,
    /// The configuration, where the host is one of NixOS.
    pub(super) nixos: Option<Nixos>,
}

impl Plan {
    /// What `request` comes to.
    ///
    /// # Errors
    /// There is no such host, its description is not valid, the name belongs to another one, a resource cannot be had,
    /// or the disk that exists must not be given to a machine.
    pub fn of(site: &Site, request: Request) -> Result<Self, Error> {
        let begun = Instant::now();
        let request = Request { flake: nixos::of_request(site, &request), ..request };
        let (host, place) = resolve(site, &request)?;
        // They are written anew before the instance starts.
        for file in [&request::FILE, &shape::FILE] {
            file.refuse_newer(&place)?;
        }
        let request = Request { host: host.clone(), name: Some(place.name.clone()), ..request };
        let mut spec = nixos::spec(site, &host, request.flake.as_ref())?;
        let nixos = Nixos::of(site, &mut spec, &request)?;
        if place.name != host {
            // The host's own ports are those of the instance that has its name.
            spec.forwards.iter_mut().for_each(|forward| forward.host_port = 0);
        }
        let mut spec = spec.with_resources(&request.resources()).map_err(Error::Resources)?;
        let id = match &nixos {
            Some(nixos) => nixos.id(),
            None => image::id(&Order::of(&spec), &site.environment)?,
        };
        let shape = Shape::of(&spec, id);
        keep_ports(&mut spec.forwards, &place);
        let disk = RootDisk::find(site, &request, &spec, &place)?;
        Ok(Self { begun, request, spec, place, disk, shape, nixos })
    }

    /// Where its disk is, or will be.
    #[must_use]
    pub fn disk_path(&self) -> &Path {
        &self.disk.path
    }

    /// The disk that is removed first, if there is one.
    #[must_use]
    pub fn removes(&self) -> Option<&Path> {
        let path = self.disk_path();
        (self.request.fresh && path.symlink_metadata().is_ok()).then_some(path)
    }

    /// For who only looks: takes away the directory that planning has made for the instance's state. One in which anything
    /// is stays.
    pub fn leave_nothing(&self) {
        let _ = std::fs::remove_dir(&self.place.path);
    }

    /// QEMU's command line, and what does not exist yet of what it names.
    ///
    /// # Errors
    /// There is no QEMU, or nowhere to keep images.
    pub fn command_line(&self, site: &Site) -> Result<(String, Vec<&'static str>), Error> {
        let (image, is_built) = match &self.nixos {
            Some(nixos) => (None, nixos.is_built()),
            None => {
                let (image, is_built) = image::locate(&Order::of(&self.spec), &site.environment)?;
                (Some(image), is_built)
            }
        };
        let machine = machine(&self.spec, &self.place, image.as_ref(), &self.disk, &self.request);
        let machine = match &self.nixos {
            Some(nixos) => nixos.machine(machine, &self.place, None),
            None => machine,
        };
        let accel = match self.request.accel {
            AccelRequest::Kvm => Accel::Kvm,
            _ => Accel::Tcg,
        };
        let line = launch::command_line(&machine, accel, &self.place, &site.environment)?;
        let parts = [(is_built, "its image"), (self.disk.will_be_kept(), "its disk")];
        Ok((line, parts.into_iter().filter_map(|(there, what)| (!there).then_some(what)).collect()))
    }
}

/// The host that is meant, and the place of the instance.
fn resolve(site: &Site, request: &Request) -> Result<(String, Place), Error> {
    let is_host = |name: &str| site.project.host_file(name).is_file();
    let exists = |host: &str| nixos::spec(site, host, request.flake.as_ref()).map(|_| ());
    // A record that cannot be read does not say whose machine it is.
    let host_of = |name: &str| -> Result<Option<String>, Error> {
        let is_there = check_name(name).is_ok() && site.state.path.join(name).is_dir();
        let record = if is_there { site.state.place(name)?.load()? } else { None };
        Ok(record.map(|record| record.host))
    };
    let name = request.name.as_ref().unwrap_or(&request.host);
    let known = if name == &request.host && !is_host(name) { host_of(name)? } else { None };
    let host = known.unwrap_or_else(|| request.host.clone());
    if name == &request.host {
        if request.flake.is_some() && is_host(name) {
            return Err(Error::NameOfHost(name.clone()));
        }
        // That there is no such host is said before anything is made for it.
        exists(&host)?;
        return Ok((host, site.state.place(name)?));
    }
    check_name(name).map_err(crate::instance::Error::from)?;
    if is_host(name) {
        return Err(Error::NameOfHost(name.clone()));
    }
    exists(&host)?;
    match host_of(name)? {
        Some(other) if other != host => Err(Error::OtherHost { name: name.clone(), host: other }),
        _ => Ok((host, site.state.place(name)?)),
    }
}

/// A port that the kernel once chose for the instance stays its own while nobody else has it.
fn keep_ports(forwards: &mut [Forward], place: &Place) {
    let Some(last) = place.record() else { return };
    for forward in forwards.iter_mut().filter(|forward| forward.host_port == 0) {
        let had = last.forwards.iter().find(|had| {
            (had.guest_port, had.address) == (forward.guest_port, forward.address) && had.host_port != 0
        });
        if let Some(had) = had
            && TcpListener::bind((had.address, had.host_port)).is_ok()
        {
            forward.host_port = had.host_port;
        }
    }
}

/// The machine as the `instance` room needs it; without an image, only for validation.
pub(super) fn machine(
    spec: &Spec,
    place: &Place,
    image: Option<&Image>,
    disk: &RootDisk,
    request: &Request,
) -> Machine {
    Machine {
        forwards: spec.forwards.clone(),
        extra_arguments: request.qemu_arguments.clone(),
        ..ordered(&Order::of(spec), place, image, disk)
    }
}

/// The same as far as an order goes: no port leads into it.
pub(super) fn ordered(order: &Order, place: &Place, image: Option<&Image>, disk: &RootDisk) -> Machine {
    Machine {
        name: place.name.clone(),
        arch: order.arch,
        machine_type: order.machine_type,
        cpus: order.cpus,
        memory_mib: u32::try_from(order.memory_mib).unwrap_or(u32::MAX),
        boot: image.map_or_else(nothing_yet, |image| Boot {
            kernel: image.kernel.clone(),
            initrd: Some(image.initrd.clone()),
            append: image.append.clone(),
        }),
        runner: None,
        disk: Some(machine::Disk {
            path: disk.path.clone(),
            size_mib: order.disk_mib,
            ephemeral: disk.ephemeral,
        }),
        forwards: Vec::new(),
        network: order.network,
        share_tag: crate::host::layer::SHARE_TAG.to_owned(),
        console_log: if order.console_log { ConsoleLog::Always } else { ConsoleLog::UntilReady },
        extra_arguments: Vec::new(),
    }
}

/// Stands in for an image that does not exist yet, while the rest of a machine is checked.
fn nothing_yet() -> Boot {
    Boot { kernel: PathBuf::from("/"), initrd: None, append: Vec::new() }
}
