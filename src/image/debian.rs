//! The provider `debian`: an image built by mmdebstrap, without root, from this machine's apt sources.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use sha2::{Digest, Sha256};

use super::apt::Apt;
use super::cache::stored::{DESCRIPTION, Description};
use super::cache::{Build, Cache};
use super::emulation::Emulation;
use super::guest_binary::GuestBinary;
use super::run::Job;
use super::sources::Sources;
use super::{
    Error, Event, Image, ImageSpec, Progress, debian_name, kernel, layout, modules, rootfs, sources, tools,
};
use crate::edge::environment::Environment;
use crate::edge::hex;
use crate::host::spec::{Arch, is_package};

/// What every guest has: an init system, the ssh server, and the tools that civm's guest side and a
/// person at its prompt call. No udev, no dbus: nothing of the boot needs them.
pub const BASE_PACKAGES: [&str; 10] = [
    "e2fsprogs",
    "iproute2",
    "kmod",
    "mount",
    "openssh-server",
    "passwd",
    "procps",
    "systemd",
    "systemd-sysv",
    "util-linux",
];

/// Goes up with every change to how an image is made, so that older ones are not taken for new.
const RECIPE: &str = "civm debian image 3";
/// Files of an image's directory.
const KERNEL: &str = "kernel";
const DISK: &str = "disk.qcow2";
const CONTENTS: &str = "accounts-and-programs.json";
/// Steps of the whole build after mmdebstrap, as parts of the time it takes.
const INSTALLED: f32 = 0.85;
const KERNEL_DONE: f32 = 0.88;

/// What an image is made of, resolved.
#[derive(Debug)]
struct Recipe {
    suite: String,
    packages: Vec<String>,
    /// Hash of all that the image depends on.
    id: String,
    /// Hash of suite, architecture and packages alone.
    mark: String,
}

/// The image of a specification, from the cache or built now.
///
/// Two processes that want the same image build it once. A build that is interrupted leaves nothing,
/// or what the next build sweeps.
///
/// # Errors
/// [`Error::DynamicBinary`] and [`Error::MissingTools`] before anything starts; [`Error::Tool`] with the
/// end of the tool's output; [`Error::Invalid`]; [`Error::Io`].
pub fn ensure(
    spec: &ImageSpec,
    cache_dir: &Path,
    environment: &Environment,
    progress: Progress<'_>,
) -> Result<Image, Error> {
    let tools_environment = environment.for_package_tools();
    let binary = GuestBinary::find(spec.guest_binary.as_deref(), spec.arch, environment)?;
    let recipe = Recipe::new(spec)?;
    let cache = Cache::open(cache_dir, &tools_environment)?;
    let dir = match cache.find(&recipe.id) {
        Some(dir) => {
            cache.sweep();
            dir
        }
        None => {
            let emulation = Emulation::choose(spec.arch);
            let sources = check_build_of(spec, &recipe, environment)?;
            match cache.begin(&recipe.id, progress)? {
                Some(build) => {
                    let plan = Plan { spec, recipe: &recipe, sources: &sources, emulation, binary: &binary };
                    build_image(&plan, build, &cache, progress)?
                }
                None => cache.find(&recipe.id).ok_or_else(|| {
                    Error::content(cache_dir, "the image was removed while this civm waited for it")
                })?,
            }
        }
    };
    ready(spec.arch, recipe, &dir, &binary, &cache)
}

/// The image with an initrd of this civm, noted as used.
fn ready(
    arch: Arch,
    recipe: Recipe,
    dir: &Path,
    binary: &GuestBinary,
    cache: &Cache,
) -> Result<Image, Error> {
    cache.note_use(&recipe.id);
    let image = image(arch, recipe, dir, binary);
    super::initrd::ensure(dir, binary, &image.initrd)?;
    Ok(image)
}

