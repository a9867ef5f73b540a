//! The fifteen cores against an independent implementation in C, on messages of every length around
//! the blocks' edges.

mod sphlib;

use ghostrider::cores::Core;

/// Two blocks and a bit of the largest block, 128 bytes.
const LONGEST: usize = 300;

#[test]
fn every_core_of_every_length() {
    let mut message = [0; LONGEST];
    for core in Core::ALL {
        let oracle = sphlib::of(core);
        for length in 0..=LONGEST {
            let expected = oracle(&message[..length]);
            let found = core.hash(&message[..length]);
            assert_eq!(hex::encode(found), hex::encode(expected), "{core:?} of {length} bytes");
            // The next messages are of what came out: as good as random.
            for (i, digest) in found.into_iter().enumerate() {
                message[(length + i) % LONGEST] ^= digest;
            }
        }
    }
}
