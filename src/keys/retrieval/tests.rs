//! Which parts are given, and what is said when they are not.

use std::sync::Arc;

use super::*;
use crate::edge::environment::Environment;
use crate::edge::terminal::{Nobody, Prompt};
use crate::keys::native::AgeIdentity;
use crate::keys::recipient::Recipient;

fn identities(keys: &[&AgeIdentity]) -> Identities {
    let texts: Vec<_> = keys.iter().map(|key| key.to_text().to_string()).collect();
    let environment =
        Environment::empty().with("HOME", "/no/such/home").with("SOPS_AGE_KEY", texts.join(" "));
    Identities::load(&environment, Arc::new(Nobody))
}

fn wrap(key: &AgeIdentity, part: &[u8]) -> String {
    let prompt: Arc<dyn Prompt> = Arc::new(Nobody);
    Recipient::parse(key.recipient()).expect("a recipient").wrap(part, &prompt).expect("wrapped")
}

#[test]
fn any_key_of_the_only_group_gives_the_data_key() {
    let (ours, theirs) = (AgeIdentity::generate(), AgeIdentity::generate());
    let (first, second) = (wrap(&theirs, b"data key"), wrap(&ours, b"data key"));
    let group = vec![
        MasterKey::Other { kind: "pgp", name: "85D7" },
        MasterKey::Age { recipient: theirs.recipient(), enc: &first },
        MasterKey::Age { recipient: ours.recipient(), enc: &second },
    ];
    let parts = parts(&[group], 0, &identities(&[&ours])).expect("opened");
    assert_eq!(parts.len(), 1);
    assert_eq!(&parts[0][..], b"data key");
}

#[test]
fn as_many_groups_as_the_threshold_must_open() {
    let keys: Vec<_> = (0..3).map(|_| AgeIdentity::generate()).collect();
    let encs: Vec<_> = keys.iter().zip(0u8..).map(|(key, share)| wrap(key, &[share])).collect();
    let groups: Vec<KeyGroup<'_>> = keys
        .iter()
        .zip(&encs)
        .map(|(key, enc)| vec![MasterKey::Age { recipient: key.recipient(), enc }])
        .collect();
    let two = identities(&[&keys[0], &keys[2]]);
    let given = parts(&groups, 2, &two).expect("two of three");
    assert_eq!(given.iter().map(|part| part[0]).collect::<Vec<_>>(), [0, 2]);
    for threshold in [0, 3] {
        let error = parts(&groups, threshold, &two).expect_err("two of three");
        assert_eq!(error.groups.iter().map(|group| group.opened).collect::<Vec<_>>(), [true, false, true]);
        let text = error.sops_text(false);
        assert!(text.contains("Group 0: SUCCESS\n\nGroup 1: FAILED\n"), "{text}");
        let unwrapped = text.replace('\n', " ");
        assert!(unwrapped.contains("Shamir threshold of 3, but only 2 part(s)"), "{text}");
    }
}

#[test]
fn the_advice_names_the_own_recipient_and_where_it_lies() {
    let (ours, theirs) = (AgeIdentity::generate(), AgeIdentity::generate());
    let enc = wrap(&theirs, b"data key");
    let group = vec![MasterKey::Age { recipient: theirs.recipient(), enc: &enc }];
    let error = parts(&[group], 0, &identities(&[&ours])).expect_err("not ours");
    let text = error.explanation();
    assert!(error.render(false).ends_with(&text));
    let advice = format!("Yours is {} ($SOPS_AGE_KEY): add it to .sops.yaml", ours.recipient());
    assert!(error.advice()[0].contains(&advice), "{:?}", error.advice());
    assert!(text.contains("$SOPS_AGE_KEY_FILE: not set"), "{text}");
    assert!(text.contains("/no/such/home/.ssh/id_ed25519: no such file"), "{text}");
    assert!(!text.contains("AGE-SECRET-KEY"), "{text}");
}

#[test]
fn a_post_quantum_recipient_is_whole_only_where_it_is_to_be_copied_from() {
    let (ours, theirs) = (AgeIdentity::generate_post_quantum(), AgeIdentity::generate());
    let enc = wrap(&theirs, b"data key");
    let group = vec![MasterKey::Age { recipient: theirs.recipient(), enc: &enc }];
    let error = parts(&[group], 0, &identities(&[&ours])).expect_err("not ours");
    assert!(error.explanation().contains(&format!("$SOPS_AGE_KEY: {}…\n", &ours.recipient()[..64])));
    assert!(error.advice()[0].contains(&format!("Yours is {} (", ours.recipient())));
}

#[test]
fn without_any_identity_the_advice_is_to_make_one() {
    let theirs = AgeIdentity::generate();
    let enc = wrap(&theirs, b"data key");
    let group = vec![MasterKey::Age { recipient: theirs.recipient(), enc: &enc }];
    let none = Identities::load(&Environment::empty(), Arc::new(Nobody));
    let error = parts(std::slice::from_ref(&group), 0, &none).expect_err("no identity");
    assert!(error.advice()[0].contains("civm keys init"), "{:?}", error.advice());
    assert_eq!(error.to_string(), "no identity can decrypt the file");
    // A variable that leads nowhere is a slip.
    let wrong = Environment::empty().with("SOPS_AGE_KEY_FILE", "/no/such/keys.txt");
    let error = parts(&[group], 0, &Identities::load(&wrong, Arc::new(Nobody))).expect_err("no identity");
    assert!(error.advice()[0].contains("/no/such/keys.txt ($SOPS_AGE_KEY_FILE)"), "{:?}", error.advice());
}

#[test]
fn an_entry_that_does_not_open_with_its_own_key_is_pointed_out() {
    let (ours, theirs) = (AgeIdentity::generate(), AgeIdentity::generate());
    let swapped = wrap(&theirs, b"data key");
    let group = vec![MasterKey::Age { recipient: ours.recipient(), enc: &swapped }];
    let error = parts(&[group], 0, &identities(&[&ours])).expect_err("swapped");
    assert!(error.advice()[0].contains("cannot be decrypted with its own key"), "{:?}", error.advice());
}

#[test]
fn a_file_without_keys_opens_nothing() {
    assert!(parts(&[], 0, &identities(&[])).is_err());
    assert!(parts(&[Vec::new()], 0, &identities(&[])).is_err());
}

#[test]
fn nobody_is_told_to_be_no_recipient_who_is_one() {
    let (ours, other, theirs) = (AgeIdentity::generate(), AgeIdentity::generate(), AgeIdentity::generate());
    let swapped = wrap(&theirs, b"data key");
    let group = vec![MasterKey::Age { recipient: ours.recipient(), enc: &swapped }];
    let error = parts(&[group], 0, &identities(&[&other, &ours])).expect_err("swapped");
    assert!(!error.advice().join("\n").contains("none of your identities"), "{:?}", error.advice());
}
