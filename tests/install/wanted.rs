//! What each recorded case asks of civm.

use serde_json::Value;

/// The steps of a case. Where the recorded program has several outcomes, the one that replaces nothing in a value.
pub(crate) fn steps(case: &Value) -> Vec<Value> {
    let steps = case["steps"].as_array();
    let outcomes = case["random"].as_array().into_iter().flatten().filter_map(Value::as_array);
    let right = outcomes.into_iter().find(|steps| {
        let entries = steps.iter().flat_map(|step| step["tree"].as_array().into_iter().flatten());
        entries.into_iter().any(|entry| {
            entry["path"] == "/run/secrets.d/1/rendered/t"
                && entry["content"] == "[has <SOPS:b:PLACEHOLDER> inside]"
        })
    });
    steps.or(right).expect("steps").clone()
}

/// No usable key: the message tells the recipients, and what was wrong with what was tried.
const LOCKED: [&str; 2] = ["key-file-useless", "ssh-key-none-usable"];
/// A key with blanks in front counts, the identity of an ssh key opens `ssh-ed25519` recipients as well, PKCS#8
/// keys are converted, and no copy of keys stays.
const OPENED: [&str; 5] = [
    "key-file-indented",
    "ssh-key-native-recipient",
    "ssh-keys-mixed",
    "key-copy-existing",
    "key-copy-left-over",
];

/// What a case asks for.
pub(crate) enum Wanted {
    /// The recorded answer.
    Recorded,
    /// The recorded result, and these words on stderr in place of the recorded output.
    OtherWords(&'static str),
    /// The recorded output and lists of units. The recorded program mounts and leaves a generation; civm writes no secret.
    DryRun,
    /// A failure before anything is written or mounted that says this, and no line of a file of secrets.
    Refused(&'static str),
    /// A failure that says this, without a link.
    NoLink(&'static str),
    /// A failure that tells the recipients of the file and what was looked at.
    Locked,
    /// A failure while the link still leads to the old generation, if there was any.
    NotSwitched,
    /// Every secret and template has the mode that was asked for, whatever the umask, and every folder 0751.
    Modes,
    /// Success without a word, and nothing is written.
    Clean,
    /// Success, with a secret of this content.
    Holds(&'static str, &'static str),
    /// Success, with an entry that begins like this.
    Installed(&'static str, &'static str),
    /// Both orders to systemctl failed and are told of; the new secrets are in place.
    UnitsFailed,
}

/// The cases whose recorded answer is a weakness say so; what civm does is listed here, with the words of its message.
pub(crate) fn wanted(case: &Value, name: &str, number: usize) -> Wanted {
    let step = &steps(case)[number];
    let dry = step["env"]["NIXOS_ACTION"] == "dry-activate";
    let checks = step["args"].as_array().is_some_and(|args| args.len() > 1);
    match (case["civm"].as_str(), name) {
        (Some("same"), _) if dry && !checks || name == "user-mode-dry" => Wanted::DryRun,
        // The recorded program lets the umask take bits away; `modes-umask` asks for the mode that was given.
        (_, "modes" | "modes-umask" | "modes-umask-022") => Wanted::Modes,
        // Fail in both programs, in the recorded one after the mount.
        (_, "name-empty") => Wanted::Refused("has no name"),
        (_, "bad-duplicate-key") => Wanted::Refused("bad-duplicate-key.yaml"),
        (_, "bad-no-recipients") => Wanted::Refused("bad-no-recipients.yaml"),
        (Some("same"), _) => Wanted::Recorded,
        (_, "args-check-mode") => {
            Wanted::Refused(["-check-mode flag: 'frob'", "-check-mode flag: ''"][number])
        }
        (_, "args-positionals") => Wanted::Refused("exactly one manifest is needed"),
        (_, "format-unknown") => Wanted::Refused("unknown format"),
        (_, "keep-generations-minus-1") => Wanted::Refused("keepGenerations is -1"),
        (_, "manifest-without-content") => Wanted::Refused("is missing"),
        (_, "name-dot-dot" | "template-name-dot-dot") => Wanted::Refused("leads out of its directory"),
        (_, "name-file-and-folder") => Wanted::Refused("needs a directory where"),
        (_, "name-rendered") => Wanted::Refused("rendered"),
        (_, "name-twice") => Wanted::Refused("have one name"),
        (_, "owner-negative-id") => Wanted::Refused("number -1"),
        (_, "path-is-the-link") => Wanted::Refused("is the link to all secrets"),
        (_, "path-relative") => Wanted::Refused("a path that is not absolute"),
        (_, "path-twice") => Wanted::Refused("is the path of two"),
        (_, "template-placeholder-empty") => Wanted::Refused("the placeholder of secret alpha is empty"),
        (_, "template-placeholder-shared") => Wanted::Refused("have the same placeholder"),
        (_, "user-mode-empty-runtime-dir") => Wanted::Refused("XDG_RUNTIME_DIR"),
        (_, "yaml-int-map-key") => Wanted::Refused("a key that is not a string"),
        (_, "yaml-metadata-key") => Wanted::Refused("the key 'sops"),
        // A file without metadata.
        (_, "empty-file-whole") => Wanted::Refused("the file is empty"),
        (_, "plain-files") => Wanted::Refused("metadata"),
        (_, "broken-dotenv") => Wanted::Refused("as dotenv: line 2"),
        // A name that sops writes and reads, and a key that is looked up as in YAML.
        (_, "dotenv-odd-name" | "json-nested") if checks => Wanted::Clean,
        (_, "dotenv-odd-name") => Wanted::Holds("/run/secrets.d/1/env", "WITH-DASH=value\n"),
        (_, "json-nested") => Wanted::Holds("/run/secrets.d/1/pw", "hunter2"),
        (_, "shamir-too-few") => {
            Wanted::NoLink("only 1 of the 2 key groups that are needed could be decrypted")
        }
        // A public key, or an ssh key, in the place of an identity.
        (_, "key-file-is-something-else") => {
            Wanted::NoLink(["a recipient (a public key)", "contains an ssh private key"][number])
        }
        (_, "no-keys") => Wanted::NoLink("the manifest names no age key"),
        // Null, lists and mappings; and numbers, whose type the ENC token tells.
        (_, "scalars-early" | "scalars-late") => Wanted::Refused("is not a string but"),
        (_, "path-existing-full-dir" | "path-parent-is-file") => Wanted::NotSwitched,
        (_, "link-prefix-only") => Wanted::Installed("/run/secrets", "link 0:0 /run/secrets.d/1"),
        (_, "owner-number-text") => Wanted::Installed("/run/secrets.d/1/alpha", "file 0400 4001:0"),
        (_, "systemctl-fails") if number == 0 => Wanted::Recorded,
        (_, "systemctl-fails") => Wanted::UnitsFailed,
        (_, "template-inject") => Wanted::Recorded,
        (_, name) if LOCKED.contains(&name) => Wanted::Locked,
        (_, name) if OPENED.contains(&name) => Wanted::Installed("/run/secrets", "link 0:0 /run/secrets.d/"),
        // Only the log differs: the RSA keys are ignored.
        (_, "pgp-ssh-keys-rsa" | "pgp-ssh-keys-mixed") => Wanted::OtherWords("ignoring sshKeyPaths"),
        (_, "manifest-as-nix-writes-it") if checks => Wanted::Recorded,
        (_, "manifest-as-nix-writes-it") => Wanted::OtherWords("ignoring sshKeyPaths"),
        (other, _) => panic!("{name} is {other:?}"),
    }
}
