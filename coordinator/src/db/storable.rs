//! What no database can hold, whatever SQLite lets through: U+0000, which PostgreSQL refuses.

use serde_json::Value;

/// Whether both engines can hold this document.
pub fn storable(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => !text.contains('\0'),
        Value::Array(items) => items.iter().all(storable),
        Value::Object(fields) => {
            fields.iter().all(|(name, value)| !name.contains('\0') && storable(value))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_nul_is_found_wherever_it_is() {
        assert!(storable(&json!({"a": [1, null, {"b": "text"}], "c": true})));
        for bad in [json!("\0"), json!(["a", "b\0"]), json!({"a": {"b\0": 1}})] {
            assert!(!storable(&bad), "{bad}");
        }
    }
}
