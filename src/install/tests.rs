use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::manifest::{Logging, Secret, Template};
use super::opener::Cause;
use super::{Accounts, Changes, Difference, Error, Imported, Log, Manifest, Opener, Options, Report, run};
use crate::sops::tree::{Branch, Item, Tree, Value};
use crate::store::Format;

/// The text of the only ssh key that opens anything.
const KEY: &str = "the private key";

/// Files of `name=value` lines, where a name with `/` is a nested one. A file that begins with `locked` opens for nobody.
#[derive(Default)]
struct Fake {
    decrypted: Cell<usize>,
}

impl Opener for Fake {
    type Identity = String;
    type Keys = Vec<String>;
    type File = (String, Tree);

    fn ssh_key(&self, text: &[u8]) -> Result<Imported<String>, Cause> {
        if text != KEY.as_bytes() {
            return Err("not an ed25519 key".into());
        }
        Ok(Imported { identity: KEY.into(), recipient: "age1public".into() })
    }

    fn age_keys(&self, text: &[u8]) -> (Vec<String>, Vec<String>) {
        (vec![String::from_utf8_lossy(text).into_owned()], Vec::new())
    }

    fn keys(&self, named: Vec<String>) -> Vec<String> {
        named
    }

    fn read(&self, _: &Path, text: &[u8], _: Format) -> Result<(String, Tree), Cause> {
        let token = |value: &str| match value.parse::<i64>() {
            Ok(_) => Value::str("ENC[AES256_GCM,data:x,iv:x,tag:x,type:int]"),
            Err(_) => Value::str("ENC[AES256_GCM,data:x,iv:x,tag:x,type:str]"),
        };
        let text = String::from_utf8(text.to_vec())?;
        let tree = parse(&text, &token);
        Ok((text, tree))
    }

    fn tree<'a>(&self, file: &'a (String, Tree)) -> &'a Tree {
        &file.1
    }

    fn decrypt(&self, (text, _): (String, Tree), keys: &Vec<String>) -> Result<Tree, Cause> {
        self.decrypted.set(self.decrypted.get() + 1);
        if text.starts_with("locked") || !keys.iter().any(|identity| identity == KEY) {
            return Err("no identity matched a recipient".into());
        }
        Ok(parse(&text, &|value| Value::str(value)))
    }

    fn emit(&self, tree: &Tree, _: Format) -> Result<Zeroizing<Vec<u8>>, Cause> {
        Ok(Zeroizing::new(format!("{} entries", tree.documents[0].len()).into_bytes()))
    }
}

fn parse(text: &str, leaf: &dyn Fn(&str) -> Value) -> Tree {
    let mut branch = Branch::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match name.split_once('/') {
            Some((directory, name)) => {
                branch.push(Item::entry(directory, Value::Map(vec![Item::entry(name, leaf(value))])));
            }
            None => branch.push(Item::entry(name, leaf(value))),
        }
    }
    Tree { documents: vec![branch] }
}

/// A directory with a key and an encrypted file, and the manifest of an installation below it.
struct Place {
    dir: TempDir,
    manifest: Manifest,
}

impl Place {
    fn new(names: &[&str]) -> Self {
        let dir = TempDir::new().expect("a directory");
        let at = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
        fs::write(at("key"), KEY).expect("a key");
        fs::write(at("file"), "a=value of a\nb=value of b\nc/d=value of d\nn=12\n").expect("a file");
        let secret = |name: &&str| Secret {
            name: (*name).into(),
            key: (*name).into(),
            path: format!("{}/{name}", at("secrets")),
            sops_file: at("file"),
            mode: "0400".into(),
            ..Secret::default()
        };
        let manifest = Manifest {
            secrets: names.iter().map(secret).collect(),
            secrets_mount_point: at("secrets.d"),
            symlink_path: at("secrets"),
            keep_generations: 1,
            age_ssh_key_paths: vec![at("key").into()],
            user_mode: true,
            logging: Logging { key_import: true, secret_changes: true },
            ..Manifest::default()
        };
        Self { dir, manifest }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self) -> Result<(Report, String), Error> {
        self.run_with(&Options::default())
    }

