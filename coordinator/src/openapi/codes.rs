//! The refusals of an operation, gathered from its extractors, reply types and description, and
//! written as one reply per status.

use std::collections::{BTreeMap, BTreeSet};

use aide::openapi::Operation;
use protocol::ErrorCode;
use serde_json::{Map, Value, json};

/// Where an operation's codes wait until all of them are known.
pub const GATHERED: &str = "x-error-codes";

/// Any request may meet these.
pub const ANY: &[ErrorCode] = &[ErrorCode::UpgradeRequired, ErrorCode::Internal];

/// Any request with a key may meet these: behind the front there are limits and a database.
pub const WITH_A_KEY: &[ErrorCode] = &[
    ErrorCode::UnauthorizedKey,
    ErrorCode::ForbiddenScope,
    ErrorCode::RequestTimeout,
    ErrorCode::RateLimited,
    ErrorCode::DbUnavailable,
    ErrorCode::Overloaded,
];

/// Adds to the codes of an operation.
pub fn add(operation: &mut Operation, codes: &[ErrorCode]) {
    let gathered = operation.extensions.entry(GATHERED.to_owned()).or_insert_with(|| json!([]));
    if let Value::Array(gathered) = gathered {
        gathered.extend(codes.iter().map(|code| Value::from(code.as_str())));
    }
}

/// The replies for codes that were gathered, by status. What several operations say alike is said
/// once, in `shared`, and they refer to it.
pub fn replies(gathered: &Value, shared: &mut Map<String, Value>) -> Map<String, Value> {
    let texts = gathered.as_array().into_iter().flatten().filter_map(Value::as_str);
    let named: BTreeSet<&str> = texts.collect();
    let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
    for code in ErrorCode::ALL.iter().filter(|code| named.contains(code.as_str())) {
        by_status.entry(code.status()).or_default().push(*code);
    }
    let refer = |(status, codes): (u16, Vec<ErrorCode>)| {
        let texts: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
        let name = texts.join(".");
        let reference = json!({"$ref": format!("#/components/responses/{name}")});
        shared.entry(name).or_insert_with(|| reply(&codes));
        (status.to_string(), reference)
    };
    by_status.into_iter().map(refer).collect()
}

fn reply(codes: &[ErrorCode]) -> Value {
    let lines = codes.iter().map(|code| format!("`{code}`: {}", code.meaning()));
    let texts: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    let mut reply = json!({
        "description": lines.collect::<Vec<_>>().join("\n"),
        "content": {"application/json": {"schema": {
            "$ref": "#/components/schemas/ErrorBody",
            "properties": {"error": {"properties": {"code": {"enum": texts}}}},
        }}},
    });
    if codes.iter().any(|code| matches!(code.status(), 429 | 503)) {
        reply["headers"] = json!({"Retry-After": {"$ref": "#/components/headers/RetryAfter"}});
    }
    reply
}
