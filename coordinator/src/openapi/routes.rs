//! The HTTP of the document and its page. Both are the same for everybody, so they are made once.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::JSON_CONTENT_TYPE;

use super::page::{self, Page};
use crate::error::ApiError;
use crate::router;

/// The document as it is served; `None` where it cannot be written, which a test rules out.
static SERVED: LazyLock<Option<Served>> = LazyLock::new(|| {
    let document = router::document();
    let json = serde_json::to_vec(&document).ok()?;
    Some(Served { json: json.into(), html: page::html(&document).into() })
});

struct Served {
    json: Bytes,
    html: Bytes,
}

/// Bytes that are JSON already.
#[derive(Debug)]
pub struct Json(Bytes);

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        let content_type = HeaderValue::from_static(JSON_CONTENT_TYPE);
        (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], self.0).into_response()
    }
}

/// `GET /v1/openapi.json`.
///
/// # Errors
/// None that a test leaves possible.
pub async fn json() -> Result<Json, ApiError> {
    let served = SERVED.as_ref().ok_or_else(ApiError::internal)?;
    Ok(Json(served.json.clone()))
}

/// `GET /docs`.
///
/// # Errors
/// None that a test leaves possible.
pub async fn page() -> Result<Page, ApiError> {
    let served = SERVED.as_ref().ok_or_else(ApiError::internal)?;
    Ok(Page(served.html.clone()))
}
