//! The OpenAPI document: the copy in `docs/`, its inner consistency, that what it says of scopes and
//! bodies is so, and how it is served. The replies are checked wherever a test gets one.

use std::collections::BTreeSet;

use axum::http::{Method, header};
use coordinator::app::Clock;
use coordinator::db::Db;
use coordinator::health::Front;
use coordinator::router::front_of;
use protocol::{ErrorCode, Timestamp};
use serde_json::Value;

use crate::support::document::{document, has_form, operations, resolve};
use crate::support::{Engine, Reply, Request, TestApp};

/// Not compiled in, so that it can be made anew without compiling the tests.
const COPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

#[test]
fn the_copy_in_docs_is_current() {
    let printed = serde_json::to_string_pretty(document()).unwrap() + "\n";
    let message =
        "docs/openapi.json is old: cargo run -p coordinator -- openapi > docs/openapi.json";
    assert!(std::fs::read_to_string(COPY).unwrap() == printed, "{message}");
}

#[test]
fn every_reference_leads_somewhere() {
    let mut seen = 0;
    walk(document(), &mut |value| {
        if value["$ref"].is_string() {
            assert!(resolve(value).is_object(), "{value}");
            seen += 1;
        }
    });
    assert!(seen > 100, "{seen}");
}

fn walk(value: &Value, visit: &mut impl FnMut(&Value)) {
    visit(value);
    match value {
        Value::Object(members) => members.values().for_each(|member| walk(member, visit)),
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

#[test]
fn nothing_but_what_openapi_knows_is_left() {
    walk(document(), &mut |value| {
        for name in value.as_object().into_iter().flat_map(|members| members.keys()) {
            assert!(!name.starts_with("x-") || name == "x-content-sha256", "{name}");
        }
        if let Some(text) = value["description"].as_str() {
            assert!(!text.contains("[`") && !text.contains("::"), "a link into the code: {text}");
        }
    });
}

#[test]
fn every_operation_is_described() {
    let mut names = BTreeSet::new();
    let tags: Vec<_> = document()["tags"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    for (path, _, operation) in operations(document()) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "{name} comes twice");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{name}");
        assert!(tags.contains(&&operation["tags"][0]), "{name}");
        let replies = operation["responses"].as_object().unwrap();
        assert!(
            replies.keys().any(|status| status.starts_with('2')),
            "{name}: its type does not say what it replies (`.replies` in router.rs)"
        );
        let variables: Vec<_> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        assert_eq!(parameters(operation, "path").collect::<Vec<_>>(), variables, "{name}");
        if let Some(body) = operation.pointer("/requestBody/content/application~1json") {
            let example = body.get("example");
            let example = example.unwrap_or_else(|| panic!("{name}: none in examples.json"));
            has_form(example, &body["schema"]).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

fn parameters<'a>(operation: &'a Value, place: &'static str) -> impl Iterator<Item = &'a str> {
    let all = operation["parameters"].as_array().into_iter().flatten();
    all.filter(move |parameter| parameter["in"] == place)
        .map(|parameter| parameter["name"].as_str().unwrap())
}

/// Sends the example of every operation with a key of every scope: exactly those that the document
/// names may call it, and nobody is told that the example is malformed.
#[tokio::test]
async fn scopes_and_examples_are_as_described() {
    let app = TestApp::with(Engine::Memory, |_| {}).await;
    let (client, miner) = (app.client("c1").await.key, app.registered("host1-gpu0").await);
    let keys = [("client", &client), ("miner", &miner.key), ("admin", &app.admin_key)];
    for (path, method, operation) in operations(document()) {
        let needed = operation["security"].as_array().into_iter().flatten();
        let scopes: Vec<_> = needed.filter_map(|key| key["bearer"][0].as_str()).collect();
        for (scope, key) in keys {
            if scopes.is_empty() {
                continue;
            }
            let reply = example(path, method, operation).key(key).send(&app).await;
            let allowed = scopes.contains(&scope);
            let what = format!("{method} {path} as {scope}: {} {}", reply.status, reply.text());
            if allowed {
                assert!(!is_malformed(&reply), "{what}");
            } else {
                assert_eq!(reply.code(), ErrorCode::ForbiddenScope, "{what}");
            }
        }
    }
}

fn is_malformed(reply: &Reply) -> bool {
    let malformed = [
        ErrorCode::InvalidJson,
        ErrorCode::InvalidParam,
        ErrorCode::InvalidPayload,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::ForbiddenScope,
        ErrorCode::MethodNotAllowed,
    ];
    !reply.status.is_success() && malformed.contains(&reply.code())
}

/// A request as the document has it: examples for what is required, nothing else.
fn example(path: &str, method: &str, operation: &Value) -> Request {
    let mut uri = path.to_owned();
    let mut query = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let schema = resolve(&parameter["schema"]);
        let value = match schema["examples"][0].as_str() {
            Some(text) => text.to_owned(),
            None => "1".to_owned(),
        };
        let name = parameter["name"].as_str().unwrap();
        match parameter["in"].as_str().unwrap() {
            "path" => uri = uri.replace(&format!("{{{name}}}"), &value),
            // An operator has no wallet of his own: the one parameter that only he must give.
            "query" if parameter["required"] == true || name == "wallet" => {
                query.push(format!("{name}={value}"));
            }
            _ => {}
        }
    }
    if !query.is_empty() {
        uri = format!("{uri}?{}", query.join("&"));
    }
    let request = Request::new(Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), &uri);
    let content = operation["requestBody"]["content"].as_object();
    match content.and_then(|content| content.iter().next()) {
        Some((kind, content)) if kind == "application/json" => request.json(&content["example"]),
        Some((kind, _)) if kind == "multipart/form-data" => {
            let part =
                "--B\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{}\r\n--B--\r\n";
            request.header("content-type", "multipart/form-data; boundary=B").body(part)
        }
        Some((kind, _)) => request.header("content-type", kind).body("hello"),
        None => request,
    }
}

#[tokio::test]
async fn both_are_served_while_the_database_is_away() {
    let start: Timestamp = "2026-01-24T00:00:00Z".parse().unwrap();
    let db = Db::open("postgres://nobody@127.0.0.1:1/nowhere", 1).unwrap();
    let front = front_of(Front::new(db, Clock::manual(start), "key".to_owned()));
    let served = Request::get("/v1/openapi.json").send_to(&front).await.expect(200);
    assert_eq!(&served.json::<Value>(), document());
    let page = Request::get("/docs").send_to(&front).await.expect(200);
    assert_eq!(page.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    Request::get("/readyz").send_to(&front).await.expect(503);
}

#[tokio::test]
async fn the_page_loads_nothing_and_has_every_operation() {
    let app = TestApp::with(Engine::Memory, |_| {}).await;
    let page = Request::get("/docs").send(&app).await.expect(200);
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    let text = page.text();
    for loading in ["<script", "<link", "<img", "<iframe", "<form", "src=", "@import", "url(", "//"]
    {
        assert!(!text.contains(loading), "{loading}");
    }
    // Each link leads to a place on the page itself.
    let links = text.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    for link in links.collect::<BTreeSet<_>>() {
        let id = link.strip_prefix('#').unwrap_or_else(|| panic!("leads elsewhere: {link}"));
        assert!(text.contains(&format!("id=\"{id}\"")), "{link}");
    }
    for (.., operation) in operations(document()) {
        let name = operation["operationId"].as_str().unwrap();
        assert!(text.contains(&format!("id=\"{name}\"")), "{name}");
    }
}
