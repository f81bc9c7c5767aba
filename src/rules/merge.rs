//! Merging two versions of a `.sops.yaml`: line by line and, where both sides changed the same lines, by the keys that
//! each has added and removed. Everything other than keys is taken unchanged from one of the sides.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::edit::{NewKey, add_key, remove_key};
use super::file::first_document;
use super::{Config, Rule, names};
use crate::sops::merge::{conflicted, pieces};

/// Merges the changes of two sides to a base. `None` if that needs a human decision: the caller then
/// shows the conflict.
///
/// The result is parsed again: it has the names and recipients that either side has added, none that either side has
/// removed, and whatever else the sides agree on.
#[must_use]
pub fn merge(base: &str, ours: &str, theirs: &str) -> Option<String> {
    let whole = |text: &&str| text.ends_with('\n') && first_document(text) == text.len();
    if ![base, ours, theirs].iter().filter(|text| !text.is_empty()).all(whole) {
        return None;
    }
    let wanted = Wanted::of(base, ours, theirs)?;
    let attempt = |ours, theirs| {
        let merged = wanted.with_keys(by_lines(base, ours, theirs)?)?;
        wanted.is_met_by(&merged).then_some(merged)
    };
    // It is easier to omit a key that leaves one rule but stays in others than to remove it.
    attempt(ours, theirs).or_else(|| attempt(theirs, ours))
}

/// Our side of rules with conflict markers.
#[must_use]
pub fn our_side(text: &[u8]) -> Option<Config> {
    Config::parse(std::str::from_utf8(&conflicted(text)?.ours).ok()?).ok()
}

/// The lines of both sides; of lines that both changed, ours. `None` where theirs have more to say there than who
/// the keys are.
fn by_lines(base: &str, ours: &str, theirs: &str) -> Option<String> {
    let lines = [base, ours, theirs].map(|text| text.split_inclusive('\n').collect::<Vec<_>>());
    let [base, ours, theirs] = &lines;
    let mut merged = String::new();
    for piece in pieces(base, ours, theirs) {
        let (ours, base, theirs) = (&ours[piece.ours], &base[piece.base], &theirs[piece.theirs]);
        if ours == theirs || theirs == base {
            merged.extend(ours.iter().copied());
        } else if ours == base {
            merged.extend(theirs.iter().copied());
        } else if base.is_empty() {
            // Both have put something here.
            merged.extend(ours.iter().copied());
            merged.extend(theirs.iter().copied());
        } else if only_keys_differ(base, theirs) {
            merged.extend(ours.iter().copied());
        } else {
            return None;
        }
    }
    Some(merged)
}

/// Whether the words that are not in both are anchors, aliases and recipients, or a remark that theirs removed.
fn only_keys_differ(base: &[&str], theirs: &[&str]) -> bool {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| c.is_whitespace() || "[]{},".contains(c));
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let remarks: BTreeSet<String> =
        base.iter().filter_map(|line| line.split_once('#')).flat_map(|(_, remark)| words(remark)).collect();
    let mut count = HashMap::<String, i32>::new();
    for (lines, one) in [(base, -1), (theirs, 1)] {
        for word in lines.iter().flat_map(|line| words(line)) {
            *count.entry(word).or_default() += one;
        }
    }
    let is_key = |word: &str| word == "-" || ["&", "*", "age1"].iter().any(|sign| word.starts_with(sign));
    let is_remark = |word: &str| word == "#" || remarks.contains(word);
    count.iter().all(|(word, count)| *count == 0 || is_key(word) || (*count < 0 && is_remark(word)))
}

/// A rule's `path_regex`, and which rule of that.
type Id = (String, usize);

/// What the merged rules must contain.
struct Wanted {
    names: BTreeMap<String, String>,
    rules: BTreeMap<Id, Rule>,
    /// The rules of each side in their order.
    orders: [Vec<Id>; 2],
    stores: crate::store::Indents,
}

/// A parsed text.
struct Version {
    names: BTreeMap<String, String>,
    rules: Vec<(Id, Rule)>,
    stores: crate::store::Indents,
}

impl Version {
    fn of(text: &str) -> Option<Self> {
        let config = Config::parse(text).ok()?;
        if !config.faults().is_empty() {
            return None;
        }
        let mut count = HashMap::new();
        let mut rules = Vec::new();
        for rule in config.rules().ok()? {
            let number = count.entry(rule.path_regex.clone()).or_insert(0);
            rules.push(((rule.path_regex.clone(), *number), rule.clone()));
            *number += 1;
        }
        Some(Self { names: names(text), rules, stores: config.stores })
    }

    fn rule(&self, id: &Id) -> Option<&Rule> {
        self.rules.iter().find(|(known, _)| known == id).map(|(_, rule)| rule)
    }
}

