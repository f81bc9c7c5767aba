//! Secrets that log in to builders are looked at while the file of secrets is open. What ssh would not read is told now:
//! later, Nix says only that a connection ended.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::host::spec::{Secret, Spec};
use crate::keys::ssh::private::{self, PrivateKey, PrivateKeyError};
use crate::lifecycle::Site;
use crate::secrets;
use crate::secrets::file::{OpenFile, SopsFile};
use crate::sops::document::MacCheck;
use crate::sops::key_path::{KeyPath, Step};

/// What is wrong with the keys that a host's builders are reached with, a sentence each. `file` is the host's own.
pub(super) fn doubts(site: &Site, spec: &Spec, file: &OpenFile) -> Vec<String> {
    let nix = spec.nix.as_ref();
    let fixed = nix.into_iter().flat_map(|nix| &nix.builders).map(|builder| (&builder.key, &builder.name));
    let deployed = nix.into_iter().flat_map(|nix| &nix.deployed).flat_map(|builder| {
        [&builder.on_key, &builder.key].into_iter().flatten().map(|key| (key, &builder.name))
    });
    let keys: BTreeMap<&String, &String> = fixed.chain(deployed).collect();
    let doubt = |(secret, builder): (&String, &String)| {
        let known = spec.secrets.iter().find(|known| known.name == *secret)?;
        let found = match &known.file {
            None => value(file, &known.key),
            Some(other) => in_other_file(site, spec, known, other),
        };
        // That it is not there or not text, who installs it says.
        let text = found.ok()?;
        wrong(&text)
            .map(|reason| format!("the secret `{secret}`, which logs in to builder `{builder}`, {reason}"))
    };
    keys.into_iter().filter_map(doubt).collect()
}

/// The value of a key with `/` between levels; without a key, the whole file.
pub(super) fn value(file: &OpenFile, key: &str) -> Result<Zeroizing<Vec<u8>>, secrets::Error> {
    if key.is_empty() {
        return file.plaintext();
    }
    let path: Vec<Step> = key.split('/').map(|part| Step::Key(part.into())).collect();
    file.extract(&KeyPath::from(path))
}

/// The value of a secret that is in another file of the project than the host's own.
pub(super) fn in_other_file(
    site: &Site,
    spec: &Spec,
    secret: &Secret,
    file: &str,
) -> Result<Zeroizing<Vec<u8>>, secrets::Error> {
    let session = site.session().with_format(secret.format);
    let text = spec.sops_files.get(file).map_or(&[][..], Vec::as_slice);
    let file = SopsFile::parse(&session, &site.project.root().join(file), text)?;
    value(&file.open_to_read(session.identities(), MacCheck::Verify)?, &secret.key)
}

