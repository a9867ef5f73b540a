//! HAIFA, the way in which ECHO and SHAvite-3 chain their blocks of 128 bytes: each compression also
//! takes how many bits of the message are hashed so far.
//! Source: Biham, Dunkelman, "A Framework for Iterative Hash Functions: HAIFA", 2007.

/// What ends the last block: the lengths of the message and of the digest.
const END: usize = 18;

/// Gives `compress` each block of the padded message and its counter. `end` writes the last bytes,
/// whose order the two define differently, from the message's length in bits.
pub(super) fn chain(
    message: &[u8],
    end: impl FnOnce(u128) -> [u8; END],
    mut compress: impl FnMut(&[u8; 128], u128),
) {
    let bits = 8 * message.len() as u128;
    let (blocks, rest) = message.as_chunks::<128>();
    for (index, block) in blocks.iter().enumerate() {
        compress(block, 1024 * (index as u128 + 1));
    }
    let mut last = [0; 128];
    last[..rest.len()].copy_from_slice(rest);
    last[rest.len()] = 0x80;
    // A block without a bit of the message has the counter 0.
    let mut counter = if rest.is_empty() { 0 } else { bits };
    if rest.len() >= 128 - END {
        compress(&last, counter);
        last = [0; 128];
        counter = 0;
    }
    last[128 - END..].copy_from_slice(&end(bits));
    compress(&last, counter);
}
