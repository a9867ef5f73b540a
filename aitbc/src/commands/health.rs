//! `aitbc health`

use protocol::client::Health;

use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::session::Session;

/// Asks whether the coordinator is well.
///
/// # Errors
/// Where it is not.
pub async fn run(session: &Session) -> Result<Ending, Failure> {
    let show = session.show(calls::health(), |output, health: Health| {
        output.fields(&[
            ("status", health.status),
            ("url", session.settings.url.to_string()),
            ("version", health.version),
            ("protocol", format!("{} (and since {})", health.protocol, health.oldest_protocol)),
            ("server_time", health.server_time.to_string()),
        ])
    });
    show.await
}