/// Why ssh would not use a key; nothing of the key is in it.
fn wrong(text: &[u8]) -> Option<String> {
    match private::parse(text) {
        // Other kinds of keys are ssh's own affair.
        Err(PrivateKeyError::Unsupported(_)) => None,
        Err(error) => Some(format!("cannot be used by ssh: {error}")),
        Ok(found) if matches!(found.key, PrivateKey::Locked(_)) => {
            Some("is protected by a passphrase, and there is nobody to type it".to_owned())
        }
        Ok(_) if !text.ends_with(b"\n") => Some(
            "has no newline at its end, and ssh does not read it so: write it as `|` and not as `|-` in the editor of \
             `civm secrets edit`"
                .to_owned(),
        ),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::edge::environment::Environment;
    use crate::edge::terminal::Nobody;
    use crate::host::Project;

    #[test]
    fn keys_in_other_files_of_the_project_are_found_there() {
        let dir = tempfile::tempdir().expect("a project");
        let common = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/install-secrets/common");
        for name in ["c", "b"] {
            fs::create_dir_all(dir.path().join("hosts").join(name)).expect("a folder");
        }
        for (from, to) in
            [("gen-c.yaml", "hosts/c/secrets.yaml"), ("basic.yaml", "shared.yaml"), ("text.bin", "whole")]
        {
            fs::copy(common.join(from), dir.path().join(to)).expect("a copy");
        }
        let host = "secrets:\n  own: {key: alpha}\n  other: {file: shared.yaml, key: alpha}\n  \
            whole: {file: whole, format: binary}\nnix:\n  builders:\n    \
            one: {deploy: b, on: u@h, on_public_key: KEY, on_key: other, key: own}\n    \
            two: {deploy: b, on: u@h, on_public_key: KEY, on_key: whole, key: own}\n";
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJKgz+PLpbRnMpiPUnFsbLXwSc/ypyGKJ1Bt3mXDsFPq";
        fs::write(dir.path().join("hosts/c/host.yaml"), host.replace("KEY", key)).expect("a file");
        fs::write(dir.path().join("hosts/b/host.yaml"), "users: {vm: {}}\nnix: {trusted_users: [vm]}\n")
            .expect("a file");
        let environment = Environment::empty()
            .with("XDG_STATE_HOME", dir.path().join("state"))
            .with("SOPS_AGE_KEY_FILE", common.join("age-1.key"));
        let site = Site::of(Project::at(dir.path()).expect("a project"), &environment, Arc::new(Nobody))
            .expect("a site");
        let packed = crate::lifecycle::builders(&site, &[], None, true).expect("builders").packings;
        let keys: Vec<_> = packed
            .iter()
            .map(|one| {
                let text = |key: &Option<Zeroizing<Vec<u8>>>| {
                    String::from_utf8(key.as_ref().expect("a key").to_vec()).expect("text")
                };
                [one.packed.parcel.builder.name.clone(), text(&one.on_key), text(&one.key)]
            })
            .collect();
        let wanted =
            [["one", "alpha value", "one changed"], ["two", "just some text\nsecond line\n", "one changed"]];
        assert_eq!(keys, wanted);
        // Each is looked at where it is, and none of them is a key.
        let spec = site.spec("c").expect("a host");
        let path = site.project.secrets_file("c");
        let session = site.session();
        let own = SopsFile::parse(&session, &path, &fs::read(&path).expect("a file")).expect("a sops file");
        let own = own.open(session.identities(), MacCheck::Verify).expect("opened");
        let doubts = doubts(&site, &spec, &own);
        assert_eq!(doubts.len(), 3, "{doubts:?}");
        for (doubt, secret) in doubts.iter().zip(["other", "own", "whole"]) {
            assert!(doubt.starts_with(&format!("the secret `{secret}`, ")), "{doubt}");
        }
    }

    #[test]
    fn keys_that_ssh_would_not_read_are_told() {
        use ssh_key::{Algorithm, LineEnding, PrivateKey};
        let key = PrivateKey::random(&mut rand::rngs::OsRng, Algorithm::Ed25519).expect("a key");
        let text = key.to_openssh(LineEnding::LF).expect("its text").to_string();
        assert!(text.ends_with('\n'));
        assert_eq!(wrong(text.as_bytes()), None);
        let said = wrong(text.trim_end().as_bytes()).expect("no newline");
        assert!(said.starts_with("has no newline at its end"), "{said}");
        let locked = key.encrypt(&mut rand::rngs::OsRng, "x").expect("locked");
        let locked = locked.to_openssh(LineEnding::LF).expect("its text");
        assert!(wrong(locked.as_bytes()).expect("locked").contains("passphrase"));
        let public = key.public_key().to_openssh().expect("a line");
        for text in ["", "a new value", &public, &text[..text.len() / 2]] {
            let said = wrong(text.as_bytes()).expect("not a key");
            assert!(said.starts_with("cannot be used by ssh: "), "{said}");
            assert!(text.is_empty() || !said.contains(text), "nothing of it is repeated");
        }
    }
}