    fn run_with(&self, options: &Options) -> Result<(Report, String), Error> {
        let accounts = Accounts::parse("root:x:0:0::/:/bin/sh\n", "keys:x:96:\n");
        let options = Options { accounts, ..options.clone() };
        let (mut log, mut changes) = (Vec::new(), Vec::new());
        let mut to = Log { program: "civm", changes: &mut changes, messages: &mut log };
        let report = run(&self.manifest, &options, &Fake::default(), &mut to)?;
        Ok((report, String::from_utf8(log).expect("text")))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path("secrets").join(name)).expect("a secret")
    }
}

#[test]
fn secrets_are_found_through_the_link() {
    let place = Place::new(&["a", "c/d"]);
    let (report, log) = place.run().expect("installed");
    assert_eq!(place.read("a"), "value of a");
    assert_eq!(place.read("c/d"), "value of d");
    assert_eq!(
        report,
        Report {
            generation: Some(1),
            difference: Difference {
                first: true,
                secrets: Changes { added: vec!["a".into(), "c/d".into()], ..Changes::default() },
                ..Difference::default()
            },
            installed: vec!["a".into(), "c/d".into()],
            rendered: Vec::new(),
            recipients: vec!["age1public".into()],
            left_out: Vec::new(),
        }
    );
    let key = place.path("key");
    assert_eq!(log, format!("civm: Imported {} as age key with fingerprint age1public\n", key.display()));
}

#[test]
fn a_file_is_decrypted_once() {
    let mut place = Place::new(&["a", "b", "c/d"]);
    place.manifest.secrets.push(Secret {
        name: "whole".into(),
        key: String::new(),
        ..place.manifest.secrets[0].clone()
    });
    place.manifest.secrets[3].path = place.path("secrets/whole").to_str().expect("text").into();
    let fake = Fake::default();
    let accounts = Accounts::parse("", "keys:x:96:\n");
    let (mut messages, mut changes) = (Vec::new(), Vec::new());
    let mut log = Log { program: "civm", changes: &mut changes, messages: &mut messages };
    run(&place.manifest, &Options { accounts, ..Options::default() }, &fake, &mut log).expect("installed");
    assert_eq!(fake.decrypted.get(), 1);
    assert_eq!(place.read("whole"), "4 entries");
}

#[test]
fn a_generation_that_would_not_differ_is_not_made_where_nobody_wants_it() {
    let mut place = Place::new(&["a", "c/d"]);
    let again = |place: &Place| {
        let options = Options { keep_alike: true, ..Options::default() };
        place.run_with(&options).expect("installed").0.generation
    };
    assert_eq!(again(&place), Some(1));
    assert_eq!(again(&place), None);
    assert_eq!(
        (place.read("a"), fs::read_link(place.path("secrets")).ok()),
        ("value of a".into(), Some(place.path("secrets.d/1")))
    );
    // A link from elsewhere is made all the same.
    let link = place.path("link");
    place.manifest.secrets[0].path = link.to_str().expect("text").into();
    assert_eq!(again(&place), None);
    assert_eq!(fs::read_to_string(&link).expect("a secret"), "value of a");
    place.manifest.secrets[1].mode = "0440".into();
    assert_eq!(again(&place), Some(2));
    place.manifest.secrets.pop();
    assert_eq!(again(&place), Some(3));
    fs::remove_dir_all(place.path("secrets.d/3")).expect("removed");
    assert_eq!(again(&place), Some(4), "the link leads nowhere");
    assert_eq!(place.run().expect("installed").0.generation, Some(5), "as sops-nix does it");
}

