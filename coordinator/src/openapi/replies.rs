//! What the reply types of handlers say: status, media type, schema.

use std::marker::PhantomData;

use aide::generate::GenContext;
use aide::openapi::{
    Header, HeaderStyle, MediaType, Operation, ParameterSchemaOrContent, ReferenceOr, Response,
    SchemaObject, StatusCode,
};
use aide::operation::OperationOutput;
use protocol::{ErrorBody, ErrorCode};
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::Value;

use super::codes;
use super::page::Page;
use super::routes::Json;
use crate::accounts::Answer;
use crate::artifacts::sending::Download;
use crate::error::ApiError;
use crate::health::Metrics;
use crate::ledger::payouts::routes::Csv;
use crate::wire::{Created, Either, Recorded, Reply};

/// Replies of a type, with their statuses.
type Replies = Vec<(Option<u16>, Response)>;

/// Adds replies to an operation.
pub fn put(operation: &mut Operation, replies: Replies) {
    let known = &mut operation.responses.get_or_insert_default().responses;
    for (status, reply) in replies {
        known.insert(StatusCode::Code(status.unwrap_or(200)), ReferenceOr::Item(reply));
    }
}

fn reply(description: &str, media_type: &str, schema: Schema) -> Response {
    let schema = SchemaObject { json_schema: schema, external_docs: None, example: None };
    let content = MediaType { schema: Some(schema), ..MediaType::default() };
    Response {
        description: description.to_owned(),
        content: [(media_type.to_owned(), content)].into_iter().collect(),
        ..Response::default()
    }
}

fn json<T: JsonSchema>(context: &mut GenContext) -> Response {
    let schema = context.schema.subschema_for::<T>();
    let description = context.resolve_schema(&schema).get("description").and_then(Value::as_str);
    let description = description.unwrap_or("Done.").to_owned();
    reply(&description, "application/json", schema)
}

macro_rules! replies {
    ($(
        [$($of:tt)*] $name:ty: |$context:ident, $operation:ident| $replies:expr;
    )*) => {$(
        impl<$($of)*> OperationOutput for $name {
            type Inner = Self;

            fn inferred_responses(
                $context: &mut GenContext,
                $operation: &mut Operation,
            ) -> Replies {
                $replies
            }
        }
    )*};
}

replies! {
    [T: JsonSchema] Reply<T>: |context, _operation| vec![(Some(200), json::<T>(context))];
    [T: JsonSchema] Created<T>: |context, _operation| vec![(Some(201), json::<T>(context))];
    [T: JsonSchema] Recorded<T>: |context, _operation| {
        let again = json::<T>(context);
        let first = Response { description: "The first time.".to_owned(), ..again.clone() };
        vec![(Some(200), again), (Some(201), first)]
    };
    [A: OperationOutput, B: OperationOutput] Either<A, B>: |context, operation| {
        let either = A::inferred_responses(context, operation);
        let or = B::inferred_responses(context, operation);
        or.into_iter().fold(either, joined)
    };
    [R: OperationOutput] Answer<R>: |context, operation| {
        let guarded = [ErrorCode::IdempotencyInFlight, ErrorCode::IdempotencyKeyReused];
        codes::add(operation, &guarded);
        let mut replies = R::inferred_responses(context, operation);
        for (_, reply) in &mut replies {
            reply.headers.insert("Idempotent-Replayed".to_owned(), replayed());
        }
        replies
    };
    [] ApiError: |context, _operation| {
        // Codes are gathered elsewhere; here their envelope becomes known.
        context.schema.subschema_for::<ErrorBody>();
        Vec::new()
    };
    [] Metrics: |_context, _operation| vec![(Some(200), text("text/plain", "Measurements."))];
    [] Json: |_context, _operation| {
        let schema = json_schema!({"type": "object"});
        vec![(Some(200), reply("An OpenAPI 3.1 document.", "application/json", schema))]
    };
    [] Csv: |_context, _operation| vec![(Some(200), text("text/csv", "The lines alone."))];
    [] Page: |_context, _operation| vec![(Some(200), text("text/html", "A page."))];
    [] Download: |_context, _operation| {
        let description = "The file, as an attachment; its `X-Content-SHA256` is the hash of it, \
                           and so is its `ETag`. The media type is what the job declared.";
        let whole = reply(description, "*/*", json_schema!({}));
        let part = "The bytes that `Range` asks for; `Content-Range` says which of how many.";
        let part = Response { description: part.to_owned(), ..whole.clone() };
        let unchanged = "The receiver has it: `If-None-Match` names its `ETag`.".to_owned();
        let unchanged = Response { description: unchanged, ..Response::default() };
        vec![(Some(200), whole), (Some(206), part), (Some(304), unchanged)]
    };
    [T: JsonSchema] EventStream<T>: |context, _operation| {
        let event = context.schema.subschema_for::<T>();
        let schema = json_schema!({
            "type": "string",
            "description": "Server-sent events; the `data` of each is:",
            "contentMediaType": "application/json",
            "contentSchema": event,
        });
        vec![(Some(200), reply("Events, until the last.", "text/event-stream", schema))]
    };
}

/// Replies and one more: those of one status are one, in several media types.
fn joined(mut replies: Replies, (status, reply): (Option<u16>, Response)) -> Replies {
    match replies.iter_mut().find(|(known, _)| *known == status) {
        Some((_, known)) => known.content.extend(reply.content),
        None => replies.push((status, reply)),
    }
    replies
}

/// A reply of server-sent events, each with a `T` as its `data`. It only describes: a handler
/// whose reply type says less is described with `.replies::<EventStream<T>>()`.
#[derive(Debug)]
pub struct EventStream<T>(PhantomData<T>);

fn text(media_type: &str, description: &str) -> Response {
    reply(description, media_type, json_schema!({"type": "string"}))
}

fn replayed() -> ReferenceOr<Header> {
    let schema = json_schema!({"type": "string", "const": "true"});
    let schema = SchemaObject { json_schema: schema, external_docs: None, example: None };
    ReferenceOr::Item(Header {
        description: Some("The request took effect before: this is its reply of then.".to_owned()),
        style: HeaderStyle::Simple,
        required: false,
        deprecated: None,
        format: ParameterSchemaOrContent::Schema(schema),
        example: None,
        examples: Default::default(),
        extensions: Default::default(),
    })
}
