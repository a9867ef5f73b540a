//! GhostRider on a lane: first its tuning, then batches of hashes. How a hash comes about is in the
//! crate of that name.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ::ghostrider::cryptonight::{Kernel, Variant};
use ::ghostrider::{Hasher, Header, MAX_BATCH, Plan, Scratchpad, Tuning};
pub use ::ghostrider::{VariantSet, hash};

/// The length of a header, in bytes: what is hashed.
pub const HEADER_BYTES: usize = size_of::<Header>();

/// A share that a stock miner found, and its hash.
const SHARE: (&str, &str) = (
    "00000020a0eeca416f685330d93dda38dc86f5d3a9bfff55c68fda7a56b97872f05d9eb743fc7ff546f4d0f61aa1\
     8529914f2a07237e157a086f157aec6bda9e90a74c8b467c026bff1f002000800200",
    "466204f603ea6ddc0f09ef144f41d4ca208a50f05fda0cc627a8271ef74fa600",
);

/// How each lane hashes: the widths that it found to be the fastest. Lanes that let go of their
/// memory need not measure again. Clones are the same.
#[derive(Clone)]
pub struct Plans(Arc<[OnceLock<Plan>]>);

impl Plans {
    /// So many lanes, each of which measures for about a second when it first hashes, in small
    /// steps: those that hash at once share a cache, so they measure at once.
    pub fn tuned(lanes: usize) -> Self {
        Self((0..lanes).map(|_| OnceLock::new()).collect())
    }

    /// The same plan for so many lanes.
    pub fn fixed(lanes: usize, plan: Plan) -> Self {
        Self((0..lanes).map(|_| OnceLock::from(plan)).collect())
    }

    /// Whether all of the first `lanes` have found theirs.
    pub fn are_known(&self, lanes: usize) -> bool {
        self.0.iter().take(lanes).all(|plan| plan.get().is_some())
    }

    pub(crate) fn are(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn get(&self, lane: usize) -> Option<Plan> {
        self.0.get(lane)?.get().copied()
    }
}

/// The kernel and the first lane's widths: `vaes, widths 4 4 2 3 4 4`.
impl fmt::Display for Plans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(plan) = self.get(0) else {
            return write!(f, "{}, being tuned", Kernel::best().name());
        };
        write!(f, "{}, widths", plan.kernel().name())?;
        Variant::ALL.into_iter().try_for_each(|variant| write!(f, " {}", plan.width(variant)))
    }
}

impl fmt::Debug for Plans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(OnceLock::get)).finish()
    }
}

/// What a lane hashes with.
pub(crate) struct Machine {
    plans: Plans,
    lane: usize,
    state: State,
}

enum State {
    Tuning(Tuning, Scratchpad),
    Tuned(Hasher),
}

impl Machine {
    pub(crate) fn new(plans: &Plans, lane: usize) -> Self {
        let state = match plans.get(lane) {
            Some(plan) => State::Tuned(Hasher::with_plan(plan)),
            None => {
                State::Tuning(Tuning::new(Kernel::best()), Scratchpad::new(Hasher::TUNING_BYTES))
            }
        };
        Self { plans: plans.clone(), lane, state }
    }

    /// How large the scratchpad is, in bytes.
    pub(crate) fn scratchpad_bytes(&self) -> u64 {
        let bytes = match &self.state {
            State::Tuning(..) => Hasher::TUNING_BYTES,
            State::Tuned(_) => self.plans.get(self.lane).map_or(0, |plan| plan.scratchpad_bytes()),
        };
        bytes as u64
    }

    /// One small step towards the first hash; `false` where nothing is left to be prepared.
    pub(crate) fn prepare(&mut self) -> bool {
        let State::Tuning(tuning, scratchpad) = &mut self.state else { return false };
        if !tuning.step(scratchpad.blocks()) {
            let plan = tuning.plan();
            if let Some(kept) = self.plans.0.get(self.lane) {
                // Only this lane sets it.
                let _ = kept.set(plan);
            }
            self.state = State::Tuned(Hasher::with_plan(plan));
        }
        true
    }

    /// The hashes of the headers; `None` where `proceed`, which is asked every millisecond or so and may
    /// wait, said no, or where nothing is prepared yet.
    pub(crate) fn hash<'h>(
        &mut self,
        headers: &[Header],
        hashes: &'h mut [[u8; 32]; MAX_BATCH],
        proceed: impl FnMut() -> bool,
    ) -> Option<&'h [[u8; 32]]> {
        let State::Tuned(hasher) = &mut self.state else { return None };
        let hashes = hashes.get_mut(..headers.len())?;
        hasher.hash_batch(headers, hashes, proceed).then_some(&*hashes)
    }
}

/// Why this machine must not mine GhostRider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("GhostRider ({kernel}) computes {found} instead of {expected}: faulty processor or memory", expected = SHARE.1)]
pub struct SelfTestFailed {
    kernel: &'static str,
    found: String,
}

/// Hashes a known header as it is hashed when mining: a full batch. Takes a tenth of a second.
///
/// # Errors
/// Where a hash is wrong.
pub fn self_test() -> Result<(), SelfTestFailed> {
    let kernel = Kernel::best();
    let mut header = [0; HEADER_BYTES];
    // The digits are a constant of the right length; if not, the hash is wrong.
    let _ = hex::decode_to_slice(SHARE.0, &mut header);
    let mut hashes = [[0; 32]; MAX_BATCH];
    let mut hasher = Hasher::with_plan(Plan::new(kernel));
    let finished = hasher.hash_batch(&[header; MAX_BATCH], &mut hashes, || true);
    let found = hashes.into_iter().map(hex::encode).find(|hash| hash != SHARE.1 || !finished);
    found.map_or(Ok(()), |found| Err(SelfTestFailed { kernel: kernel.name(), found }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_passes_its_own_test() {
        self_test().unwrap();
    }

    #[test]
    fn a_lane_measures_once() {
        let plans = Plans::tuned(2);
        assert!(plans.to_string().ends_with(", being tuned"));
        let mut machine = Machine::new(&plans, 0);
        let mut hashes = [[0; 32]; MAX_BATCH];
        assert!(machine.hash(&[[0; 80]], &mut hashes, || true).is_none());
        assert_eq!(machine.scratchpad_bytes(), Hasher::TUNING_BYTES as u64);
        while machine.prepare() {}
        let bytes = plans.get(0).unwrap().scratchpad_bytes();
        assert!(bytes > 0 && machine.scratchpad_bytes() == bytes as u64);
        assert!(plans.are_known(1) && !plans.are_known(2));
        assert!(plans.to_string().contains(", widths "));
        let mut again = Machine::new(&plans, 0);
        assert!(!again.prepare());
        assert!(again.hash(&[[0; 80]; 3], &mut hashes, || false).is_none());
        assert_eq!(again.hash(&[[0; 80]; 3], &mut hashes, || true).unwrap().len(), 3);
    }
}
