//! What the extractors of handlers ask of a request: parameters, headers, bodies, and with which
//! codes they refuse it.

use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, Parameter, RequestBody, SchemaObject};
use aide::operation::{
    OperationInput, ParamLocation, add_parameters, parameters_from_schema, set_body,
};
use protocol::miner::UploadMetadata;
use protocol::{ErrorCode, JobId, Sha256Hex};
use schemars::{JsonSchema, Schema, json_schema};
use serde_json::{Value, json};

use super::codes;
use crate::accounts::Caller;
use crate::artifacts::routes::RawFile;
use crate::artifacts::sending::{Asked, SHA256_HEADER};
use crate::artifacts::upload::Upload;
use crate::events::routes::{LAST_EVENT_ID, LastEvent};
use crate::wire::{Body, Bodyless, JobPath, Params, Segments};

/// Where the schemas of the path's segments wait, in order, until their names are known.
pub const SEGMENTS: &str = "x-segments";

// Keys and their scopes are said beside the route.
impl OperationInput for Caller {}

impl<T: JsonSchema> OperationInput for Body<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let schema = context.schema.subschema_for::<T>();
        let description = context.resolve_schema(&schema).get("description");
        let description = description.and_then(Value::as_str).map(ToOwned::to_owned);
        body(context, operation, "application/json", schema, description);
        codes::add(operation, &[ErrorCode::InvalidJson, ErrorCode::UnsupportedMediaType]);
        codes::add(operation, &[ErrorCode::InvalidPayload]);
        read(context, operation);
    }
}

impl OperationInput for Bodyless {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        codes::add(operation, &[ErrorCode::InvalidJson]);
        read(context, operation);
    }
}

/// What comes with every body that is read as a whole.
fn read(context: &mut GenContext, operation: &mut Operation) {
    let description = "A version 4 UUID: the same request again, with the same key, takes effect \
                       once and gets the same reply, where the operation is guarded.";
    let schema = json_schema!({
        "type": "object",
        "properties": {"Idempotency-Key": {
            "type": "string",
            "format": "uuid",
            "description": description,
        }},
    });
    header(context, operation, schema);
    codes::add(operation, &[ErrorCode::PayloadTooLarge, ErrorCode::InvalidIdempotencyKey]);
}

fn header(context: &mut GenContext, operation: &mut Operation, schema: Schema) {
    parameters(context, operation, schema, ParamLocation::Header);
}

/// One parameter for each member of an object.
fn parameters(
    context: &mut GenContext,
    operation: &mut Operation,
    schema: Schema,
    location: ParamLocation,
) {
    let mut parameters = parameters_from_schema(context, schema, location);
    parameters.iter_mut().for_each(never_null);
    add_parameters(context, operation, parameters);
}

fn body(
    context: &mut GenContext,
    operation: &mut Operation,
    media_type: &str,
    schema: Schema,
    description: Option<String>,
) {
    let schema = SchemaObject { json_schema: schema, external_docs: None, example: None };
    let content = MediaType { schema: Some(schema), ..MediaType::default() };
    let content = [(media_type.to_owned(), content)].into_iter().collect();
    let body = RequestBody { description, content, required: true, ..RequestBody::default() };
    set_body(context, operation, body);
}

impl<T: JsonSchema> OperationInput for Params<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        // Not by reference: the query as a whole is no type of the wire.
        let schema = T::json_schema(&mut context.schema);
        parameters(context, operation, schema, ParamLocation::Query);
        codes::add(operation, &[ErrorCode::InvalidParam]);
    }
}

/// What a query or a header does not say it leaves out; there is no null in it.
fn never_null(parameter: &mut Parameter) {
    use aide::openapi::ParameterSchemaOrContent::Schema as Form;

    let Form(schema) = &mut parameter.parameter_data_mut().format else { return };
    let schema = schema.json_schema.ensure_object();
    schema.remove("default");
    // The parameter has it.
    schema.remove("description");
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [one] = &types[..] {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(forms)) = schema.get_mut("anyOf") {
        forms.retain(|form| *form != json!({"type": "null"}));
        if let [Value::Object(one)] = &forms[..] {
            let one = one.clone();
            schema.remove("anyOf");
            schema.extend(one);
        }
    }
}

impl OperationInput for JobPath {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let schema = context.schema.subschema_for::<JobId>();
        segments(operation, vec![schema.into()]);
        codes::add(operation, &[ErrorCode::JobNotFound]);
    }
}

impl<T: JsonSchema> OperationInput for Segments<T> {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let schema = context.schema.subschema_for::<T>();
        let several = schema.get("prefixItems").and_then(Value::as_array).cloned();
        segments(operation, several.unwrap_or_else(|| vec![schema.into()]));
        codes::add(operation, &[ErrorCode::InvalidParam]);
    }
}

fn segments(operation: &mut Operation, schemas: Vec<Value>) {
    operation.extensions.insert(SEGMENTS.to_owned(), Value::Array(schemas));
}

impl OperationInput for Upload {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let metadata = context.schema.subschema_for::<UploadMetadata>();
        let schema = json_schema!({
            "type": "object",
            "properties": {
                "metadata": metadata,
                "artifact": {
                    "type": "array",
                    "items": {"type": "string", "contentMediaType": "application/octet-stream"},
                },
            },
        });
        let description = "The part `metadata` comes first; then one part `artifact` per file, \
                           whose file name is its path. All are kept or none.";
        let description = Some(description.to_owned());
        body(context, operation, "multipart/form-data", schema, description);
        codes::add(operation, &[ErrorCode::UnsupportedMediaType, ErrorCode::PayloadTooLarge]);
        codes::add(operation, &[ErrorCode::InvalidPayload, ErrorCode::HashMismatch]);
        codes::add(operation, &[ErrorCode::InvalidJson]);
    }
}

impl OperationInput for RawFile {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let hash = context.schema.subschema_for::<Sha256Hex>();
        let mut schema = json_schema!({"type": "object"});
        let object = schema.ensure_object();
        object.insert("properties".to_owned(), json!({SHA256_HEADER: hash}));
        header(context, operation, schema);
        let description = Some("The file, as it is.".to_owned());
        body(context, operation, "application/octet-stream", json_schema!({}), description);
        codes::add(operation, &[ErrorCode::InvalidParam, ErrorCode::PayloadTooLarge]);
        codes::add(operation, &[ErrorCode::InvalidPayload, ErrorCode::HashMismatch]);
    }
}

impl OperationInput for Asked {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let schema = json_schema!({
            "type": "object",
            "properties": {
                "Range": {
                    "type": "string",
                    "description": "One range of bytes, as `bytes=0-1023`; for anything else \
                                    the whole file is sent.",
                },
                "If-Range": {
                    "type": "string",
                    "description": "The `ETag` of the file of which a part is wanted; of another \
                                    file the whole is sent.",
                },
                "If-None-Match": {
                    "type": "string",
                    "description": "The `ETag` of the file that the receiver has.",
                },
            },
        });
        header(context, operation, schema);
        codes::add(operation, &[ErrorCode::RangeNotSatisfiable]);
    }
}

impl OperationInput for LastEvent {
    fn operation_input(context: &mut GenContext, operation: &mut Operation) {
        let mut schema = json_schema!({"type": "object"});
        let after = json!({
            "type": "integer",
            "format": "uint32",
            "minimum": 0,
            "description": "The `id` of the last event that the client has.",
        });
        schema.ensure_object().insert("properties".to_owned(), json!({LAST_EVENT_ID: after}));
        header(context, operation, schema);
        codes::add(operation, &[ErrorCode::InvalidParam]);
    }
}
