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

    use super::super::spec::shapes;
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
