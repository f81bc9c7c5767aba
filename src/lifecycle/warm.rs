//! Warm starts: a machine with a new disk is resumed from a template of its kind, where there is one
//! (docs/warm-start.md).

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::edge::environment::Environment;
use crate::host::parcel::Order;
use crate::image::templates::{self as stored, Description, Making};
use crate::image::{Image, disk};
use crate::instance::accel::AccelRequest;
use crate::instance::plan::{Machine, Template};
use crate::instance::template::{self, Workplace};
use crate::instance::{Place, launch};
use crate::lifecycle::disk::RootDisk;
use crate::lifecycle::{Error, Observer, Progress, image, plan, templates};
use crate::vm::spec::Accel;

const MIB: u64 = 1 << 20;

/// Whether a machine is resumed from a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Warm {
    /// Where one fits, and its disk is new.
    #[default]
    Auto,
    /// Never: it boots.
    Never,
    /// Or it is not started.
    Require,
}

/// Why a machine is not resumed.
#[derive(Debug)]
enum Why {
    /// There is no template of it.
    Missing,
    /// Something else.
    Never(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no template of this machine yet"),
            Self::Never(reason) => f.write_str(reason),
        }
    }
}

/// A machine that may be resumed.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) machine: &'a Machine,
    pub(super) image: &'a Image,
    pub(super) place: &'a Place,
    pub(super) accel: AccelRequest,
    pub(super) qemu_as_root: bool,
    pub(super) environment: &'a Environment,
}

/// What a machine starts from.
pub(super) struct Choice {
    /// The image, with the disk that an instance's is made from.
    pub(super) image: Image,
    pub(super) template: Option<Template>,
    pub(super) accel: AccelRequest,
    /// There would be one, had it been made.
    pub(super) is_missing: bool,
}

impl Candidate<'_> {
    /// Chooses. `has_disk`: the instance's disk is there already, and is another than the template's.
    ///
    /// # Errors
    /// A template is required, and none fits.
    pub(super) fn choose(
        self,
        warm: Warm,
        has_disk: bool,
        observer: &mut dyn Observer,
    ) -> Result<Choice, Error> {
        let cold = Choice { image: self.image.clone(), template: None, accel: self.accel, is_missing: false };
        let found = match warm {
            Warm::Never => return Ok(cold),
            Warm::Auto if has_disk => return Ok(cold),
            Warm::Require if has_disk => Err(Why::Never(
                "its disk is there already: --fresh or --ephemeral start with a new one".to_owned(),
            )),
            Warm::Auto | Warm::Require => self.find(),
        };
        match found {
            Ok((directory, image, accel)) => {
                // Decided once: another answer a moment later would be that of another machine.
                let accel = if accel == Accel::Tcg { AccelRequest::Tcg } else { self.accel };
                let template = Some(Template::Resume { directory, required: warm == Warm::Require });
                Ok(Choice { image, template, accel, is_missing: false })
            }
            Err(why) if warm == Warm::Require => Err(Error::NotWarm(why.to_string())),
            // Whoever wants no templates knows.
            Err(Why::Missing) if templates::limit(self.environment) == 0 => Ok(cold),
            Err(why) => {
                observer.tell(Progress::Cold { reason: &why.to_string() });
                Ok(Choice { is_missing: matches!(why, Why::Missing), ..cold })
            }
        }
    }

    /// The template that fits, with its image and the accelerator; or why there is none.
    fn find(self) -> Result<(PathBuf, Image, Accel), Why> {
        if let Some(reason) = template::refusal(self.machine) {
            return Err(Why::Never(reason.to_owned()));
        }
        let cache = image::cache(self.environment).ok_or_else(|| Why::Never(Error::NoCache.to_string()))?;
        let (accel, name) = self.name().map_err(|error| Why::Never(error.to_string()))?;
        let (directory, image) =
            stored::find(&name, self.image, &cache, self.environment).ok_or(Why::Missing)?;
        Ok((directory, image, accel))
    }

    fn name(self) -> Result<(Accel, String), Error> {
        let Self { machine, image, place, accel, qemu_as_root, environment } = self;
        let accel = launch::accelerator(machine, place, accel, qemu_as_root, environment)?.accel;
        Ok((accel, template::name(machine, &image.id, accel, environment)?))
    }

    /// Makes the template, if there is none yet; `false` where there was.
    ///
    /// # Errors
    /// Such a machine is never resumed, it cannot be frozen, or the cache cannot be written.
    pub(super) fn make(self, observer: &mut dyn Observer) -> Result<bool, Error> {
        let Self { machine, image, environment, .. } = self;
        if let Some(reason) = template::refusal(machine) {
            return Err(Error::NotWarm(reason.to_owned()));
        }
        let cache = image::cache(environment).ok_or(Error::NoCache)?;
        let (accel, name) = self.name()?;
        if stored::find(&name, image, &cache, environment).is_some() {
            return Ok(false);
        }
        let begun =
            Making::begin(&name, &cache, environment, &mut |event| observer.tell(Progress::Image(&event)));
        let Some(making) = begun? else { return Ok(false) };
        let size_mib = machine.disk.as_ref().map_or(0, |disk| disk.size_mib);
        disk::create(image, &making.disk(), size_mib * MIB, environment)?;
        let (directory, disk, scratch) = (making.dir(), making.disk(), making.scratch());
        let workplace = Workplace { directory, disk: &disk, scratch };
        template::make(machine, accel, workplace, environment, &mut |event| {
            observer.tell(Progress::Instance(event));
        })?;
        making.finish(&Description {
            image: image.id.clone(),
            cpus: machine.cpus,
            memory_mib: machine.memory_mib,
            disk_mib: size_mib,
            accel: accel.to_string(),
        })?;
        templates::make_room(&name, &cache, environment)?;
        Ok(true)
    }
}

