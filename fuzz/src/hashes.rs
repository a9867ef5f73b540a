//! The kernels of CryptoNight against each other: no bytes may make one differ.

use ghostrider::cryptonight::{Kernel, Variant};
use ghostrider::{MAX_BATCH, Scratchpad};

/// What variant 1 needs at least, in bytes.
const SHORTEST: usize = 43;

/// First byte: which CryptoNight; above the last one, the quickest. Second: how many hashes side by
/// side. Third: which of them the portable kernel computes, too. The rest is what is hashed.
pub fn cryptonight(data: &[u8]) {
    let [variant, count, checked, rest @ ..] = data else { return };
    let variant = Variant::ALL.get(usize::from(*variant)).copied();
    let variant = variant.unwrap_or(Variant::TurtleLite);
    let count = 1 + usize::from(*count) % MAX_BATCH;
    let checked = usize::from(*checked) % count;
    let inputs: Vec<Vec<u8>> = (0..count).map(|i| input(rest, i)).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();

    let mut scratchpad = Scratchpad::new(count * variant.scratchpad_bytes());
    let mut expected = [[0; 32]];
    let one = &inputs[checked..=checked];
    Kernel::PORTABLE.hash(variant, one, scratchpad.blocks(), &mut expected);
    let mut first: Option<Vec<[u8; 32]>> = None;
    for kernel in Kernel::available().filter(|kernel| *kernel != Kernel::PORTABLE) {
        let mut hashes = vec![[0; 32]; count];
        kernel.hash(variant, &inputs, scratchpad.blocks(), &mut hashes);
        let what = format!("{}, {}, {count} at once", kernel.name(), variant.name());
        assert_eq!(hashes[checked], expected[0], "{what}");
        assert_eq!(&hashes, first.get_or_insert_with(|| hashes.clone()), "{what}");
    }
}

/// All different, none too short.
fn input(bytes: &[u8], number: usize) -> Vec<u8> {
    let mut input = bytes.to_vec();
    input.resize(bytes.len().max(SHORTEST), 0);
    input[number] ^= number as u8;
    input
}