#[test]
fn a_rendered_template_makes_a_generation_only_where_it_differs() {
    let mut place = Place::new(&["a", "b"]);
    place.manifest.placeholder_by_secret_name =
        ["a", "b"].map(|name| (name.to_owned(), format!("<{name}>"))).into();
    place.manifest.templates.push(Template {
        name: "t".into(),
        content: "b is <b>\n".into(),
        path: place.path("secrets/rendered/t").to_str().expect("text").into(),
        mode: "0400".into(),
        ..Template::default()
    });
    let again = |place: &Place| {
        let options = Options { keep_alike: true, ..Options::default() };
        let report = place.run_with(&options).expect("installed").0;
        (report.generation, report.difference.templates)
    };
    let added = Changes { added: vec!["t".into()], ..Changes::default() };
    assert_eq!(again(&place), (Some(1), added));
    assert_eq!(again(&place), (None, Changes::default()));
    place.manifest.templates[0].content = "b: <b>\n".into();
    let modified = Changes { modified: vec!["t".into()], ..Changes::default() };
    assert_eq!(again(&place), (Some(2), modified));
    assert_eq!(place.read("rendered/t"), "b: value of b\n");
    place.manifest.templates[0].mode = "0440".into();
    let reassigned = Changes { reassigned: vec!["t".into()], ..Changes::default() };
    assert_eq!(again(&place), (Some(3), reassigned));
    // A copy of identities that sops-nix left goes all the same.
    let copy = place.path("secrets.d/age-keys.txt");
    fs::write(&copy, "# generated by sops-nix\n").expect("a file");
    assert_eq!(again(&place), (None, Changes::default()));
    assert!(!copy.exists());
    place.manifest.templates.clear();
    let removed = Changes { removed: vec!["t".into()], ..Changes::default() };
    assert_eq!(again(&place), (Some(4), removed));
}

#[test]
fn what_lies_elsewhere_is_no_generation_even_if_it_is_alike() {
    let place = Place::new(&["a"]);
    place.run().expect("installed");
    fs::rename(place.path("secrets.d/1"), place.path("elsewhere")).expect("moved");
    fs::remove_file(place.path("secrets")).expect("removed");
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("secrets")).expect("a link");
    let (report, _) = place.run_with(&Options { keep_alike: true, ..Options::default() }).expect("installed");
    assert_eq!((report.generation, report.difference), (Some(1), Difference::default()));
    assert_eq!(fs::read_link(place.path("secrets")).ok(), Some(place.path("secrets.d/1")));
}

#[test]
fn no_identity_is_written_anywhere() {
    let place = Place::new(&["a"]);
    place.run().expect("installed");
    for entry in walkdir::WalkDir::new(place.dir.path()).into_iter().flatten() {
        if entry.file_type().is_file() && entry.file_name() != "key" {
            let text = fs::read_to_string(entry.path()).expect("text");
            assert!(!text.contains(KEY), "{}", entry.path().display());
        }
    }
}

#[test]
fn a_file_that_does_not_open_leaves_the_old_secrets_in_place() {
    let mut place = Place::new(&["a"]);
    place.run().expect("installed");
    let locked = place.path("locked");
    fs::write(&locked, "locked\na=other\n").expect("a file");
    let mut second = place.manifest.secrets[0].clone();
    second.name = "second".into();
    second.path = place.path("secrets/second").to_str().expect("text").into();
    second.sops_file = locked.to_str().expect("text").into();
    place.manifest.secrets.push(second);
    fs::write(place.path("file"), "a=new value\n").expect("a file");
    assert!(matches!(place.run(), Err(Error::Decrypt { path, .. }) if path == locked));
    assert_eq!(place.read("a"), "value of a");
    assert!(!place.path("secrets/second").exists());
    assert!(!place.path("secrets.d/2").exists());
}

#[test]
fn a_new_generation_takes_the_place_of_the_old_one() {
    let place = Place::new(&["a"]);
    for (generation, value) in [(1, "one"), (2, "two"), (3, "three")] {
        fs::write(place.path("file"), format!("a={value}\n")).expect("a file");
        assert_eq!(place.run().expect("installed").0.generation, Some(generation));
        assert_eq!(place.read("a"), value);
        assert_eq!(fs::read_dir(place.path("secrets.d")).expect("a directory").count(), 1);
    }
}

#[test]
fn a_dry_run_tells_the_difference_and_writes_nothing() {
    let mut place = Place::new(&["a", "b"]);
    let (report, _) = place.run_with(&Options { dry_run: true, ..Options::default() }).expect("a dry run");
    assert_eq!((report.generation, report.difference.secrets.added.len()), (None, 2));
    assert!(!place.path("secrets.d").exists() && !place.path("secrets").exists());
    place.run().expect("installed");
    place.manifest.secrets.pop();
    fs::write(place.path("file"), "a=new value\n").expect("a file");
    let (report, _) = place.run_with(&Options { dry_run: true, ..Options::default() }).expect("a dry run");
    let wanted = Changes { modified: vec!["a".into()], removed: vec!["b".into()], ..Changes::default() };
    assert_eq!(report.difference.secrets, wanted);
    assert_eq!((place.read("a"), place.read("b")), ("value of a".into(), "value of b".into()));
    assert_eq!(place.run().expect("installed").0.difference.secrets, wanted);
}

