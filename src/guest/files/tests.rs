use super::*;
use std::os::unix::fs::MetadataExt;

struct Guest {
    _dir: tempfile::TempDir,
    root: PathBuf,
    memory: PathBuf,
}

impl Guest {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let (root, memory) = (dir.path().join("root"), dir.path().join("state"));
        fs::create_dir_all(root.join("etc")).expect("mkdir");
        Self { _dir: dir, root, memory }
    }

    fn boot(&self, entries: &[Entry]) -> Result<(), Error> {
        let mut state = State::load(&self.memory)?;
        let mut overlay = Overlay::new(&self.root, &self.memory, &mut state);
        overlay.prepare(entries)?;
        for entry in entries {
            overlay.place(entry)?;
        }
        overlay.finish()?;
        state.save(&self.memory)
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }
}

fn file(path: &str, content: &str, mode: u32) -> Entry {
    Entry { path: path.into(), mode, kind: Kind::File(content.into()) }
}

#[test]
fn files_come_with_their_modes_and_go_with_the_layer() {
    let guest = Guest::new();
    guest.boot(&[file("opt/a/b/run", "x", 0o750), file("/etc/conf", "y", 0o640)]).expect("boot");
    let mode = guest.root.join("opt/a/b/run").metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o750);
    guest.boot(&[file("etc/conf", "z", 0o640)]).expect("boot");
    assert_eq!(guest.read("etc/conf").as_deref(), Some("z"));
    assert!(!guest.root.join("opt").exists(), "directories made for a file go with it");
    guest.boot(&[]).expect("boot");
    assert!(!guest.root.join("etc/conf").exists());
    assert!(guest.root.join("etc").exists(), "directories of the image stay");
}

#[test]
fn what_the_image_had_comes_back() {
    let guest = Guest::new();
    fs::write(guest.root.join("etc/nix.conf"), "image").expect("write");
    for _ in 0..2 {
        guest.boot(&[file("etc/nix.conf", "layer", 0o644)]).expect("boot");
        assert_eq!(guest.read("etc/nix.conf").as_deref(), Some("layer"));
    }
    guest.boot(&[]).expect("boot");
    assert_eq!(guest.read("etc/nix.conf").as_deref(), Some("image"));
}

#[test]
fn half_a_copy_is_not_an_original_and_a_lost_state_costs_none() {
    let guest = Guest::new();
    fs::write(guest.root.join("etc/nix.conf"), "image").expect("write");
    // Of a boot that was cut off while it copied.
    fs::create_dir_all(guest.memory.join("originals.new/etc")).expect("mkdir");
    fs::write(guest.memory.join("originals.new/etc/nix.conf"), "im").expect("write");
    guest.boot(&[file("etc/nix.conf", "layer", 0o644)]).expect("boot");
    assert!(!guest.memory.join("originals.new").exists());
    fs::write(guest.memory.join("state.json"), "{").expect("damaged");
    guest.boot(&[file("etc/nix.conf", "layer", 0o644)]).expect("boot");
    guest.boot(&[]).expect("boot");
    assert_eq!(guest.read("etc/nix.conf").as_deref(), Some("image"));
    assert!(!guest.memory.join("originals/etc/nix.conf").exists());
}

#[test]
fn a_file_may_become_a_directory_and_back() {
    let guest = Guest::new();
    for _ in 0..2 {
        guest.boot(&[file("srv/app", "a file", 0o644)]).expect("boot");
        assert_eq!(guest.read("srv/app").as_deref(), Some("a file"));
        guest.boot(&[file("srv/app/conf", "inside", 0o644)]).expect("boot");
        assert_eq!(guest.read("srv/app/conf").as_deref(), Some("inside"));
    }
    fs::write(guest.root.join("srv/app/own"), "the guest's").expect("write");
    assert!(guest.boot(&[file("srv/app", "a file", 0o644)]).is_err(), "what the guest wrote is not removed");
    assert_eq!(guest.read("srv/app/own").as_deref(), Some("the guest's"));
}

#[test]
fn an_empty_directory_stays_with_its_mode_until_the_layer_drops_it() {
    let guest = Guest::new();
    let dir = |path: &str, mode| Entry { path: path.into(), mode, kind: Kind::Directory };
    let mode = |path: &str| guest.root.join(path).metadata().map(|data| data.mode() & 0o7777).ok();
    for wanted in [0o750, 0o750, 0o1777] {
        guest.boot(&[dir("srv", 0o755), dir("srv/a", wanted)]).expect("boot");
        assert_eq!((mode("srv"), mode("srv/a")), (Some(0o755), Some(wanted)));
    }
    // What is made in it does not change it.
    guest.boot(&[dir("srv/a", 0o700), file("srv/a/f", "", 0o644)]).expect("boot");
    assert_eq!(mode("srv/a"), Some(0o700));
    guest.boot(&[]).expect("boot");
    assert_eq!(mode("srv"), None);
}

