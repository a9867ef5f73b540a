//! Which instructions hash: asked of the CPU once, then a value that stands for the answer.

#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{Block, Output, Proceed, State, Variant, portable};

/// How many hashes can be interleaved, ascending.
pub const WIDTHS: [usize; 6] = [1, 2, 3, 4, 6, 8];

/// A way to compute CryptoNight that this CPU has. All give the same hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kernel(Path);

/// Not public: whoever holds a [`Kernel`] knows that the CPU has its instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Path {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Aes,
    #[cfg(target_arch = "x86_64")]
    Avx,
    #[cfg(target_arch = "x86_64")]
    Vaes,
}

impl Kernel {
    /// The kernel that every CPU has.
    pub const PORTABLE: Self = Self(Path::Portable);

    /// The fastest that this CPU has.
    #[must_use]
    pub fn best() -> Self {
        Self::available().last().unwrap_or(Self::PORTABLE)
    }

    /// All that this CPU has, the slowest first. Without the feature `std`, what the compiler was
    /// told that the CPU has.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let paths = [
            (Path::Portable, true),
            (Path::Aes, has_aes()),
            (Path::Avx, has_aes() && has_avx()),
            (Path::Vaes, has_aes() && has_avx() && has_vaes()),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let paths = [(Path::Portable, true)];
        paths.into_iter().filter(|(_, available)| *available).map(|(path, _)| Self(path))
    }

    /// A name for logs: `portable`, `aes` (with SSE4.1), `avx` (with AVX2 and BMI2), `vaes`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Path::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Path::Aes => "aes",
            #[cfg(target_arch = "x86_64")]
            Path::Avx => "avx",
            #[cfg(target_arch = "x86_64")]
            Path::Vaes => "vaes",
        }
    }

    /// Hashes the inputs, interleaving up to eight at a time.
    ///
    /// # Panics
    /// If an input has less than 43 bytes, if there are not as many outputs as inputs, or if the
    /// scratchpad is smaller than [`Variant::scratchpad_bytes`] times the inputs (or eight, if they
    /// are more).
    pub fn hash(
        self,
        variant: Variant,
        inputs: &[&[u8]],
        scratchpad: &mut [Block],
        outputs: &mut [Output],
    ) {
        let finished = self.hash_while(variant, inputs, scratchpad, outputs, &mut || true);
        debug_assert!(finished, "nothing stopped it");
    }

    /// The same, with a question every millisecond or so; `false` where the answer was no: then the
    /// outputs mean nothing.
    pub(crate) fn hash_while(
        self,
        variant: Variant,
        inputs: &[&[u8]],
        scratchpad: &mut [Block],
        outputs: &mut [Output],
        proceed: Proceed<'_>,
    ) -> bool {
        assert_eq!(inputs.len(), outputs.len(), "one output for each input");
        let mut done = 0;
        while done < inputs.len() {
            let left = inputs.len() - done;
            let width = widest(left);
            let (inputs, outputs) = (&inputs[done..done + width], &mut outputs[done..done + width]);
            let finished = match width {
                8 => self.hash_lanes::<8>(variant, inputs, scratchpad, outputs, proceed),
                6 => self.hash_lanes::<6>(variant, inputs, scratchpad, outputs, proceed),
                4 => self.hash_lanes::<4>(variant, inputs, scratchpad, outputs, proceed),
                3 => self.hash_lanes::<3>(variant, inputs, scratchpad, outputs, proceed),
                2 => self.hash_lanes::<2>(variant, inputs, scratchpad, outputs, proceed),
                _ => self.hash_lanes::<1>(variant, inputs, scratchpad, outputs, proceed),
            };
            if !finished {
                return false;
            }
            done += width;
        }
        true
    }

    fn hash_lanes<const N: usize>(
        self,
        variant: Variant,
        inputs: &[&[u8]],
        scratchpad: &mut [Block],
        outputs: &mut [Output],
        proceed: Proceed<'_>,
    ) -> bool {
        let mut states: [State; N] = core::array::from_fn(|i| State::new(inputs[i]));
        let pads = &mut scratchpad[..N * variant.used_blocks()];
        let finished = match self.0 {
            Path::Portable => states.iter_mut().all(|state| {
                portable::run(variant, state, &mut pads[..variant.used_blocks()], proceed)
            }),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `available` gives this path only where the CPU has its instructions.
            #[expect(unsafe_code, reason = "instructions that not every CPU has")]
            Path::Aes => unsafe { x86::run(variant, &mut states, pads, proceed) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[expect(unsafe_code, reason = "instructions that not every CPU has")]
            Path::Avx => unsafe { x86::run_avx(variant, &mut states, pads, proceed) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            #[expect(unsafe_code, reason = "instructions that not every CPU has")]
            Path::Vaes => unsafe { x86::run_wide(variant, &mut states, pads, proceed) },
        };
        for (output, state) in outputs.iter_mut().zip(states) {
            *output = state.finish();
        }
        finished
    }
}

/// The greatest width that is not more than `count`.
pub(crate) fn widest(count: usize) -> usize {
    WIDTHS.into_iter().rfind(|width| *width <= count).unwrap_or(1)
}

/// Whether the CPU has all of these: asked at run time or, without the standard library, known to
/// the compiler.
#[cfg(target_arch = "x86_64")]
macro_rules! has {
    ($($feature:tt),*) => {{
        #[cfg(feature = "std")]
        let has = $(std::arch::is_x86_feature_detected!($feature))&&*;
        #[cfg(not(feature = "std"))]
        let has = cfg!(all($(target_feature = $feature),*));
        has
    }};
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    has!("aes", "sse4.1")
}

#[cfg(target_arch = "x86_64")]
fn has_avx() -> bool {
    has!("avx2", "bmi2")
}

#[cfg(target_arch = "x86_64")]
fn has_vaes() -> bool {
    has!("vaes")
}
