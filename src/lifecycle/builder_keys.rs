//! Secrets that log in to builders are looked at while the file of secrets is open. What ssh would not read is told now:
//! later, Nix says only that a connection ended.

use std::collections::BTreeMap;

use crate::host::spec::Spec;
use crate::keys::ssh::private::{self, PrivateKey, PrivateKeyError};
use crate::secrets::file::OpenFile;
use crate::sops::key_path::{KeyPath, Step};

/// What is wrong with the keys that a host's builders are reached with, a sentence each.
pub(super) fn doubts(spec: &Spec, file: &OpenFile) -> Vec<String> {
    let nix = spec.nix.as_ref();
    let fixed = nix.into_iter().flat_map(|nix| &nix.builders).map(|builder| (&builder.key, &builder.name));
    let deployed = nix.into_iter().flat_map(|nix| &nix.deployed).flat_map(|builder| {
        [&builder.on_key, &builder.key].into_iter().flatten().map(|key| (key, &builder.name))
    });
    let keys: BTreeMap<&String, &String> = fixed.chain(deployed).collect();
    let doubt = |(secret, builder): (&String, &String)| {
        let key = &spec.secrets.iter().find(|known| known.name == *secret)?.key;
        let path: Vec<Step> = key.split('/').map(|part| Step::Key(part.into())).collect();
        // That it is not there or not text, who installs it says.
        let text = file.extract(&KeyPath::from(path)).ok()?;
        wrong(&text)
            .map(|reason| format!("the secret `{secret}`, which logs in to builder `{builder}`, {reason}"))
    };
    keys.into_iter().filter_map(doubt).collect()
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
    use super::wrong;

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