/// An image of the cache by its name, whatever it was made of; none where it is not there, not all of it, or does not
/// say what it was made of, as those of older versions of civm.
///
/// # Errors
/// [`Error::Content`] where it is of another architecture; [`Error::Io`].
pub fn find(
    id: &str,
    arch: Arch,
    cache_dir: &Path,
    environment: &Environment,
) -> Result<Option<Image>, Error> {
    let cache = Cache::at(cache_dir, &environment.for_package_tools())?;
    let Some(Description { suite, arch: of, packages }) = cache.description(id) else { return Ok(None) };
    let dir = cache.dir(id);
    if of != debian_name(arch) {
        let reason = format!("the image is for {of}, not for {}", debian_name(arch));
        return Err(Error::content(&dir, reason));
    }
    let binary = GuestBinary::find(None, arch, environment)?;
    let mark = hash(&own(&suite, arch, &packages));
    let recipe = Recipe { suite, packages, id: id.to_owned(), mark };
    ready(arch, recipe, &dir, &binary, &cache).map(Some)
}

/// Whether [`find`] finds an image.
#[must_use]
pub fn is_known(id: &str, cache_dir: &Path, environment: &Environment) -> bool {
    Cache::at(cache_dir, environment).is_ok_and(|cache| cache.description(id).is_some())
}

/// Whether the image of a specification is in the cache, with all of it.
#[must_use]
pub fn is_built(spec: &ImageSpec, cache_dir: &Path, environment: &Environment) -> bool {
    let cache = Cache::at(cache_dir, environment);
    cache.is_ok_and(|cache| id(spec).is_ok_and(|id| cache.find(&id).is_some()))
}

/// Whether an image can be built here, as far as that can be said without a try: programs, ids, apt sources.
///
/// # Errors
/// As [`check_tools`], and [`Error::NoSources`].
pub fn check_build(spec: &ImageSpec, environment: &Environment) -> Result<(), Error> {
    check_build_of(spec, &Recipe::new(spec)?, environment).map(drop)
}

fn check_build_of(spec: &ImageSpec, recipe: &Recipe, environment: &Environment) -> Result<Sources, Error> {
    check_tools(spec.arch, environment)?;
    sources::find(spec, &recipe.suite, &environment.for_package_tools())
}

/// Whether images for an architecture can be built here: all programs are there, and an ordinary user has subordinate ids.
///
/// # Errors
/// [`Error::MissingTools`], [`Error::NoSubordinateIds`].
pub fn check_tools(arch: Arch, environment: &Environment) -> Result<(), Error> {
    let environment = environment.for_package_tools();
    tools::check(nix::unistd::geteuid().is_root(), Emulation::choose(arch).tools(), &environment)?;
    rootfs::check_ids(&environment)
}

/// The name of the image of a specification, whether it is built or not.
///
/// # Errors
/// [`Error::Invalid`], or a sources file that cannot be read.
pub fn id(spec: &ImageSpec) -> Result<String, Error> {
    Recipe::new(spec).map(|recipe| recipe.id)
}

/// The image of a specification, and whether it is in the cache; nothing is built or made.
///
/// # Errors
/// As [`ensure`].
pub fn locate(spec: &ImageSpec, cache_dir: &Path, environment: &Environment) -> Result<(Image, bool), Error> {
    let binary = GuestBinary::find(spec.guest_binary.as_deref(), spec.arch, environment)?;
    let recipe = Recipe::new(spec)?;
    let tools_environment = environment.for_package_tools();
    let cache = Cache::at(cache_dir, &tools_environment)?;
    let dir = cache.dir(&recipe.id);
    let is_built = cache.find(&recipe.id).is_some();
    let image = image(spec.arch, recipe, &dir, &binary);
    let is_built = is_built && image.initrd.exists();
    Ok((image, is_built))
}

fn image(arch: Arch, recipe: Recipe, dir: &Path, binary: &GuestBinary) -> Image {
    // Without it, which is no more than what an image that is not built says, nothing of it is known.
    let contents = fs::read(dir.join(CONTENTS)).unwrap_or_default();
    Image {
        arch,
        kernel: dir.join(KERNEL),
        initrd: super::initrd::path(dir, binary),
        disk: dir.join(DISK),
        append: append(&recipe),
        id: recipe.id,
        contents: serde_json::from_slice(&contents).unwrap_or_default(),
    }
}

