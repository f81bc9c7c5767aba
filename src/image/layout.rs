//! Where things lie in the initrd, and after the switch to the root disk. The image room writes
//! them, the guest room reads them.

/// Directory of civm's guest side in the initrd.
pub const INITRD_DIR: &str = "/civm";
/// The same directory after the switch: a bind mount of it, so nothing is copied.
pub const RUN_DIR: &str = "/run/civm";
/// The binary, in either directory.
pub const BINARY: &str = "civm";
/// The modules that PID 1 loads, a path below [`MODULES`] a line, in order; in either directory.
pub const EARLY_MODULES: &str = "early-modules";
/// `/lib/modules` of the running kernel, in either directory.
pub const MODULES: &str = "modules";
/// A file of the image: hash of suite, architecture and packages, to tell an outgrown disk.
pub const IMAGE_MARK: &str = "/usr/lib/civm/packages";
/// The kernel parameter with the same hash.
pub const PACKAGES_PARAMETER: &str = "civm.packages";
/// The kernel parameter with the release that the image is of.
pub const SUITE_PARAMETER: &str = "civm.suite";
/// The kernel parameter of a machine that is to be a template: no process of it may know the kernel's boot id.
pub const TEMPLATE_PARAMETER: &str = "civm.template";
/// The kernel parameter of the accelerator probe: say so and power off.
pub const PROBE_PARAMETER: &str = "civm.probe";
/// What the guest prints on its console when it was booted for the probe.
pub const PROBE_LINE: &str = "civm: probe ok";
