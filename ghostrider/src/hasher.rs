//! A plan with its memory: what a mining thread keeps.

use crate::cryptonight::Kernel;
use crate::{Hash, Header, Plan, Scratchpad};

/// Hashes headers in memory of its own. One for each thread.
pub struct Hasher {
    plan: Plan,
    scratchpad: Scratchpad,
}

impl Hasher {
    /// What [`Hasher::tuned`] lets its measurement choose from, in bytes: four of `cn/fast`, eight
    /// of all others.
    pub const TUNING_BYTES: usize = 8 << 20;

    /// The fastest kernel and the widths of [`Plan::new`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_plan(Plan::new(Kernel::best()))
    }

    /// The fastest kernel and the widths that a measurement of about a second finds.
    #[must_use]
    pub fn tuned() -> Self {
        let mut scratchpad = Scratchpad::new(Self::TUNING_BYTES);
        let plan = Plan::tuned(Kernel::best(), scratchpad.blocks());
        Self { plan, scratchpad }
    }

    /// A plan of one's own.
    #[must_use]
    pub fn with_plan(plan: Plan) -> Self {
        Self { plan, scratchpad: Scratchpad::new(plan.scratchpad_bytes()) }
    }

    /// How it hashes.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The hash of one header.
    #[must_use]
    pub fn hash(&mut self, header: &Header) -> Hash {
        let mut hashes = [[0; 32]];
        let finished = self.hash_batch(core::slice::from_ref(header), &mut hashes, || true);
        debug_assert!(finished, "nothing stopped it");
        hashes[0]
    }

    /// The hashes of up to [`MAX_BATCH`](crate::MAX_BATCH) headers, with a pause between hashes: see
    /// [`Plan::hash_batch`].
    ///
    /// # Panics
    /// If there are more headers than that, or not as many hashes as headers.
    #[must_use]
    pub fn hash_batch(
        &mut self,
        headers: &[Header],
        hashes: &mut [Hash],
        proceed: impl FnMut() -> bool,
    ) -> bool {
        self.plan.hash_batch(headers, self.scratchpad.blocks(), hashes, proceed)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}
