//! A schema in a few words, with links to the types that it names.

use std::collections::BTreeSet;

use serde_json::Value;

use super::page::{escaped, items, members};

/// The form of a value, as HTML.
pub fn form(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escaped(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        let forms: Vec<_> = items(&schema[choice]).map(form).collect();
        if !forms.is_empty() {
            return forms.join(if choice == "allOf" { " and " } else { " or " });
        }
    }
    if let Some(value) = schema.get("const") {
        return code(value);
    }
    let values: Vec<_> = items(&schema["enum"]).map(code).collect();
    if !values.is_empty() {
        return values.join(", ");
    }
    let types = match &schema["type"] {
        Value::String(one) => escaped(one),
        several => {
            let names: Vec<_> = items(several).filter_map(Value::as_str).map(escaped).collect();
            names.join(" or ")
        }
    };
    let of = match (schema.get("items"), schema.get("additionalProperties")) {
        (Some(item), _) => format!(" of {}", form(item)),
        (None, Some(value)) if value.is_object() => format!(" of {}", form(value)),
        _ => String::new(),
    };
    let types = if types.is_empty() { "anything".to_owned() } else { types };
    format!("{types}{of}{}", limits(schema))
}

fn code(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    format!("<code>{}</code>", escaped(&text))
}

fn limits(schema: &Value) -> String {
    let named = [
        ("format", ""),
        ("minimum", "from "),
        ("maximum", "to "),
        ("minLength", "length from "),
        ("maxLength", "length to "),
        ("minItems", "items from "),
        ("maxItems", "items to "),
        ("pattern", ""),
    ];
    let limit = |(name, words): (&str, &str)| {
        schema.get(name).map(|value| format!(", {words}{}", code(value)))
    };
    named.into_iter().filter_map(limit).collect()
}

/// The members of an object: name, whether it must be there, schema. Those of a choice of objects,
/// too.
pub fn properties(schema: &Value) -> Vec<(&str, bool, &Value)> {
    let required: BTreeSet<_> = items(&schema["required"]).filter_map(Value::as_str).collect();
    let own = members(&schema["properties"]);
    let mut rows: Vec<_> =
        own.map(|(name, schema)| (name, required.contains(name), schema)).collect();
    for choice in ["oneOf", "anyOf", "allOf"] {
        rows.extend(items(&schema[choice]).flat_map(properties));
    }
    rows
}
