//! Setting and removing a value in a document.

use super::super::text::Text;
use super::super::tree::{Branch, Item, Key, Value};
use super::{KeyPath, PathError, Step, describe};

/// Sets the value at a path and returns whether anything changed. As in sops, missing mappings and lists
/// are created, an index past the end of a list appends, and a scalar in the way is replaced.
///
/// # Errors
/// An empty path; a key where there is a list; a position where there is a mapping.
pub fn set(document: &mut Branch, path: &KeyPath, value: Value) -> Result<bool, PathError> {
    match path.steps().split_first() {
        None => Err(PathError::Empty),
        Some((Step::Key(key) | Step::Part(key), rest)) => set_entry(document, key, rest, value),
        Some((step, _)) => Err(PathError::WrongKind { step: step.clone(), container: "a mapping" }),
    }
}

fn set_value(place: &mut Value, path: &[Step], value: Value) -> Result<bool, PathError> {
    let Some((step, rest)) = path.split_first() else {
        let changed = !same(place, &value);
        *place = value;
        return Ok(changed);
    };
    match (&step.at(place), place) {
        (Step::Key(key), Value::Map(branch)) => set_entry(branch, key, rest, value),
        (Step::Index(index), Value::List(items)) => match items.get_mut(*index) {
            Some(item) => set_value(item, rest, value),
            None => {
                items.push(nested(rest, value));
                Ok(true)
            }
        },
        (step, place @ (Value::Map(_) | Value::List(_))) => {
            Err(PathError::WrongKind { step: step.clone(), container: describe(place) })
        }
        (_, place) => {
            *place = nested(path, value);
            Ok(true)
        }
    }
}

fn set_entry(branch: &mut Branch, key: &Text, rest: &[Step], value: Value) -> Result<bool, PathError> {
    for item in branch.iter_mut() {
        if let Item::Entry(Key::Str(name), place) = item
            && name == key
        {
            return set_value(place, rest, value);
        }
    }
    branch.push(Item::Entry(Key::Str(key.clone()), nested(rest, value)));
    Ok(true)
}

/// A value with the mappings and lists of a path around it.
fn nested(path: &[Step], value: Value) -> Value {
    path.iter().rev().fold(value, |inner, step| match step {
        Step::Key(key) | Step::Part(key) => Value::Map(vec![Item::Entry(Key::Str(key.clone()), inner)]),
        Step::Index(_) => Value::List(vec![inner]),
    })
}

/// Equality as sops defines it: the position of a comment on its line makes no difference.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Comment(one), Value::Comment(other)) => one.text == other.text,
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Map(one), Value::Map(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|pair| match pair {
                    (Item::Comment(one), Item::Comment(other)) => one.text == other.text,
                    (Item::Entry(key, one), Item::Entry(other_key, other)) => {
                        key == other_key && same(one, other)
                    }
                    _ => false,
                })
        }
        (one, other) => one == other,
    }
}

/// Removes the value at a path.
///
/// # Errors
/// An empty path, or one that does not lead to a value; [`PathError::is_absent`] identifies the latter.
pub fn unset(document: &mut Branch, path: &KeyPath) -> Result<(), PathError> {
    match path.steps().split_first() {
        None => Err(PathError::Empty),
        Some((Step::Key(key) | Step::Part(key), rest)) => unset_entry(document, key, rest),
        // As in sops: a mapping has no positions, so that there is nothing to remove.
        Some((step, _)) => Err(PathError::NotFound(step.clone())),
    }
}

fn unset_entry(branch: &mut Branch, key: &Text, rest: &[Step]) -> Result<(), PathError> {
    let position = branch
        .iter()
        .position(|item| matches!(item, Item::Entry(Key::Str(name), _) if name == key))
        .ok_or_else(|| PathError::NotFound(Step::Key(key.clone())))?;
    if rest.is_empty() {
        branch.remove(position);
        return Ok(());
    }
    match &mut branch[position] {
        Item::Entry(_, value) => unset_value(value, rest),
        Item::Comment(_) => Ok(()),
    }
}

