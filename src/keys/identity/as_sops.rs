//! What sops would find in the places: the facts in its error tree.

/// The characters of the text of a key.
const ALPHABET: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// What sops finds in one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// How many identities it would load.
    pub(super) identities: usize,
    /// True if it is one of the texts that sops reads after it has looked for all of them.
    pub(super) is_text: bool,
    /// The error that it would report.
    pub(super) error: Option<String>,
    /// The name under which it would list the place as having no keys.
    pub(super) unused: Option<String>,
    /// Whether it would mention the place only if it had found nothing before.
    pub(super) only_if_alone: bool,
}

/// What sops finds in all places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::keys) struct AsSops {
    /// How many identities it would load.
    pub(in crate::keys) identities: usize,
    /// The plugin of one of them.
    pub(in crate::keys) plugin: Option<String>,
    /// The errors that it would report, in its order.
    errors: Vec<String>,
    /// The places that it would list as having no keys, in its order.
    unused: Vec<String>,
}

impl AsSops {
    pub(super) fn of<'a>(readings: impl Iterator<Item = &'a Reading>) -> Self {
        let mut whole = Self::default();
        let mut empty_texts = Vec::new();
        let mut alone = true;
        for reading in readings {
            whole.identities += reading.identities;
            if alone || !reading.only_if_alone {
                whole.errors.extend(reading.error.clone());
                let list = if reading.is_text { &mut empty_texts } else { &mut whole.unused };
                list.extend(reading.unused.clone());
            }
            alone &= reading.identities == 0 && !reading.is_text;
        }
        whole.unused.append(&mut empty_texts);
        whole
    }

    /// A message with what sops adds to it.
    pub(in crate::keys) fn message(&self, message: &str) -> String {
        let mut text = message.to_owned();
        if !self.errors.is_empty() {
            text += ". Errors while loading age identities: ";
            text += &self.errors.join("; ");
        }
        match self.unused.as_slice() {
            [] => {}
            [one] => text += &format!(". Did not find keys in location '{one}'."),
            [one, two] => text += &format!(". Did not find keys in locations '{one}' and '{two}'."),
            [most @ .., last] => {
                let most = most.join("', '");
                text += &format!(". Did not find keys in locations '{most}', and '{last}'.");
            }
        }
        text
    }
}

/// age's message for a damaged key.
pub(super) fn fault(text: &str) -> String {
    let lower = text.to_lowercase();
    if lower != text && text.to_uppercase() != text {
        return "mixed case".into();
    }
    let separator = text.rfind('1');
    let Some(separator) = separator.filter(|at| (1..=text.len().saturating_sub(7)).contains(at)) else {
        let at = separator.map_or("-1".to_owned(), |at| at.to_string());
        return format!("separator '1' at invalid position: pos={at}, len={}", text.len());
    };
    // A character that occurs in no key, so that none can be told by it.
    let wrong = lower[separator + 1..].char_indices().find(|(_, character)| !ALPHABET.contains(*character));
    match wrong {
        Some((at, character)) => format!("invalid character data part: s[{at}]={}", u32::from(character)),
        None => "invalid checksum".into(),
    }
}

/// A system error in Go's words: lower case, without a number.
pub(super) fn system_error(error: &std::io::Error) -> String {
    let Some(number) = error.raw_os_error() else { return error.to_string() };
    let words = nix::errno::Errno::from_raw(number).desc();
    let mut characters = words.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unused(name: &str) -> Reading {
        Reading { unused: Some(name.into()), ..Reading::default() }
    }

    #[test]
    fn places_are_listed_as_english_lists_them() {
        let of = |names: &[&str]| {
            let readings: Vec<_> = names.iter().map(|name| unused(name)).collect();
            AsSops::of(readings.iter()).message("no")
        };
        assert_eq!(of(&[]), "no");
        assert_eq!(of(&["a"]), "no. Did not find keys in location 'a'.");
        assert_eq!(of(&["a", "b"]), "no. Did not find keys in locations 'a' and 'b'.");
        assert_eq!(of(&["a", "b", "c"]), "no. Did not find keys in locations 'a', 'b', and 'c'.");
    }

    #[test]
    fn empty_texts_come_last_and_hide_what_counts_only_alone() {
        let text = Reading { is_text: true, ..unused("SOPS_AGE_KEY") };
        let file = Reading { only_if_alone: true, ..unused("keys.txt") };
        let whole = AsSops::of([&text, &unused("SOPS_AGE_KEY_FILE"), &file].into_iter());
        assert_eq!(whole.unused, ["SOPS_AGE_KEY_FILE", "SOPS_AGE_KEY"]);
        assert_eq!(AsSops::of([&file].into_iter()).unused, ["keys.txt"]);
    }

    #[test]
    fn system_errors_are_in_gos_words() {
        let error = std::fs::read("/no/such/file").expect_err("none");
        assert_eq!(system_error(&error), "no such file or directory");
    }
}