/// Removes what killed builds left in a cache, and beside it; builds that run are spared.
pub fn sweep(cache_dir: &Path, environment: &Environment) {
    if let Ok(cache) = Cache::at(cache_dir, &environment.for_package_tools()) {
        cache.sweep();
    }
}

/// What the image wants on the kernel's command line.
fn append(recipe: &Recipe) -> Vec<String> {
    vec![
        format!("{}={}", layout::PACKAGES_PARAMETER, recipe.mark),
        format!("{}={}", layout::SUITE_PARAMETER, recipe.suite),
        // The serial console's size: newer versions of systemd ask the terminal for it, and the answer of one
        // that is attached later would be typed into the shell.
        "systemd.tty.rows.console=24".to_owned(),
        "systemd.tty.columns.console=80".to_owned(),
    ]
}

/// What a build goes by.
struct Plan<'a> {
    spec: &'a ImageSpec,
    recipe: &'a Recipe,
    sources: &'a Sources,
    emulation: Emulation,
    binary: &'a GuestBinary,
}

fn build_image(
    plan: &Plan<'_>,
    build: Build,
    cache: &Cache,
    progress: Progress<'_>,
) -> Result<std::path::PathBuf, Error> {
    let begun = Instant::now();
    let Plan { spec, recipe, sources, .. } = *plan;
    let job = cache.job(&build, &recipe.id)?;
    progress(Event::Building { log: job.log().to_owned() });
    let work = build.dir.join("work");
    fs::create_dir(&work).map_err(Error::io("create", &work))?;
    plan.emulation.prove(&plan.binary.path, &build.scratch, &job)?;
    let packages = rootfs::Plan {
        suite: &recipe.suite,
        arch: spec.arch,
        emulation: plan.emulation,
        packages: &recipe.packages,
        sources,
        mark: &recipe.mark,
    };
    // The kernel's work has a log of its own, since it goes on beside the other.
    let kernel_job = cache.job(&build, &format!("{}-kernel", recipe.id))?;
    let kernel_work = work.join("kernel");
    fs::create_dir(&kernel_work).map_err(Error::io("create", &kernel_work))?;
    progress(Event::Step { name: "looking for the packages" });
    let apt = Apt::update(&kernel_work, spec.arch, sources, &kernel_job)?;
    apt.check(&recipe.packages, &recipe.suite, &kernel_job)?;
    progress(Event::Step { name: "installing packages" });
    // The kernel comes meanwhile: mmdebstrap keeps one processor busy.
    let (tar, kernel) = thread::scope(|scope| {
        let kernel = scope.spawn(|| prepare_kernel(spec, &apt, &kernel_work, &build.dir, &kernel_job));
        let tar = rootfs::bootstrap(&packages, &build, &work, &job, |done| {
            progress(Event::Fraction(done * INSTALLED));
        });
        let kernel =
            kernel.join().unwrap_or_else(|_| Err(Error::content(&work, "the kernel's thread failed")));
        (tar, kernel)
    });
    let tar = tar?;
    progress(Event::Fraction(INSTALLED));
    kernel?;
    progress(Event::Fraction(KERNEL_DONE));
    progress(Event::Step { name: "making the disk" });
    let contents = serde_json::to_vec(&rootfs::contents(&tar, &job)?);
    let path = build.dir.join(CONTENTS);
    let contents = contents.map_err(|error| Error::content(&path, error.to_string()))?;
    fs::write(&path, contents).map_err(Error::io("write", &path))?;
    describe(spec, recipe, &build.dir)?;
    rootfs::disk(&tar, &work, &build.dir.join(DISK), &job)?;
    fs::remove_dir_all(&work).map_err(Error::io("remove", &work))?;
    let dir = build.finish()?;
    progress(Event::Fraction(1.0));
    progress(Event::Built { seconds: begun.elapsed().as_secs() });
    Ok(dir)
}

