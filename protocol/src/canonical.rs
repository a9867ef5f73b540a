//! Canonical JSON: the bytes that receipts are signed over.
//!
//! Keys are sorted at every level, nulls are dropped, there is no whitespace. For the ASCII strings
//! and integers that receipts consist of, this is RFC 8785 as well as what the original signer
//! (Python's `json.dumps(sort_keys=True, separators=(",", ":"))`) writes.

use serde_json::Value;

/// `value` in canonical form.
pub fn to_string(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<_> = map.iter().filter(|(_, value)| !value.is_null()).collect();
            members.sort_by(|a, b| a.0.encode_utf16().cmp(b.0.encode_utf16()));
            text.push('{');
            for (i, (key, value)) in members.into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                quote(key, text);
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::String(string) => quote(string, text),
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn quote(string: &str, text: &mut String) {
    // Most need no escape, and a receipt is mostly short strings.
    if string.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        text.push('"');
        text.push_str(string);
        text.push('"');
    } else {
        text.push_str(&Value::from(string).to_string());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn sorts_drops_nulls_and_adds_no_blanks() {
        let value =
            json!({"b": [1, {"z": null, "y": "\"\n"}], "a": {"d": true, "c": -3}, "n": null});
        assert_eq!(super::to_string(&value), r#"{"a":{"c":-3,"d":true},"b":[1,{"y":"\"\n"}]}"#);
    }
}