/// The merged value, if both sides have the same or only one of them changed it.
fn either<T: PartialEq>(base: T, ours: T, theirs: T) -> Option<T> {
    if ours == theirs || theirs == base {
        Some(ours)
    } else if ours == base {
        Some(theirs)
    } else {
        None
    }
}

impl Wanted {
    fn of(base: &str, ours: &str, theirs: &str) -> Option<Self> {
        let (base, ours, theirs) = (Version::of(base)?, Version::of(ours)?, Version::of(theirs)?);
        let mut names = BTreeMap::new();
        for recipient in ours.names.keys().chain(theirs.names.keys()) {
            let of = |version: &Version| version.names.get(recipient).cloned();
            if let Some(name) = either(of(&base), of(&ours), of(&theirs))? {
                names.insert(recipient.clone(), name);
            }
        }
        // The same name for two keys needs a decision.
        if names.values().collect::<BTreeSet<_>>().len() != names.len() {
            return None;
        }
        let mut rules = BTreeMap::new();
        for (id, _) in ours.rules.iter().chain(&theirs.rules) {
            if let Some(rule) = merged_rule(base.rule(id), ours.rule(id), theirs.rule(id))? {
                rules.insert(id.clone(), rule);
            }
        }
        let stores = either(base.stores, ours.stores, theirs.stores)?;
        let order = |version: &Version| {
            version.rules.iter().map(|(id, _)| id.clone()).filter(|id| rules.contains_key(id)).collect()
        };
        let orders = [order(&ours), order(&theirs)];
        Some(Self { names, rules, orders, stores })
    }

    /// The text with the missing keys added and the removed ones taken out.
    fn with_keys(&self, mut text: String) -> Option<String> {
        let now = Version::of(&text)?;
        let wanted: BTreeSet<&str> = self.rules.values().flat_map(Rule::recipients).collect();
        let gone = |recipient: &&str| !wanted.contains(recipient) && !self.names.contains_key(*recipient);
        let named = now.names.keys().map(String::as_str);
        let read = now.rules.iter().flat_map(|(_, rule)| rule.recipients());
        for recipient in named.chain(read).filter(gone).collect::<BTreeSet<_>>() {
            text = remove_key(&text, &|known| known == recipient).ok()?;
        }
        for (recipient, name) in &self.names {
            let key = NewKey { name, recipient, rules: &[], group: None };
            text = add_key(&text, key).ok()?;
        }
        for (at, (id, rule)) in now.rules.iter().enumerate() {
            for (group, keys) in self.rules.get(id)?.groups.iter().enumerate() {
                let has = |recipient: &&String| {
                    rule.groups.get(group).is_some_and(|has| has.age.contains(recipient))
                };
                for recipient in keys.age.iter().filter(|recipient| !has(recipient)) {
                    let name = self.names.get(recipient)?;
                    let key = NewKey { name, recipient, rules: &[at], group: Some(group) };
                    text = add_key(&text, key).ok()?;
                }
            }
        }
        Some(text)
    }

    fn is_met_by(&self, text: &str) -> bool {
        let Some(merged) = Version::of(text) else { return false };
        let same_rule = |(id, rule): &(Id, Rule)| {
            self.rules.get(id).is_some_and(|wanted| sorted(wanted.clone()) == sorted(rule.clone()))
        };
        let in_order = |order: &Vec<Id>| {
            merged.rules.iter().map(|(id, _)| id).filter(|id| order.contains(id)).eq(order.iter())
        };
        merged.names == self.names
            && merged.stores == self.stores
            && merged.rules.len() == self.rules.len()
            && merged.rules.iter().all(same_rule)
            && self.orders.iter().all(in_order)
    }
}

/// A rule with its recipients sorted, because the order in which they were added has no meaning.
fn sorted(mut rule: Rule) -> Rule {
    rule.groups.iter_mut().for_each(|group| group.age.sort_unstable());
    rule
}

