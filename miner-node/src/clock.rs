//! The node's one clock.

use protocol::Timestamp;

/// The moment, by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}
