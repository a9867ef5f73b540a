//! How to hash on this machine: which kernel, and how many hashes of each CryptoNight at a time.

use crate::cryptonight::{Block, Kernel, Output, Proceed, Variant, widest};
use crate::{Hash, Header, MAX_BATCH, Rotation};

/// A kernel, and a width for each CryptoNight: how many hashes are interleaved, which pays as long
/// as their scratchpads fit in the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    kernel: Kernel,
    widths: [usize; Variant::ALL.len()],
}

impl Plan {
    /// A good guess for most desktop and server CPUs: four at a time, two of `cn/fast`; one at a
    /// time where there are no AES instructions.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        let mut plan = Self { kernel, widths: [1; 6] };
        if kernel != Kernel::PORTABLE {
            plan.widths = [4; 6];
            plan.widths[Variant::Fast as usize] = 2;
        }
        plan
    }

    /// The same with another width for one CryptoNight: the greatest of [`WIDTHS`](crate::cryptonight::WIDTHS) up to `width`.
    #[must_use]
    pub fn with_width(mut self, variant: Variant, width: usize) -> Self {
        self.widths[variant as usize] = widest(width);
        self
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// How many hashes of the CryptoNight are interleaved.
    #[must_use]
    pub fn width(&self, variant: Variant) -> usize {
        self.widths[variant as usize]
    }

    /// The scratchpad that the plan needs, in bytes.
    #[must_use]
    pub fn scratchpad_bytes(&self) -> usize {
        let bytes = |variant: Variant| self.width(variant) * variant.scratchpad_bytes();
        Variant::ALL.into_iter().map(bytes).max().unwrap_or_default()
    }

    /// Hashes up to [`MAX_BATCH`] headers. Headers with the same previous block, as those of one
    /// mining job, are interleaved; others are hashed one after the other.
    ///
    /// `proceed` is asked every millisecond or so, in the midst of hashes, too. It may block as long as
    /// mining is paused; when it says no, the batch is given up, and the result is `false`.
    ///
    /// # Panics
    /// If there are more than [`MAX_BATCH`] headers or not as many hashes as headers, or if the
    /// scratchpad is smaller than [`Plan::scratchpad_bytes`].
    #[must_use]
    pub fn hash_batch(
        &self,
        headers: &[Header],
        scratchpad: &mut [Block],
        hashes: &mut [Hash],
        mut proceed: impl FnMut() -> bool,
    ) -> bool {
        assert!(headers.len() <= MAX_BATCH, "a batch has at most {MAX_BATCH} headers");
        assert_eq!(headers.len(), hashes.len(), "one hash for each header");
        let mut done = 0;
        for headers in headers.chunk_by(|a, b| a[4..36] == b[4..36]) {
            let hashes = &mut hashes[done..done + headers.len()];
            if !self.hash_alike(headers, scratchpad, hashes, &mut proceed) {
                return false;
            }
            done += headers.len();
        }
        true
    }

    /// Headers with the same rotation.
    fn hash_alike(
        &self,
        headers: &[Header],
        scratchpad: &mut [Block],
        hashes: &mut [Hash],
        proceed: &mut impl FnMut() -> bool,
    ) -> bool {
        let rotation = Rotation::of(&headers[0]);
        let mut digests = [[0; 64]; MAX_BATCH];
        for (round, variant) in rotation.variants.into_iter().enumerate() {
            let cores = &rotation.cores[5 * round..5 * round + 5];
            for (i, digest) in digests[..headers.len()].iter_mut().enumerate() {
                let first: &[u8] = if round == 0 { &headers[i] } else { &*digest };
                let first = cores[0].hash(first);
                *digest = cores[1..].iter().fold(first, |digest, core| core.hash(&digest));
            }
            let width = self.width(variant);
            let groups = digests[..headers.len()].chunks(width);
            for (digests, outputs) in groups.zip(hashes.chunks_mut(width)) {
                if !self.cryptonight(variant, digests, scratchpad, outputs, proceed) {
                    return false;
                }
            }
            for (digest, hash) in digests.iter_mut().zip(&*hashes) {
                *digest = [0; 64];
                digest[..32].copy_from_slice(hash);
            }
        }
        true
    }

    fn cryptonight(
        &self,
        variant: Variant,
        digests: &[[u8; 64]],
        scratchpad: &mut [Block],
        outputs: &mut [Output],
        proceed: Proceed<'_>,
    ) -> bool {
        let mut inputs = [&[][..]; MAX_BATCH];
        for (input, digest) in inputs.iter_mut().zip(digests) {
            *input = digest;
        }
        self.kernel.hash_while(variant, &inputs[..digests.len()], scratchpad, outputs, proceed)
    }
}
