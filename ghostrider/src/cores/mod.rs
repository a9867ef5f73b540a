//! The fifteen 512-bit hashes that GhostRider chains between its CryptoNights: eight from crates
//! and seven written from their specifications.

mod cubehash;
mod echo;
mod fugue;
mod haifa;
mod hamsi;
mod luffa;
mod shavite;
mod simd;

use bmw_hash::Digest as _;
use groestl::Digest as _;

/// What each core gives: 512 bits.
pub type Digest = [u8; 64];

/// One of the fifteen cores, in the order of GhostRider's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Core {
    /// BLAKE-512, the SHA-3 finalist.
    Blake,
    /// Blue Midnight Wish 512.
    Bmw,
    /// Grøstl-512.
    Groestl,
    /// JH-512.
    Jh,
    /// Keccak-512 with the padding of before SHA-3 (0x01).
    Keccak,
    /// Skein-512-512.
    Skein,
    /// Luffa-512, version 2.
    Luffa,
    /// CubeHash160+16/32+160-512.
    CubeHash,
    /// SHAvite-3-512.
    Shavite,
    /// SIMD-512.
    Simd,
    /// ECHO-512.
    Echo,
    /// Hamsi-512.
    Hamsi,
    /// Fugue-512.
    Fugue,
    /// Shabal-512.
    Shabal,
    /// Whirlpool of ISO/IEC 10118-3.
    Whirlpool,
}

impl Core {
    /// All, by index.
    pub const ALL: [Self; 15] = [
        Self::Blake,
        Self::Bmw,
        Self::Groestl,
        Self::Jh,
        Self::Keccak,
        Self::Skein,
        Self::Luffa,
        Self::CubeHash,
        Self::Shavite,
        Self::Simd,
        Self::Echo,
        Self::Hamsi,
        Self::Fugue,
        Self::Shabal,
        Self::Whirlpool,
    ];

    /// The name that miners use, such as `blake512`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blake => "blake512",
            Self::Bmw => "bmw512",
            Self::Groestl => "groestl512",
            Self::Jh => "jh512",
            Self::Keccak => "keccak512",
            Self::Skein => "skein512",
            Self::Luffa => "luffa512",
            Self::CubeHash => "cubehash512",
            Self::Shavite => "shavite512",
            Self::Simd => "simd512",
            Self::Echo => "echo512",
            Self::Hamsi => "hamsi512",
            Self::Fugue => "fugue512",
            Self::Shabal => "shabal512",
            Self::Whirlpool => "whirlpool",
        }
    }

    /// The hash of a message of any length.
    #[must_use]
    pub fn hash(self, message: &[u8]) -> Digest {
        match self {
            Self::Blake => crate::blake::hash_512(message),
            Self::Bmw => bmw_hash::Bmw512::digest(message).into(),
            Self::Groestl => groestl::Groestl512::digest(message).into(),
            Self::Jh => jh::Jh512::digest(message).into(),
            Self::Keccak => sha3::Keccak512::digest(message).into(),
            Self::Skein => skein::Skein512::<skein::digest::consts::U64>::digest(message).into(),
            Self::Luffa => luffa::hash(message),
            Self::CubeHash => cubehash::hash(message),
            Self::Shavite => shavite::hash(message),
            Self::Simd => simd::hash(message),
            Self::Echo => echo::hash(message),
            Self::Hamsi => hamsi::hash(message),
            Self::Fugue => fugue::hash(message),
            Self::Shabal => shabal::Shabal512::digest(message).into(),
            Self::Whirlpool => whirlpool::Whirlpool::digest(message).into(),
        }
    }
}