#[test]
fn a_link_outside_holds_over_generations() {
    let mut place = Place::new(&["a"]);
    let outside = place.path("etc/app/a");
    place.manifest.secrets[0].path = outside.to_str().expect("text").into();
    place.run().expect("installed");
    assert_eq!(fs::read_link(&outside).expect("a link"), place.path("secrets/a"));
    fs::write(place.path("file"), "a=new value\n").expect("a file");
    place.run().expect("installed");
    assert_eq!(fs::read_to_string(&outside).expect("a secret"), "new value");
}

#[test]
fn a_link_never_replaces_another_secret() {
    let mut place = Place::new(&["a", "b"]);
    place.manifest.secrets[0].path = place.path("secrets/b").to_str().expect("text").into();
    let error = place.run().expect_err("refused");
    assert!(matches!(error, Error::Taken { .. }), "{error}");
    assert!(!place.path("secrets").exists());
}

#[test]
fn a_number_is_refused_by_its_type_before_any_key_is_needed() {
    let mut place = Place::new(&["n"]);
    place.manifest.age_ssh_key_paths.clear();
    let error = place.run().expect_err("refused").to_string();
    assert!(error.ends_with("the value of key 'n' is not a string but an integer"), "{error}");
    assert!(!place.path("secrets.d").exists());
}

#[test]
fn of_a_json_key_that_is_there_twice_the_last_counts() {
    let mut place = Place::new(&["a", "c/d"]);
    fs::write(place.path("file"), "a=first\nc/d=first\na=last\nc/d=last\n").expect("a file");
    for secret in &mut place.manifest.secrets {
        secret.format = "json".into();
    }
    place.run().expect("installed");
    assert_eq!((place.read("a"), place.read("c/d")), ("last".into(), "last".into()));
}

#[test]
fn a_key_that_cannot_be_used_is_a_line_in_the_log() {
    let mut place = Place::new(&["a"]);
    fs::write(place.path("rsa"), "another private key").expect("a key");
    place.manifest.age_ssh_key_paths.insert(0, place.path("rsa"));
    place.manifest.age_ssh_key_paths.insert(0, place.path("none"));
    place.manifest.logging.key_import = false;
    let (_, log) = place.run().expect("installed");
    let lines: Vec<&str> = log.lines().collect();
    let [first, second] = lines[..] else { panic!("{log}") };
    assert!(first.starts_with("civm: cannot read ssh key '") && first.contains("/none'"), "{first}");
    assert!(second.ends_with("/rsa': not an ed25519 key"), "{second}");
}

#[test]
fn no_message_holds_a_key_or_a_value() {
    let mut place = Place::new(&["a", "b"]);
    place.manifest.secrets[1].key = "a/deeper".into();
    let missing = place.run().expect_err("refused");
    fs::write(place.path("key"), "wrong private key").expect("a key");
    place.manifest.secrets.pop();
    let locked = place.run().expect_err("refused");
    for text in [missing.to_string(), format!("{missing:?}"), locked.to_string(), format!("{locked:?}")] {
        assert!(!text.contains("value of") && !text.contains("private key"), "{text}");
    }
}

#[test]
fn a_manifest_is_read_as_go_reads_it() {
    let text = r#"{"SECRETS": [{"Name": "a", "sopsfile": "/f", "uid": null, "unknown": {"x": []}}],
                   "userMode": false, "USERMODE": true, "logging": null} trailing"#;
    let manifest = Manifest::parse(text.as_bytes()).expect("a manifest");
    assert_eq!((manifest.secrets[0].name.as_str(), manifest.secrets[0].sops_file.as_str()), ("a", "/f"));
    assert!(manifest.user_mode && !manifest.logging.key_import);
    assert_eq!(Manifest::parse(b"null").expect("zero"), Manifest::default());
    for wrong in ["", " ", "[]", "{", "{\"secrets\": {}}", "{\"secrets\": [{\"uid\": 1.5}]}", "\u{feff}{}"] {
        assert!(Manifest::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}
