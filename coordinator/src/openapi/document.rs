//! The document as a whole: what the routes say, with names for the parameters of paths, replies
//! for the gathered codes, examples, and what holds for all of them.

use aide::generate::in_context;
use aide::openapi::OpenApi;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Routes, codes, inputs};

/// A body for each operation that takes JSON, by its id. Tests send them.
const EXAMPLES: &str = include_str!("examples.json");

const METHODS: [&str; 4] = ["get", "post", "put", "delete"];

/// The document of these routes, which are only made to be described.
pub fn of<F, H>(front: impl FnOnce() -> Routes<F>, house: impl FnOnce() -> Routes<H>) -> Value
where
    F: Clone + Send + Sync + 'static,
    H: Clone + Send + Sync + 'static,
{
    // The dialect of OpenAPI 3.1; aide takes an older one by itself.
    in_context(|context| {
        context.schema = SchemaGenerator::new(SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        }));
    });
    let (front, house) = (front(), house());
    let mut described = OpenApi::default();
    drop(front.0.finish_api(&mut described));
    drop(house.0.finish_api(&mut described));
    let mut document = serde_json::to_value(&described).unwrap_or_default();
    let examples = serde_json::from_str(EXAMPLES).unwrap_or_default();
    let mut shared = Map::new();
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        for method in METHODS {
            if let Some(Value::Object(operation)) = item.get_mut(method) {
                finish(path, operation, &examples, &mut shared);
            }
        }
    }
    document["components"]["responses"] = Value::Object(shared);
    plain_texts(&mut document);
    frame(&mut document);
    document
}

fn finish(
    path: &str,
    operation: &mut Map<String, Value>,
    examples: &Map<String, Value>,
    shared: &mut Map<String, Value>,
) {
    if let Some(Value::Array(schemas)) = operation.remove(inputs::SEGMENTS) {
        name_segments(path, operation, schemas);
    }
    let gathered = operation.remove(codes::GATHERED).unwrap_or_default();
    let replies = operation.entry("responses").or_insert_with(|| json!({}));
    if let Value::Object(replies) = replies {
        replies.extend(codes::replies(&gathered, shared));
    }
    let example = operation.get("operationId").and_then(Value::as_str);
    let example = example.and_then(|id| examples.get(id)).cloned();
    let body = operation.get_mut("requestBody").map(|body| &mut body["content"]);
    let body = body.and_then(|content| content.get_mut("application/json"));
    if let (Some(example), Some(body)) = (example, body) {
        body["example"] = example;
    }
}

/// The variable segments of a path, which the extractor knows by their order, have their names in
/// the route.
fn name_segments(path: &str, operation: &mut Map<String, Value>, schemas: Vec<Value>) {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters = names.zip(schemas).map(
        |(name, schema)| json!({"in": "path", "name": name, "required": true, "schema": schema}),
    );
    let mut parameters: Vec<Value> = parameters.collect();
    if let Some(Value::Array(others)) = operation.remove("parameters") {
        parameters.extend(others);
    }
    operation.insert("parameters".to_owned(), Value::Array(parameters));
}

/// Descriptions are the comments of the types: without their links into the code and their lines.
fn plain_texts(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "description" => *text = plain(text),
                    other => plain_texts(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(plain_texts),
        _ => {}
    }
}

fn plain(text: &str) -> String {
    let mut parts = text.split("[`");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (link, rest) = part.split_once("`]").unwrap_or((part, ""));
        let name = link.rsplit("::").next().unwrap_or_default();
        plain.extend(["`", name, "`", rest]);
    }
    plain.replace("\n ", " ")
}

/// What holds for all operations.
fn frame(document: &mut Value) {
    document["openapi"] = json!("3.1.0");
    document["info"] = json!({
        "title": "AITBC coordinator",
        "version": env!("CARGO_PKG_VERSION"),
        "summary": "Jobs, leases, receipts and credits of a compute market.",
        "description": "Every reply has an `X-Request-Id`. Replies to a key say \
            `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset`. Every reply that \
            is not 2xx has the same envelope with a stable code. A node says `X-AITBC-Protocol` \
            with each request.",
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    });
    document["tags"] = json!([
        {"name": "client", "description": "For those who submit jobs."},
        {"name": "miner", "description": "For nodes."},
        {"name": "wallet", "description": "For whoever holds an account."},
        {"name": "operator", "description": "For operators."},
        {"name": "public", "description": "For everybody: no key is asked for."},
    ]);
    let key = "An API key, `id.secret`, of one of the scopes that the operation names.";
    document["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer", "description": key},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": key},
    });
    document["components"]["headers"] = json!({"RetryAfter": {
        "description": "When to come back, in seconds.",
        "schema": {"type": "integer", "minimum": 0},
    }});
}
