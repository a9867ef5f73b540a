//! How a job becomes a block header, and a difficulty a target.

use sha2::{Digest as _, Sha256};

use super::message::{ExtraNonce, Notify};
use crate::ghostrider::HEADER_BYTES;
use crate::target::Target;

/// The header of a job whose transaction has these extra nonces; its own nonce is 0.
pub fn header(notify: &Notify, extra_nonce: &ExtraNonce, second: &[u8]) -> [u8; HEADER_BYTES] {
    let coinbase = Sha256::new()
        .chain_update(&notify.coinbase_start)
        .chain_update(&extra_nonce.first)
        .chain_update(second)
        .chain_update(&notify.coinbase_end);
    let mut root: [u8; 32] = Sha256::digest(coinbase.finalize()).into();
    for branch in &notify.branches {
        let pair = Sha256::new().chain_update(root).chain_update(branch);
        root = Sha256::digest(pair.finalize()).into();
    }
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&reversed(&notify.version));
    header[4..36].copy_from_slice(&reversed(&notify.previous));
    header[36..68].copy_from_slice(&root);
    header[68..72].copy_from_slice(&reversed(&notify.time));
    header[72..76].copy_from_slice(&reversed(&notify.bits));
    header
}

/// With the bytes of each word of four in the other order.
fn reversed<const BYTES: usize>(bytes: &[u8; BYTES]) -> [u8; BYTES] {
    let mut reversed = *bytes;
    reversed.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    reversed
}

/// The target of GhostRider's `difficulty`, whose 1 is `0xffff * 2^224`: rounded down, so that what
/// is below it is a share for every pool, however it rounds. `None` where nothing would be below.
pub fn target(difficulty: f64) -> Option<Target> {
    /// The upper 64 bits of the target of difficulty 1.
    const ONE: u128 = 0xffff << 32;
    /// Below this difficulty every hash is a share: 2^-16.
    const LEAST: f64 = 1.0 / 65_536.0;
    if !difficulty.is_finite() || difficulty <= 0.0 {
        return None;
    }
    if difficulty <= LEAST {
        return Some(Target::new(u64::MAX));
    }
    // Exactly: a floating-point number is a whole one, times a power of two.
    let bits = difficulty.to_bits();
    let exponent = i64::try_from(bits >> 52).ok()? - 1075;
    let whole = u128::from(bits & ((1 << 52) - 1) | 1 << 52);
    let bound = match u32::try_from(exponent) {
        Ok(exponent) => ONE / whole.checked_shl(exponent).filter(|_| exponent < 64)?,
        // Above the least difficulty the exponent is at least -69: nothing is lost at the top.
        Err(_) => (ONE << u32::try_from(-exponent).ok()?) / whole,
    };
    let bound = u64::try_from(bound).unwrap_or(u64::MAX);
    (bound > 0).then(|| Target::new(bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::HEADER_NONCE_AT;

    fn bytes<const BYTES: usize>(text: &str) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        hex::decode_to_slice(text, &mut bytes).unwrap();
        bytes
    }

    /// The first block of Bitcoin, whose header everybody knows.
    #[test]
    fn a_header_is_put_together_as_bitcoin_has_it() {
        let coinbase = "01000000010000000000000000000000000000000000000000000000000000000000000000\
            ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c6c\
            6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff\
            0100f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61de\
            b649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000";
        let coinbase = hex::decode(coinbase).unwrap();
        let notify = Notify {
            id: "genesis".into(),
            previous: [0; 32],
            coinbase_start: coinbase[..50].to_vec(),
            coinbase_end: coinbase[58..].to_vec(),
            branches: Vec::new(),
            version: bytes("00000001"),
            bits: bytes("1d00ffff"),
            time: bytes("495fab29"),
            clean: true,
        };
        let extra = ExtraNonce { first: coinbase[50..54].to_vec(), second_bytes: 4 };
        let mut header = header(&notify, &extra, &coinbase[54..58]);
        header[HEADER_NONCE_AT..].copy_from_slice(&2_083_236_893_u32.to_le_bytes());
        let hash = Sha256::digest(Sha256::digest(header));
        assert_eq!(
            hex::encode(hash),
            "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000"
        );
    }

    #[test]
    fn words_of_the_block_before_are_reversed() {
        let written: [u8; 32] = std::array::from_fn(|place| u8::try_from(place).unwrap());
        assert_eq!(reversed(&written)[..8], [3, 2, 1, 0, 7, 6, 5, 4]);
    }

    #[test]
    fn targets_are_rounded_down() {
        let one = 0xffff_u64 << 32;
        assert_eq!(target(1.0), Some(Target::new(one)));
        assert_eq!(target(0.5), Some(Target::new(one * 2)));
        assert_eq!(target(3.0), Some(Target::new(one / 3)));
        assert_eq!(target(1.0 / 65_536.0), Some(Target::new(u64::MAX)));
        assert_eq!(target(1e-300), Some(Target::new(u64::MAX)));
        // 0.002 is a little more than two thousandths.
        let bound = one as u128 * 500;
        let found = target(0.002).unwrap();
        assert!(found <= Target::new(u64::try_from(bound).unwrap()));
        assert!(found > Target::new(u64::try_from(bound).unwrap() - 64));
        assert_eq!(target(one as f64), Some(Target::new(1)));
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MAX, one as f64 * 2.0, 1e19, 1e30] {
            assert_eq!(target(wrong), None, "{wrong}");
        }
    }
}