/// Removes what a path of at least one step leads to.
fn unset_value(place: &mut Value, path: &[Step]) -> Result<(), PathError> {
    let Some((step, rest)) = path.split_first() else { return Err(PathError::Empty) };
    match (&step.at(place), place) {
        (Step::Key(key), Value::Map(branch)) => unset_entry(branch, key, rest),
        (step @ Step::Index(_), Value::Map(_)) => Err(PathError::NotFound(step.clone())),
        (step @ Step::Index(index), Value::List(items)) => match items.get_mut(*index) {
            None => Err(PathError::OutOfBounds(step.clone())),
            Some(_) if rest.is_empty() => {
                items.remove(*index);
                Ok(())
            }
            Some(item) => unset_value(item, rest),
        },
        (step, place) => Err(PathError::WrongKind { step: step.clone(), container: describe(place) }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{json, tree};
    use super::*;

    fn after_set(document: &str, path: &str, value: Value) -> Result<(String, bool), PathError> {
        let mut tree = tree(document);
        let changed = set(&mut tree.documents[0], &KeyPath::parse(path)?, value)?;
        Ok((json(&tree.documents[0]).to_string(), changed))
    }

    fn after_unset(document: &str, path: &str) -> Result<String, PathError> {
        let mut tree = tree(document);
        unset(&mut tree.documents[0], &KeyPath::parse(path)?)?;
        Ok(json(&tree.documents[0]).to_string())
    }

    #[test]
    fn a_value_is_replaced_made_or_appended() {
        for (document, path, expected) in [
            (r#"{"a":1,"b":2}"#, r#"["a"]"#, r#"{"a":"x","b":2}"#),
            (r#"{"a":1}"#, r#"["b"]"#, r#"{"a":1,"b":"x"}"#),
            (r#"{}"#, r#"["a"]["b"][5]["c"]"#, r#"{"a":{"b":[{"c":"x"}]}}"#),
            (r#"{"l":[1,2]}"#, r#"["l"][0]"#, r#"{"l":["x",2]}"#),
            (r#"{"l":[1,2]}"#, r#"["l"][7]"#, r#"{"l":[1,2,"x"]}"#),
            (r#"{"l":[1]}"#, r#"["l"][7]["k"]"#, r#"{"l":[1,{"k":"x"}]}"#),
            (r#"{"s":"y"}"#, r#"["s"]["k"]"#, r#"{"s":{"k":"x"}}"#),
            (r#"{"s":null}"#, r#"["s"][0]"#, r#"{"s":["x"]}"#),
            (r#"{"m":{"k":1}}"#, r#"["m"]"#, r#"{"m":"x"}"#),
        ] {
            assert_eq!(after_set(document, path, Value::str("x")), Ok((expected.to_owned(), true)), "{path}");
        }
    }

    #[test]
    fn the_same_value_is_no_change_but_another_type_is() {
        let same = |value| after_set(r#"{"a":1}"#, r#"["a"]"#, value).map(|(_, changed)| changed);
        assert_eq!(same(Value::Int(1)), Ok(false));
        assert_eq!(same(Value::Float(1.0)), Ok(true));
        assert_eq!(same(Value::str("1")), Ok(true));
    }

    #[test]
    fn what_sops_would_panic_on_or_ignore_is_an_error() {
        for (document, path) in
            [(r#"{"l":[1]}"#, r#"["l"]["k"]"#), (r#"{"m":{}}"#, r#"["m"][0]"#), ("{}", "[0]")]
        {
            assert!(
                matches!(after_set(document, path, Value::Null), Err(PathError::WrongKind { .. })),
                "{path}"
            );
        }
        assert_eq!(after_set("{}", "", Value::Null), Err(PathError::Empty));
        assert_eq!(after_unset("{}", ""), Err(PathError::Empty));
    }

    #[test]
    fn a_value_is_removed_or_its_absence_said() {
        let document = r#"{"a":{"b":[1,2]},"s":"x"}"#;
        assert_eq!(after_unset(document, r#"["a"]["b"][0]"#).as_deref(), Ok(r#"{"a":{"b":[2]},"s":"x"}"#));
        assert_eq!(after_unset(document, r#"["s"]"#).as_deref(), Ok(r#"{"a":{"b":[1,2]}}"#));
        for path in [r#"["zz"]"#, r#"["a"]["zz"]["y"]"#, r#"["a"]["b"][7]"#] {
            assert!(after_unset(document, path).is_err_and(|error| error.is_absent()), "{path}");
        }
        assert!(after_unset(document, r#"["a"][0]"#).is_err_and(|error| error.is_absent()));
        for path in [r#"["s"]["x"]"#, r#"["a"]["b"]["x"]"#] {
            assert!(after_unset(document, path).is_err_and(|error| !error.is_absent()), "{path}");
        }
    }
}
