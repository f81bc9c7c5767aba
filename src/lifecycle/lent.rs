//! A machine that is lent to somebody else: an order says what it is, and they send what its guest finds in its share.
//! It has no project, no secrets of ours and no disk that outlives it.

use super::disk::{Ephemeral, RootDisk};
use super::warm::{Candidate, Choice, Warm};
use super::{Error, Observer, Proof, READY, boot, image, plan, templates};
use crate::edge::environment::Environment;
use crate::host::parcel::Order;
use crate::image::Image;
use crate::instance::accel::AccelRequest;
use crate::instance::plan::{Machine, Staged, Template};
use crate::instance::{self, Home, Place, Running, launch};
use crate::vm::ports::{Forward, SSH};

/// What is lent.
#[derive(Clone, Copy, Debug)]
pub struct Lent<'a> {
    /// Where the state of this user's instances is.
    pub home: &'a Home,
    /// Where this one's is.
    pub place: &'a Place,
    /// The machine.
    pub order: &'a Order,
    /// An image of the cache that it boots, where it is there; else the order's own.
    pub image: Option<&'a str>,
    /// What executes it.
    pub accel: AccelRequest,
    /// The variables of this run.
    pub environment: &'a Environment,
}

/// A machine that can be started: its image and its disk are there.
pub struct Prepared<'a> {
    lent: Lent<'a>,
    machine: Machine,
    disk: Ephemeral,
    template: Option<Template>,
    accel: AccelRequest,
    is_missing: bool,
}

impl<'a> Lent<'a> {
    /// Checks that it can be, and makes its image and its disk.
    ///
    /// # Errors
    /// What stands in the way.
    pub fn prepare(self, observer: &mut dyn Observer) -> Result<Prepared<'a>, Error> {
        let Self { home, place, order, image, environment, .. } = self;
        let disk = RootDisk::ephemeral(place);
        let machine = |image: Option<&Image>| Machine {
            forwards: vec![Forward::loopback(0, SSH)],
            ..plan::ordered(order, place, image, &disk)
        };
        // What is merely unwise is told when it starts.
        launch::check(home, &machine(None), environment)?;
        image::check(order, environment)?;
        let image = image::named_or_own(image, order, environment, observer)?;
        let machine = machine(Some(&image));
        let accel = self.accel;
        let candidate =
            Candidate { machine: &machine, image: &image, place, accel, qemu_as_root: false, environment };
        let chosen = candidate.choose(Warm::Auto, false, observer)?;
        let Choice { image, template, accel, is_missing } = chosen;
        let made = disk.make(order, &image, place, environment, observer)?;
        Ok(Prepared { lent: self, machine, disk: made, template, accel, is_missing })
    }
}

impl Prepared<'_> {
    /// Starts it, and waits until its guest is ready. It lives as long as the value and this process. A template that it
    /// lacked is made for the next one.
    ///
    /// # Errors
    /// What stands in the way, or why it is not ready. It has been stopped again.
    pub fn start(self, staged: Vec<Staged>, observer: &mut dyn Observer) -> Result<Running, Error> {
        let Lent { home, place, order, image, accel, environment } = self.lent;
        let start = instance::Request {
            home,
            place,
            host: &order.host,
            machine: self.machine,
            accel: self.accel,
            qemu_as_root: false,
            staged,
            template: self.template,
            mode: None,
            environment,
        };
        let running = boot(start, self.disk, || None, Proof::Report, READY, observer)?;
        if self.is_missing {
            templates::make_later(order, image, accel, environment);
        }
        Ok(running)
    }
}
