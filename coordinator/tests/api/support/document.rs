//! The OpenAPI document, and whether a reply is one that it describes. Every reply that a test gets
//! is held against it.

use std::sync::LazyLock;

use axum::http::{Method, header};
use coordinator::router;
use serde_json::Value;

use super::Reply;

static DOCUMENT: LazyLock<Value> = LazyLock::new(router::document);

pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Every operation, with its path and its method in lower case.
pub fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap().iter();
        item.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// What a `$ref` points at; anything else is itself.
pub fn resolve(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference.strip_prefix('#').unwrap();
            resolve(document().pointer(pointer).unwrap_or_else(|| panic!("no {reference}")))
        }
        None => value,
    }
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(path).all(|(known, part)| known.starts_with('{') || *known == part)
}

/// The operation that answers a request: of the templates that fit, the most literal.
fn find(method: &Method, path: &str) -> Option<&'static Value> {
    let method = method.as_str().to_lowercase();
    operations(document())
        .filter(|(template, known, _)| *known == method && fits(template, path))
        .min_by_key(|(template, ..)| template.matches('{').count())
        .map(|(.., operation)| operation)
}

/// Panics unless the document has this reply: its status, its code, its form.
pub fn check(method: &Method, path: &str, reply: &Reply) {
    let Some(operation) = find(method, path) else { return };
    let name = operation["operationId"].as_str().unwrap();
    let described = resolve(&operation["responses"][reply.status.as_str()]);
    assert!(
        described.is_object(),
        "{name} is not described to reply {}: {}\n(in router.rs, beside the route)",
        reply.status,
        reply.text()
    );
    if reply.status.is_client_error() || reply.status.is_server_error() {
        let schema = &described["content"]["application/json"]["schema"];
        let codes = &schema["properties"]["error"]["properties"]["code"]["enum"];
        let code = Value::from(reply.code().as_str());
        let known = codes.as_array().unwrap().contains(&code);
        assert!(known, "{name} does not say that it refuses with {code} (`.refuses` in router.rs)");
    }
    let media_type = reply.headers.get(header::CONTENT_TYPE).map(|text| text.to_str().unwrap());
    let Some(content) = described["content"].as_object() else { return };
    let media_type = media_type.unwrap_or_default();
    let essence = media_type.split(';').next().unwrap();
    let known = content.contains_key(essence) || content.contains_key("*/*");
    assert!(known, "{name} is not described to reply {media_type:?}");
    if let Some(schema) = content.get(essence).and_then(|kind| kind.get("schema"))
        && essence == "application/json"
    {
        assert_eq!(media_type, protocol::JSON_CONTENT_TYPE, "{name}");
        if let Err(error) = has_form(&reply.json(), schema) {
            panic!("{name}, {}: {error}\n{}", reply.status, reply.text());
        }
    }
}

/// Whether a value has the form of a schema, as far as types, members and choices go.
pub fn has_form(value: &Value, schema: &Value) -> Result<(), String> {
    if schema == &Value::Bool(true) {
        return Ok(());
    }
    if schema["$ref"].is_string() {
        has_form(value, resolve(schema))?;
    }
    let is_type = |name: &Value| match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    };
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().any(is_type),
        Value::Null => true,
        one => is_type(one),
    };
    if !types {
        return Err(format!("{value} is not {}", schema["type"]));
    }
    let listed = |values: &Value| values.as_array().is_none_or(|values| values.contains(value));
    if !listed(&schema["enum"]) || schema.get("const").is_some_and(|only| only != value) {
        return Err(format!("{value} is not one of {schema}"));
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(forms) = schema[choice].as_array() {
            let fits = forms.iter().filter(|form| has_form(value, form).is_ok()).count();
            if fits == 0 || (choice == "oneOf" && fits > 1) {
                return Err(format!("{value} has {fits} of the forms {forms:?}"));
            }
        }
    }
    for item in value.as_array().into_iter().flatten() {
        has_form(item, schema.get("items").unwrap_or(&Value::Bool(true)))?;
    }
    has_members(value, schema)
}

fn has_members(value: &Value, schema: &Value) -> Result<(), String> {
    let Some(members) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(name.as_str().unwrap()) {
            return Err(format!("{name} is missing"));
        }
    }
    // Without a type it only narrows another schema.
    let closed = schema["type"].is_string()
        && schema["properties"].is_object()
        && ["oneOf", "anyOf", "$ref", "additionalProperties"]
            .iter()
            .all(|open| matches!(schema.get(open), None | Some(Value::Bool(false))));
    for (name, member) in members {
        match schema["properties"].get(name).or(schema.get("additionalProperties")) {
            Some(Value::Bool(false)) | None if closed => return Err(format!("{name} is unknown")),
            Some(Value::Bool(_)) | None => {}
            Some(form) => has_form(member, form).map_err(|error| format!("{name}: {error}"))?,
        }
    }
    Ok(())
}