/// The rule merged from both sides: an inner `None` if it was removed. `None` if the sides disagree.
fn merged_rule(base: Option<&Rule>, ours: Option<&Rule>, theirs: Option<&Rule>) -> Option<Option<Rule>> {
    let (Some(one), Some(other)) = (ours, theirs) else {
        return either(base, ours, theirs).map(Option::<&Rule>::cloned);
    };
    let nothing = Rule { groups: vec![super::Group::default(); one.groups.len()], ..one.clone() };
    let base = base.unwrap_or(&nothing);
    if [base, other].iter().any(|rule| rule.groups.len() != one.groups.len()) {
        return either(base, one, other).cloned().map(Some);
    }
    let mut merged = one.clone();
    merged.selector = either(&base.selector, &one.selector, &other.selector)?.clone();
    merged.mac_only_encrypted =
        either(base.mac_only_encrypted, one.mac_only_encrypted, other.mac_only_encrypted)?;
    merged.shamir_threshold = either(base.shamir_threshold, one.shamir_threshold, other.shamir_threshold)?;
    for (at, group) in merged.groups.iter_mut().enumerate() {
        let (base, one, other) = (&base.groups[at], &one.groups[at], &other.groups[at]);
        group.others.clone_from(either(&base.others, &one.others, &other.others)?);
        group.age.retain(|key| other.age.contains(key) || !base.age.contains(key));
        let added = other.age.iter().filter(|key| !one.age.contains(key) && !base.age.contains(key));
        group.age.extend(added.cloned());
    }
    Some(Some(merged))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "# who\nkeys:\n  - &alice age1alice\n  - &dave age1dave # leaves\ncreation_rules:\n  \
                        - path_regex: ^a\n    key_groups:\n      - age: [*alice, *dave]\n  - path_regex: ^b\n    \
                        key_groups:\n      - age:\n          - *alice\n          - *dave\n";

    fn add(text: &str, name: &str, rules: &[usize]) -> String {
        let recipient = format!("age1{name}");
        add_key(text, NewKey { name, recipient: &recipient, rules, group: None }).unwrap()
    }

    fn readers(text: &str) -> Vec<String> {
        let config = Config::parse(text).unwrap();
        config.rules().unwrap().iter().map(|rule| rule.recipients().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn keys_that_both_sides_add_are_there_in_the_end() {
        let merged = merge(BASE, &add(BASE, "carol", &[0, 1]), &add(BASE, "bob", &[0, 1])).unwrap();
        assert_eq!(readers(&merged), ["age1alice age1dave age1carol age1bob"; 2]);
        assert!(
            merged.starts_with("# who\nkeys:\n  - &alice age1alice\n  - &dave age1dave # leaves\n"),
            "{merged}"
        );
        assert!(merged.contains("[*alice, *dave, *carol, *bob]"), "{merged}");
        // In one rule each.
        let merged = merge(BASE, &add(BASE, "carol", &[0]), &add(BASE, "bob", &[1])).unwrap();
        assert_eq!(readers(&merged), ["age1alice age1dave age1carol", "age1alice age1dave age1bob"]);
    }

    #[test]
    fn a_key_that_one_side_removes_is_gone() {
        let without = remove_key(BASE, &|key| key == "age1dave").unwrap();
        for (ours, theirs) in
            [(without.clone(), add(BASE, "bob", &[0, 1])), (add(BASE, "bob", &[0, 1]), without)]
        {
            let merged = merge(BASE, &ours, &theirs).unwrap();
            assert_eq!(readers(&merged), ["age1alice age1bob"; 2], "{merged}");
            assert!(!merged.contains("dave"), "{merged}");
        }
    }

    #[test]
    fn rules_that_both_sides_add_are_both_there() {
        let rule = |name: &str| {
            let (at, text) = (BASE.find("  - path_regex: ^a").unwrap(), add(BASE, name, &[]));
            let at = at + text.len() - BASE.len();
            let new = format!("  - path_regex: ^{name}/\n    key_groups:\n      - age: [*{name}]\n");
            [&text[..at], &new, &text[at..]].concat()
        };
        let merged = merge(BASE, &rule("web"), &rule("db")).unwrap();
        assert_eq!(
            readers(&merged),
            ["age1web", "age1db", "age1alice age1dave", "age1alice age1dave"],
            "{merged}"
        );
    }

    #[test]
    fn what_is_a_question_stays_one() {
        let bob = add(BASE, "bob", &[0, 1]);
        // The same name for two keys.
        assert_eq!(merge(BASE, &bob, &bob.replace("age1bob", "age1other")), None);
        // Both changed which files a rule is for.
        assert_eq!(merge(BASE, &BASE.replace("^a", "^aa"), &BASE.replace("^a", "^ab")), None);
        // Remarks in a line that both changed: one stays, of two one would be lost.
        let remark = |name: &str, text: &str| {
            add(BASE, name, &[0]).replace(&format!("*{name}]"), &format!("*{name}] # {text}"))
        };
        let carol = remark("carol", "for a week");
        for merged in [merge(BASE, &bob, &carol), merge(BASE, &carol, &bob)] {
            assert!(merged.is_some_and(|merged| merged.contains("] # for a week\n")));
        }
        assert_eq!(merge(BASE, &remark("bob", "for a day"), &carol), None);
        assert_eq!(merge(BASE, &bob, "<<<<<<< x\n"), None);
    }
}