#[test]
fn a_directory_of_the_image_keeps_its_mode() {
    let guest = Guest::new();
    let before = guest.root.join("etc").metadata().expect("there").mode();
    guest.boot(&[Entry { path: "etc".into(), mode: 0o700, kind: Kind::Directory }]).expect("boot");
    assert_eq!(guest.root.join("etc").metadata().expect("there").mode(), before);
}

#[test]
fn a_directory_in_use_by_others_stays() {
    let guest = Guest::new();
    guest.boot(&[file("opt/x/ours", "", 0o644)]).expect("boot");
    fs::write(guest.root.join("opt/x/theirs"), "").expect("write");
    guest.boot(&[]).expect("boot");
    assert!(guest.root.join("opt/x/theirs").exists());
    assert!(!guest.root.join("opt/x/ours").exists());
}

#[test]
fn links_are_laid_as_links() {
    let guest = Guest::new();
    let entry = Entry { path: "etc/l".into(), mode: 0o777, kind: Kind::Link("/run/x".into()) };
    guest.boot(std::slice::from_ref(&entry)).expect("boot");
    guest.boot(&[entry]).expect("boot");
    assert_eq!(fs::read_link(guest.root.join("etc/l")).expect("link"), Path::new("/run/x"));
    guest.boot(&[]).expect("boot");
    assert!(guest.root.join("etc/l").symlink_metadata().is_err());
}

#[test]
fn a_path_that_leads_out_is_refused() {
    let guest = Guest::new();
    assert!(guest.boot(&[file("../x", "", 0o644)]).is_err());
    assert!(guest.boot(&[file("/", "", 0o644)]).is_err());
    assert!(guest.boot(&[file("etc", "", 0o644)]).is_err(), "a directory is not replaced by a file");
}

impl Guest {
    /// What a boot with these entries would change.
    fn compared(&self, entries: &[Entry]) -> Vec<String> {
        let mut state = State::load(&self.memory).expect("state");
        let mut notes = Notes::default();
        Overlay::new(&self.root, &self.memory, &mut state).compare(entries, &mut notes).expect("compared");
        notes.changes.iter().map(|change| format!("{} {}", change.how.name(), change.name)).collect()
    }
}

#[test]
fn what_would_change_is_known_before() {
    let guest = Guest::new();
    fs::write(guest.root.join("etc/image"), "image").expect("write");
    let link = |to: &str| Entry { path: "etc/l".into(), mode: 0o777, kind: Kind::Link(to.into()) };
    let dir = |mode| Entry { path: "srv".into(), mode, kind: Kind::Directory };
    let first = [file("/etc/a", "1", 0o644), file("etc/b", "1", 0o644), link("x"), dir(0o750)];
    assert_eq!(guest.compared(&first), ["added /etc/a", "added /etc/b", "added /etc/l", "added /srv"]);
    guest.boot(&first).expect("boot");
    assert!(guest.compared(&first).is_empty());
    let second = [file("etc/a", "1", 0o600), file("etc/image", "1", 0o644), link("y"), dir(0o700)];
    assert_eq!(
        guest.compared(&second),
        ["changed /etc/a", "changed /etc/image", "changed /etc/l", "changed /srv", "removed /etc/b"]
    );
    fs::write(guest.root.join("etc/a"), "by hand").expect("write");
    assert_eq!(guest.compared(&first), ["changed /etc/a"], "what was changed in the guest is set right");
}

#[test]
fn what_was_cut_off_half_way_goes_with_the_next_layer() {
    let guest = Guest::new();
    fs::write(guest.root.join("etc/image"), "image").expect("write");
    let entries =
        [file("etc/image", "layer", 0o644), file("etc/new", "layer", 0o644), file("etc/z", "", 0o644)];
    {
        let mut state = State::load(&guest.memory).expect("state");
        let mut overlay = Overlay::new(&guest.root, &guest.memory, &mut state);
        overlay.prepare(&entries).expect("prepared");
        for entry in &entries[..2] {
            overlay.place(entry).expect("placed");
        }
        // Killed here: neither finished nor remembered again.
    }
    assert_eq!(guest.read("etc/new").as_deref(), Some("layer"));
    guest.boot(&[]).expect("boot");
    assert_eq!((guest.read("etc/image").as_deref(), guest.read("etc/new")), (Some("image"), None));
}
