//! The JSON schema of `host.yaml`, for editors.

/// The text of the schema, as it ships beside the hosts.
#[must_use]
pub fn text() -> &'static str {
    include_str!("../../hosts/host.schema.json")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::spec::load::{Source, load};
    use super::super::spec::{Arch, shapes};
    use super::text;

    fn schema() -> Value {
        serde_json::from_str(text()).expect("JSON")
    }

    #[test]
    fn schema_and_types_have_the_same_keys() {
        let schema = schema();
        for (pointer, keys) in shapes() {
            let shape = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is in the schema"));
            let properties = shape["properties"].as_object().expect("properties");
            let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            let known: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
            assert_eq!(described, known, "{pointer}");
            assert_eq!(shape["additionalProperties"], Value::Bool(false), "{pointer} is strict");
        }
    }

    #[test]
    fn every_key_is_explained() {
        let schema = schema();
        for (pointer, keys) in shapes().into_iter().filter(|(pointer, _)| !pointer.contains("by_arch")) {
            for key in keys {
                let property = &schema.pointer(pointer).expect("a shape")["properties"][&key];
                assert!(property["description"].is_string(), "{pointer}: {key}");
            }
        }
    }

    /// What host.yaml of that text is for the code, and what the schema's pattern at that place says of the value.
    fn verdicts(pointer: &str, value: &str, text: &str) -> (bool, bool) {
        let source = |_: &str| Ok(Source { file: "host.yaml".into(), text: text.to_owned() });
        let by_code = load("x", Arch::X86_64, &|_| None, &source).is_ok();
        let schema = schema();
        let rule = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
        let by_schema = match rule["pattern"].as_str() {
            Some(pattern) => regex::Regex::new(pattern).expect("a pattern").is_match(value),
            None => {
                let number = value.parse::<i64>().expect("a number");
                let bound = |name: &str| rule[name].as_i64().expect("a bound");
                (bound("minimum")..=bound("maximum")).contains(&number)
            }
        };
        (by_code, by_schema)
    }

    #[test]
    fn schema_and_code_accept_the_same_values() {
        let places: [(&str, &str, &[&str]); 8] = [
            (
                "/properties/packages/items",
                "packages: ['VALUE']",
                &[
                    "git", "g++", "libc6.1", "x", "foo-", "-o", "Foo", "a:b", "a_b", "a b", "", "foo/sid",
                    "0ad",
                ],
            ),
            ("/definitions/count", "cpus: VALUE", &["0", "1", "255", "256", "288", "-1"]),
            (
                "/definitions/image/properties/suite",
                "image: {suite: 'VALUE'}",
                &["bookworm", "trixie-backports", "Sid", "../x", "a/b", "", "-a", "12"],
            ),
            (
                "/definitions/forward/oneOf/1",
                "forwards: ['VALUE']",
                &[
                    "22",
                    "2322:22",
                    "0.0.0.0:80:8080",
                    "[::1]:81:80",
                    "a",
                    "1:2:3:4",
                    "",
                    ":80:80",
                    "localhost:1:2",
                ],
            ),
            (
                "/definitions/unit_name",
                "services: ['VALUE']",
                &["a.service", "a@b.timer", "a", "../a.service", "a.slice", ".service"],
            ),
            ("/definitions/size", "memory: VALUE", &["4G", "512M", "4GiB", "1 T", "4", "4.5G", "4GB", "G"]),
            ("/definitions/zram/properties/percent", "zram: {percent: VALUE}", &["0", "1", "400", "401"]),
            (
                "/definitions/user/properties/uid",
                "users: {a: {uid: VALUE}}",
                &["999", "1000", "59999", "60000"],
            ),
        ];
        for (pointer, text, values) in places {
            for value in values {
                let (by_code, by_schema) = verdicts(pointer, value, &text.replace("VALUE", value));
                assert_eq!(by_code, by_schema, "{text} with {value:?}: code, schema");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
            match value {
                Value::Object(fields) => {
                    out.extend(fields.get("$ref").and_then(Value::as_str));
                    fields.values().for_each(|value| references(value, out));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, out)),
                _ => {}
            }
        }
        let schema = schema();
        let mut found = Vec::new();
        references(&schema, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a reference inside");
            assert!(schema.pointer(pointer).is_some(), "{reference}");
        }
    }
}
