use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nold:x:1000:1000::/home/old:/bin/bash\n";
const GROUP: &str = "root:x:0:\nold:x:1000:\nnix-users:x:999:old\n";

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        shell: "/bin/bash".to_owned(),
        ..User::default()
    }
}

fn planned(users: &[User], state: &State) -> Vec<String> {
    let layer = Layer { users: users.to_vec(), ..Layer::default() };
    let steps = plan(&layer, &Accounts::parse(PASSWD, GROUP), state);
    steps.iter().map(|step| format!("{} {}", step.program, step.args.join(" "))).collect()
}

fn made(names: &[&str]) -> State {
    State { users: names.iter().map(|name| (*name).to_owned()).collect(), ..State::default() }
}

#[test]
fn a_missing_user_is_made_with_its_groups() {
    assert_eq!(
        planned(&[User { uid: Some(1200), ..user("new", &["nix-users", "extra"]) }], &State::default()),
        ["groupadd -r -- extra", "useradd -m -p * -s /bin/bash -u 1200 -U -G nix-users,extra -- new"]
    );
}

#[test]
fn a_user_that_is_as_wanted_costs_nothing() {
    assert!(planned(&[user("old", &["nix-users"])], &made(&["old"])).is_empty());
    assert!(planned(&[user("old", &["nix-users"])], &State::default()).is_empty());
}

#[test]
fn groups_that_were_taken_away_are_left() {
    assert_eq!(planned(&[user("old", &[])], &made(&["old"])), ["usermod -G  -- old"]);
    // A user of the image keeps what the image gave it.
    assert!(planned(&[user("old", &[])], &State::default()).is_empty());
}

#[test]
fn a_user_that_is_gone_is_locked_once_and_unlocked_when_it_comes_back() {
    let mut state = made(&["old"]);
    assert_eq!(planned(&[], &state), ["usermod -p ! -e 1 -s /usr/sbin/nologin -G  -- old"]);
    state.locked.insert("old".to_owned());
    assert!(planned(&[], &state).is_empty());
    assert_eq!(planned(&[user("old", &["nix-users"])], &state), ["usermod -p * -e  -- old"]);
    assert!(planned(&[], &State::default()).is_empty(), "users of the image are nobody's to lock");
}

#[test]
fn a_renamed_user_takes_its_id_from_its_old_account() {
    let new = [User { uid: Some(1000), ..user("new", &[]) }, User { uid: Some(1001), ..user("b", &[]) }];
    let mut state = made(&["old"]);
    assert_eq!(
        planned(&new, &state),
        [
            "usermod -u 1002 -- old",
            "useradd -m -p * -s /bin/bash -u 1000 -U -- new",
            "useradd -m -p * -s /bin/bash -u 1001 -U -- b",
            "usermod -p ! -e 1 -s /usr/sbin/nologin -G  -- old",
        ]
    );
    state.locked.insert("old".to_owned());
    assert_eq!(planned(&new[..1], &state)[0], "usermod -u 1001 -- old", "locked before");
    let of_image = planned(&new[..1], &State::default());
    assert_eq!(of_image, ["useradd -m -p * -s /bin/bash -u 1000 -U -- new"], "nobody's to move");
}

#[test]
fn users_without_an_id_take_what_the_others_leave() {
    let users = [user("any", &[]), User { uid: Some(1001), ..user("fixed", &[]) }];
    let steps = planned(&users, &State::default());
    assert!(steps[0].ends_with("-- fixed") && steps[1].ends_with("-- any"), "{steps:?}");
}

