//! The document as a page: text and links, no script, nothing from any other place.

use std::fmt::Write as _;

use axum::body::Bytes;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::schema_text::{form, properties};

const STYLE: &str = include_str!("page.css");

/// A page that may load nothing and run nothing.
#[derive(Debug)]
pub struct Page(pub Bytes);

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        let headers = response.headers_mut();
        let mut put = |name: HeaderName, value: &'static str| {
            headers.insert(name, HeaderValue::from_static(value));
        };
        put(header::CONTENT_TYPE, "text/html; charset=utf-8");
        put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        put(header::REFERRER_POLICY, "no-referrer");
        if let Ok(policy) = HeaderValue::from_str(&policy()) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

/// Nothing but the one style sheet that is in the page.
fn policy() -> String {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
}

/// The page of a document.
pub fn html(document: &Value) -> String {
    let title = text(&document["info"]["title"]);
    let version = text(&document["info"]["version"]);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{title} {version}</h1>\n<p>{}</p>\n<p>{}</p>\n",
        text(&document["info"]["summary"]),
        marked(&document["info"]["description"]),
    );
    for tag in items(&document["tags"]) {
        let _ =
            write!(page, "<h2>{}</h2>\n<p>{}</p>\n", text(&tag["name"]), text(&tag["description"]));
        for (path, method, operation) in operations(document) {
            if operation["tags"][0] == tag["name"] {
                write_operation(&mut page, document, (path, method, operation));
            }
        }
    }
    page.push_str("<h2>Types</h2>\n");
    for (name, schema) in members(&document["components"]["schemas"]) {
        let name = escaped(name);
        let _ = writeln!(page, "<section id=\"{name}\">\n<h3>{name}</h3>");
        write_schema(&mut page, schema);
        page.push_str("</section>\n");
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    members(&document["paths"]).flat_map(|(path, item)| {
        members(item).map(move |(method, operation)| (path, method, operation))
    })
}

fn write_operation(
    page: &mut String,
    document: &Value,
    (path, method, operation): (&str, &str, &Value),
) {
    let _ = writeln!(
        page,
        "<details>\n<summary><b>{}</b> <code>{}</code> <span>{}</span></summary>\n\
         <div id=\"{}\">",
        method.to_uppercase(),
        escaped(path),
        marked(&operation["summary"]),
        text(&operation["operationId"]),
    );
    let scopes = items(&operation["security"]).filter_map(|needed| needed["bearer"][0].as_str());
    let scopes: Vec<_> = scopes.map(escaped).collect();
    if !scopes.is_empty() {
        let _ = writeln!(page, "<p>Key: {}</p>", scopes.join(" or "));
    }
    let parameters: Vec<_> = items(&operation["parameters"]).collect();
    if !parameters.is_empty() {
        page.push_str("<table>\n<tr><th>parameter</th><th>in</th><th>form</th><th></th></tr>\n");
        for parameter in parameters {
            write_parameter(page, parameter);
        }
        page.push_str("</table>\n");
    }
    for (media_type, content) in members(&operation["requestBody"]["content"]) {
        let form = form(&content["schema"]);
        let _ = writeln!(page, "<p>Body: <code>{}</code>, {form}</p>", escaped(media_type));
        if let Some(example) = content.get("example") {
            let example = serde_json::to_string_pretty(example).unwrap_or_default();
            let _ = writeln!(page, "<pre>{}</pre>", escaped(&example));
        }
    }
    page.push_str("<table>\n<tr><th>reply</th><th>form</th><th></th></tr>\n");
    for (status, reply) in members(&operation["responses"]) {
        let shared = reply["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
        let reply = shared.and_then(|pointer| document.pointer(pointer)).unwrap_or(reply);
        let forms = members(&reply["content"]).map(|(_, content)| form(&content["schema"]));
        let forms = forms.collect::<Vec<_>>().join(" or ");
        let (status, meaning) = (escaped(status), marked(&reply["description"]));
        let _ = writeln!(page, "<tr><td>{status}</td><td>{forms}</td><td>{meaning}</td></tr>");
    }
    page.push_str("</table>\n</div>\n</details>\n");
}

fn write_parameter(page: &mut String, parameter: &Value) {
    let required = if parameter["required"] == true { " (required)" } else { "" };
    let description = parameter.get("description").unwrap_or(&parameter["schema"]["description"]);
    let _ = writeln!(
        page,
        "<tr><td><code>{}</code>{required}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
        text(&parameter["name"]),
        text(&parameter["in"]),
        form(&parameter["schema"]),
        marked(description),
    );
}

fn write_schema(page: &mut String, schema: &Value) {
    if let Some(description) = schema.get("description") {
        let _ = writeln!(page, "<p>{}</p>", marked(description));
    }
    let rows = properties(schema);
    if rows.is_empty() {
        let _ = writeln!(page, "<p>{}</p>", form(schema));
        return;
    }
    page.push_str("<table>\n<tr><th>member</th><th>form</th><th></th></tr>\n");
    for (name, required, schema) in rows {
        let required = if required { " (required)" } else { "" };
        let _ = writeln!(
            page,
            "<tr><td><code>{}</code>{required}</td><td>{}</td><td>{}</td></tr>",
            escaped(name),
            form(schema),
            marked(&schema["description"]),
        );
    }
    page.push_str("</table>\n");
}

/// The members of an object; of anything else, none.
pub(super) fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

/// The items of a list; of anything else, none.
pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

/// Text in which what stands in backticks is code and lines stay lines.
fn marked(value: &Value) -> String {
    let mut marked = String::new();
    for (i, part) in text(value).split('`').enumerate() {
        if i % 2 == 1 {
            let _ = write!(marked, "<code>{part}</code>");
        } else {
            marked.push_str(&part.replace('\n', "<br>"));
        }
    }
    marked
}

/// Text as HTML has it.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            plain => escaped.push(plain),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_the_document_says_is_text_on_the_page() {
        let sly = "</style><script>alert('\"&')</script>";
        let document = json!({
            "info": {"title": sly, "version": sly, "summary": sly, "description": sly},
            "tags": [{"name": sly, "description": sly}],
            "paths": {sly: {"get": {
                "tags": [sly], "operationId": sly, "summary": sly,
                "security": [{"bearer": [sly]}],
                "parameters": [{"name": sly, "in": sly, "schema": {"type": sly, "pattern": sly}}],
                "requestBody": {"content": {sly: {"schema": {"enum": [sly]}, "example": sly}}},
                "responses": {sly: {"description": sly, "content": {"a": {"schema": {"$ref": sly}}}}},
            }}},
            "components": {"schemas": {sly: {
                "description": sly,
                "properties": {sly: {"description": sly, "const": sly, "format": sly}},
            }}},
        });
        let page = html(&document);
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("</style>").count(), 1);
        assert_eq!(page.matches("&lt;script&gt;").count(), page.matches("alert").count());
    }
}
