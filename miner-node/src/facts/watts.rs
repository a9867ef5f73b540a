//! What the processors take, by the energy counters of `energy/`.

use std::path::Path;

use crate::energy::{Counter as _, Rapl, Reading, used};

/// The least time over which a quotient means anything.
const SHORTEST_MS: u64 = 200;

#[derive(Debug)]
pub(super) struct Watts {
    counter: Rapl,
    before: Option<(u64, Vec<Option<Reading>>)>,
}

impl Watts {
    pub(super) fn at(root: &Path) -> Self {
        Self { counter: Rapl::at(&root.join("sys/class/powercap")), before: None }
    }

    /// On average since the look before; `None` where nothing counts, and at the first look.
    pub(super) fn since_last(&mut self, at_ms: u64) -> Option<f64> {
        let now = self.counter.read();
        if !now.iter().any(Option::is_some) {
            return None;
        }
        let (before_ms, before) = self.before.replace((at_ms, now.clone()))?;
        let ms = at_ms.checked_sub(before_ms).filter(|ms| *ms >= SHORTEST_MS)?;
        Some(used(&[before], &[now]) * 1000.0 / ms as f64)
    }
}