#[test]
fn only_what_was_done_is_remembered() {
    let passwd = format!("{PASSWD}made:x:1001:1001::/home/made:/bin/bash\n");
    let (before, after) = (Accounts::parse(PASSWD, GROUP), Accounts::parse(&passwd, GROUP));
    let layer = Layer { users: vec![user("made", &[]), user("failed", &[])], ..Layer::default() };
    let failed = ["failed".to_owned()].into();
    let mut state = made(&["old"]);
    remember(&layer, &before, &after, &failed, &mut state);
    assert_eq!(state, State { locked: ["old".to_owned()].into(), ..made(&["made", "old"]) });
    // Neither locking nor unlocking is taken as done where it failed.
    let failed = ["old".to_owned()].into();
    let mut state = made(&["old"]);
    remember(&Layer::default(), &before, &before, &failed, &mut state);
    assert_eq!(state, made(&["old"]));
    let mut locked = State { locked: failed.clone(), ..made(&["old"]) };
    let back = Layer { users: vec![user("old", &[])], ..Layer::default() };
    remember(&back, &before, &before, &failed, &mut locked);
    assert_eq!(locked.locked, failed);
}

#[test]
fn directories_below_a_home_are_the_users() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can give a directory to somebody else");
        return;
    }
    let root = tempfile::tempdir().expect("tempdir");
    let path = |name: &str| root.path().join(name);
    for dir in ["home/old/.config/app", "home/old/.mine", "home/older", "etc/app"] {
        fs::create_dir_all(path(dir)).expect("mkdir");
    }
    // What a link leads to, which the user has put there, stays whose it is.
    std::os::unix::fs::symlink(path("etc"), path("home/old/link")).expect("link");
    let made = [
        "home/old",
        "home/old/.config",
        "home/old/.config/app",
        "home/old/link/app",
        "home/older",
        "etc/app",
    ];
    let state = State { dirs: made.map(std::path::PathBuf::from).into(), ..State::default() };
    let layer = Layer { users: vec![user("old", &[])], ..Layer::default() };
    own_homes(&layer, &Accounts::parse(PASSWD, GROUP), &state, root.path(), &mut Notes::default());
    let owner = |name: &str| fs::metadata(path(name)).expect("there").uid();
    assert_eq!(["home/old", "home/old/.config", "home/old/.config/app"].map(owner), [1000; 3]);
    assert_eq!(["home/old/.mine", "home/older", "etc/app"].map(owner), [0; 3]);
}

#[test]
fn keys_of_a_removed_user_go() {
    let dir = tempfile::tempdir().expect("tempdir");
    let keys = dir.path().join("keys");
    let mut layer = Layer {
        root_authorized_keys: vec!["ssh-ed25519 AAAA root".to_owned()],
        users: vec![User { authorized_keys: vec!["k1".to_owned(), "k2\n".to_owned()], ..user("u", &[]) }],
        ..Layer::default()
    };
    let run = |layer: &Layer, dry_run| {
        let mut notes = Notes::default();
        authorize(layer, &keys, dry_run, &mut notes).expect("authorize");
        notes
            .changes
            .iter()
            .map(|change| format!("{} {}", change.how.name(), change.name))
            .collect::<Vec<_>>()
    };
    assert_eq!(run(&layer, true), ["added root", "added u"]);
    assert!(!keys.exists());
    run(&layer, false);
    assert_eq!(fs::read_to_string(keys.join("u")).expect("keys"), "k1\nk2\n");
    assert!(run(&layer, false).is_empty());
    layer.users.clear();
    assert_eq!(run(&layer, true), ["removed u"]);
    run(&layer, false);
    assert!(!keys.join("u").exists());
    assert_eq!(fs::read_to_string(keys.join("root")).expect("keys"), "ssh-ed25519 AAAA root\n");
}

#[test]
fn sudo_is_given_and_taken() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("civm");
    let mut layer = Layer { users: vec![User { sudo: true, ..user("u", &[]) }], ..Layer::default() };
    let run = |layer: &Layer, dry_run| {
        let mut notes = Notes::default();
        sudoers(layer, &path, dry_run, &mut notes).expect("sudoers");
        notes.changes.len()
    };
    assert_eq!(run(&layer, true), 1);
    assert!(!path.exists());
    assert_eq!(run(&layer, false), 1);
    assert_eq!(fs::read_to_string(&path).expect("file"), "u ALL=(ALL:ALL) NOPASSWD: ALL\n");
    layer.users[0].sudo = false;
    assert_eq!((run(&layer, false), run(&layer, false)), (1, 0));
    assert!(!path.exists());
}