/// Writes down what the image is made of, for who looks at the cache later.
fn describe(spec: &ImageSpec, recipe: &Recipe, dir: &Path) -> Result<(), Error> {
    let description = Description {
        suite: recipe.suite.clone(),
        arch: debian_name(spec.arch).to_owned(),
        packages: recipe.packages.clone(),
    };
    let path = dir.join(DESCRIPTION);
    let text = serde_json::to_vec(&description).map_err(|error| Error::content(&path, error.to_string()))?;
    fs::write(&path, text).map_err(Error::io("write", &path))
}

/// Kernel and modules, put in their place.
fn prepare_kernel(spec: &ImageSpec, apt: &Apt, work: &Path, to: &Path, job: &Job) -> Result<(), Error> {
    let kernel = kernel::fetch(work, spec.arch, apt, job)?;
    kernel::extract(&kernel, spec.arch, &to.join(KERNEL), job)?;
    let early = modules::collect(&kernel, work, to, job)?;
    let list = to.join(layout::EARLY_MODULES);
    fs::write(&list, early.join("\n") + "\n").map_err(Error::io("write", &list))
}

impl Recipe {
    fn new(spec: &ImageSpec) -> Result<Self, Error> {
        let suite = sources::suite(spec)?;
        let mut packages: Vec<String> = BASE_PACKAGES.iter().map(|name| (*name).to_owned()).collect();
        packages.extend_from_slice(&spec.packages);
        packages.sort();
        packages.dedup();
        if let Some(bad) = packages.iter().find(|name| !is_package(name)) {
            return Err(Error::Invalid { value: bad.clone(), what: "a Debian package name" });
        }
        let given = match &spec.sources {
            Some(file) => sources::given(file)?.text,
            None => String::new(),
        };
        let own = own(&suite, spec.arch, &packages);
        let mark = hash(&own);
        Ok(Self { id: hash(&[RECIPE, &own, &given].join("\n")), mark, suite, packages })
    }
}

/// What an image is made of, besides the sources: what its own mark is the hash of.
fn own(suite: &str, arch: Arch, packages: &[String]) -> String {
    [suite, debian_name(arch), &packages.join(" ")].join("\n")
}

fn hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(packages: &[&str]) -> ImageSpec {
        ImageSpec {
            suite: Some("bookworm".to_owned()),
            arch: Arch::X86_64,
            packages: packages.iter().map(|name| (*name).to_owned()).collect(),
            sources: None,
            guest_binary: None,
        }
    }

    #[test]
    fn order_and_repetition_of_packages_make_no_other_image() {
        let id = |packages: &[&str]| Recipe::new(&spec(packages)).expect("recipe").id;
        assert_eq!(id(&["nix-bin", "git", "git"]), id(&["git", "nix-bin"]));
        assert_ne!(id(&["git"]), id(&[]));
        assert_eq!(id(&["systemd"]), id(&[]), "the base set is always there");
    }

    #[test]
    fn what_host_yaml_refuses_is_refused_here_too() {
        assert!(Recipe::new(&spec(&["-o"])).is_err());
        assert!(Recipe::new(&ImageSpec { suite: Some("--mode=root".to_owned()), ..spec(&[]) }).is_err());
    }

    #[test]
    fn a_changed_sources_file_makes_another_image_of_the_same_packages() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("s.list");
        fs::write(&file, "deb http://one s main\n").expect("write");
        let with = |file: &Path| {
            Recipe::new(&ImageSpec { sources: Some(file.to_owned()), ..spec(&[]) }).expect("recipe")
        };
        let one = with(&file);
        fs::write(&file, "deb http://two s main\n").expect("write");
        let two = with(&file);
        assert_ne!(one.id, two.id);
        assert_eq!(one.mark, two.mark);
    }
}
