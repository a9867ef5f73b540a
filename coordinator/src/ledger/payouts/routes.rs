//! The HTTP of payouts.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::Timestamp;
use protocol::payout::{PaidOut, PayoutFile};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Period;
use crate::accounts::Caller;
use crate::app::SharedApp;
use crate::error::ApiError;
use crate::wire::{Body, Either, Params, Reply};

/// The query of `GET /v1/admin/payouts/export`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// From when on what was earned counts; as early as there is unless stated.
    since: Option<Timestamp>,
    /// Until when, exclusive; now unless stated.
    until: Option<Timestamp>,
    /// How the file is written.
    #[serde(default)]
    format: Format,
}

/// How the file is written.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// Whole and signed: what is marked as paid.
    #[default]
    Json,
    /// The lines alone, for a spreadsheet.
    Csv,
}

/// Lines for a spreadsheet (RFC 4180).
#[derive(Debug)]
pub struct Csv(String);

impl IntoResponse for Csv {
    fn into_response(self) -> Response {
        let content_type = HeaderValue::from_static("text/csv; charset=utf-8");
        ([(header::CONTENT_TYPE, content_type)], self.0).into_response()
    }
}

/// `GET /v1/admin/payouts/export`: changes nothing.
///
/// # Errors
/// 400, 403.
pub async fn export(
    State(app): State<SharedApp>,
    caller: Caller,
    Params(query): Params<Export>,
) -> Result<Either<Reply<PayoutFile>, Csv>, ApiError> {
    caller.admin()?;
    let now = app.now();
    let period = Period::new(query.since, query.until, now)?;
    let file = super::export(&app.db, now, &app.attestor, period).await?;
    Ok(match query.format {
        Format::Json => Either::Left(Reply(StatusCode::OK, file)),
        Format::Csv => Either::Right(Csv(file.to_csv())),
    })
}

/// `POST /v1/admin/payouts`: the file was paid. It is recognised by its id: a repeat says the same.
///
/// # Errors
/// 403, 409, 422.
pub async fn mark(
    State(app): State<SharedApp>,
    caller: Caller,
    body: Body<PayoutFile>,
) -> Result<Reply<PaidOut>, ApiError> {
    caller.admin()?;
    let (now, actor) = (app.now(), caller.key_id.as_str());
    let paid = super::mark(&app.db, now, actor, &app.attestor, &body.value).await?;
    Ok(Reply(StatusCode::OK, paid))
}
