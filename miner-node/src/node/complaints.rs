//! What only the owner can put right, told again and again, but not too often.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::warn;

use super::Node;
use crate::clock;

/// How often the owner is told of something that only the owner can put right.
const PAUSE_MICROS: u64 = 60_000_000;

/// When the owner was told of what.
#[derive(Debug, Default)]
pub(super) struct Told {
    refusal_at: AtomicU64,
    space_at: AtomicU64,
}

impl Node {
    /// Tells the owner, at most once a minute, what only the owner can put right.
    pub fn complain(&self, what: &dyn std::fmt::Display) {
        self.rarely(&self.told.refusal_at, || {
            warn!(event = "refused", "{what}; check API_KEY, COORD_URL and the node's version");
        });
    }

    /// The same for a disk that is full.
    pub fn complain_of_space(&self, what: &str) {
        self.rarely(&self.told.space_at, || {
            warn!(event = "no_space", "no job is taken, there is too little space: {what}");
        });
    }

    fn rarely(&self, told_at: &AtomicU64, tell: impl FnOnce()) {
        let now = u64::try_from(clock::now().micros()).unwrap_or(0);
        let last = told_at.load(Ordering::Relaxed);
        if now.saturating_sub(last) >= PAUSE_MICROS {
            told_at.store(now, Ordering::Relaxed);
            tell();
        }
    }
}