/// Makes the template of a machine, and its image where that is not built yet; `false` where there is one already. `named`:
/// an image of the cache that its instances boot instead of the order's own.
///
/// # Errors
/// As for a start; or such a machine is never resumed.
pub fn make_template(
    order: &Order,
    named: Option<&str>,
    accel: AccelRequest,
    environment: &Environment,
    observer: &mut dyn Observer,
) -> Result<bool, Error> {
    image::check(order, environment)?;
    let image = image::named_or_own(named, order, environment, observer)?;
    of_order(order, &image, accel, environment, |candidate| candidate.make(observer))
}

/// Resumes a machine from its template, if it has one, as a test: how long its guest took until it was another one.
///
/// # Errors
/// It cannot be resumed.
pub fn try_template(order: &Order, environment: &Environment) -> Result<Option<Duration>, Error> {
    let (image, is_built) = image::locate(order, environment)?;
    if !is_built {
        return Ok(None);
    }
    of_order(order, &image, AccelRequest::Auto, environment, |candidate| {
        let Ok((directory, image, accel)) = candidate.find() else { return Ok(None) };
        let failed = |source| Error::File {
            what: "cannot create a directory in",
            path: environment.temp_dir(),
            source,
        };
        let scratch = tempfile::tempdir_in(environment.temp_dir()).map_err(failed)?;
        let begun = Instant::now();
        let disk = scratch.path().join("disk.qcow2");
        disk::overlay(&image, &disk, order.disk_mib * MIB, environment)?;
        let workplace = Workplace { directory: &directory, disk: &disk, scratch: scratch.path() };
        template::attempt(candidate.machine, accel, workplace, environment)?;
        Ok(Some(begun.elapsed()))
    })
}

/// The machine of an order that is not an instance.
fn of_order<T>(
    order: &Order,
    image: &Image,
    accel: AccelRequest,
    environment: &Environment,
    then: impl FnOnce(Candidate<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let path = image::cache(environment).ok_or(Error::NoCache)?;
    let place = Place { project: path.clone(), name: order.host.clone(), path };
    let machine = plan::ordered(order, &place, Some(image), &RootDisk::ephemeral(&place));
    then(Candidate { machine: &machine, image, place: &place, accel, qemu_as_root: false, environment })
}
