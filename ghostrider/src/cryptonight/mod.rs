//! CryptoNight, variant 1, in the six sizes of GhostRider: 64 bytes to 32 bytes through a
//! scratchpad.

mod kernel;
mod portable;
mod state;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use kernel::widest;
pub use kernel::{Kernel, WIDTHS};
use state::State;

/// 16 bytes of a scratchpad.
pub type Block = [u8; 16];

/// What a CryptoNight gives.
pub type Output = [u8; 32];

/// Asked, in the midst of a hash, whether it is to be finished. Who wants a pause blocks in it.
pub(crate) type Proceed<'a> = &'a mut dyn FnMut() -> bool;

/// How many iterations of the loop are done between two questions: about a millisecond.
const STEP: usize = 4096;

/// One of the six CryptoNights, in the order of GhostRider's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Variant {
    /// `cn/dark`: 512 KiB.
    Dark,
    /// `cn/dark-lite`: 512 KiB, of which the loop uses half.
    DarkLite,
    /// `cn/fast`: 2 MiB.
    Fast,
    /// `cn/lite`: 1 MiB.
    Lite,
    /// `cn/turtle`: 256 KiB.
    Turtle,
    /// `cn/turtle-lite`: 256 KiB, of which the loop uses half.
    TurtleLite,
}

impl Variant {
    /// All, by index.
    pub const ALL: [Self; 6] =
        [Self::Dark, Self::DarkLite, Self::Fast, Self::Lite, Self::Turtle, Self::TurtleLite];

    /// The name that miners use, such as `cn/dark`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dark => "cn/dark",
            Self::DarkLite => "cn/dark-lite",
            Self::Fast => "cn/fast",
            Self::Lite => "cn/lite",
            Self::Turtle => "cn/turtle",
            Self::TurtleLite => "cn/turtle-lite",
        }
    }

    /// The blocks that the definition fills and folds.
    const fn blocks(self) -> usize {
        match self {
            Self::Dark | Self::DarkLite => 512 << 6,
            Self::Fast => 2048 << 6,
            Self::Lite => 1024 << 6,
            Self::Turtle | Self::TurtleLite => 256 << 6,
        }
    }

    /// The blocks that the loop reads and writes: the first ones. What is above them is folded as
    /// it was filled.
    const fn used_blocks(self) -> usize {
        match self {
            Self::DarkLite | Self::TurtleLite => self.blocks() / 2,
            _ => self.blocks(),
        }
    }

    /// How often the loop runs.
    const fn iterations(self) -> usize {
        match self {
            Self::Dark | Self::DarkLite => 131_072,
            Self::Fast | Self::Lite => 262_144,
            Self::Turtle | Self::TurtleLite => 65_536,
        }
    }

    /// The scratchpad that one hash needs, in bytes.
    #[must_use]
    pub const fn scratchpad_bytes(self) -> usize {
        self.used_blocks() * size_of::<Block>()
    }
}
