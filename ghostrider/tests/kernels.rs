//! Every kernel and every width against the portable one, on inputs that no vector has.

use ghostrider::cores::Core;
use ghostrider::cryptonight::{Kernel, Variant, WIDTHS};
use ghostrider::{Hasher, Header, MAX_BATCH, Plan, Scratchpad};

/// Inputs that differ in every byte: the digests of a counter.
fn inputs(seed: u64) -> Vec<[u8; 64]> {
    (0..8).map(|i| Core::Skein.hash(&(8 * seed + i).to_le_bytes())).collect()
}

fn slices(inputs: &[[u8; 64]]) -> Vec<&[u8]> {
    inputs.iter().map(|input| &input[..]).collect()
}

#[test]
fn every_width_of_every_kernel_agrees_with_the_portable_one() {
    let mut scratchpad = Scratchpad::new(16 << 20);
    for (seed, variant) in (1..).zip(Variant::ALL) {
        let inputs = inputs(seed);
        let inputs = slices(&inputs);
        let mut expected = [[0; 32]; 8];
        Kernel::PORTABLE.hash(variant, &inputs, scratchpad.blocks(), &mut expected);
        for kernel in Kernel::available() {
            for width in WIDTHS {
                let mut found = vec![[0; 32]; width];
                kernel.hash(variant, &inputs[..width], scratchpad.blocks(), &mut found);
                let what = format!("{} on {}, {width}-way", variant.name(), kernel.name());
                assert_eq!(found, expected[..width], "{what}");
            }
        }
    }
}

#[test]
fn any_number_of_inputs_is_hashed() {
    let inputs: Vec<[u8; 64]> = (0..2).flat_map(inputs).collect();
    let inputs = slices(&inputs[..13]);
    let mut scratchpad = Scratchpad::new(8 * Variant::TurtleLite.scratchpad_bytes());
    let mut one_by_one = [[0; 32]; 13];
    for (input, output) in inputs.iter().zip(&mut one_by_one) {
        let output = core::slice::from_mut(output);
        Kernel::best().hash(Variant::TurtleLite, &[input], scratchpad.blocks(), output);
    }
    for count in [0, 5, 7, 13] {
        let mut found = vec![[0; 32]; count];
        let inputs = &inputs[..count];
        Kernel::best().hash(Variant::TurtleLite, inputs, scratchpad.blocks(), &mut found);
        assert_eq!(found, one_by_one[..count]);
    }
}

#[test]
#[should_panic(expected = "range end index")]
fn a_scratchpad_that_is_too_small_is_refused() {
    let input = [0; 64];
    let mut scratchpad = vec![[0; 16]; Variant::Dark.scratchpad_bytes() / 16];
    let mut outputs = [[0; 32]; 2];
    Kernel::best().hash(Variant::Dark, &[&input, &input], &mut scratchpad, &mut outputs);
}

#[test]
#[should_panic(expected = "at least 43 bytes")]
fn an_input_without_a_tweak_is_refused() {
    let mut scratchpad = Scratchpad::new(Variant::Dark.scratchpad_bytes());
    Kernel::best().hash(Variant::Dark, &[&[0; 42]], scratchpad.blocks(), &mut [[0; 32]]);
}

/// Headers of one job: only the nonce differs.
fn job() -> Vec<Header> {
    let mut header: Header = core::array::from_fn(|i| (i * i) as u8);
    // Nibbles 4, 5 and 1 come first: the fastest rotation.
    header[4..6].copy_from_slice(&[0x54, 0x11]);
    (0..MAX_BATCH as u32)
        .map(|nonce| {
            header[76..].copy_from_slice(&nonce.to_le_bytes());
            header
        })
        .collect()
}

#[test]
fn a_batch_gives_what_single_hashes_give_at_every_width() {
    let headers = job();
    let mut single = Hasher::with_plan(Plan::new(Kernel::PORTABLE));
    let expected: Vec<_> = headers.iter().map(|header| single.hash(header)).collect();
    for width in WIDTHS {
        let mut plan = Plan::new(Kernel::best());
        for variant in Variant::ALL {
            plan = plan.with_width(variant, width);
            assert_eq!(plan.width(variant), width);
        }
        let mut hasher = Hasher::with_plan(plan);
        for count in 1..=MAX_BATCH {
            let mut hashes = vec![[0; 32]; count];
            assert!(hasher.hash_batch(&headers[..count], &mut hashes, || true));
            assert_eq!(hashes, expected[..count], "{count} headers, {width}-way");
        }
    }
}

#[test]
fn a_batch_asks_in_the_midst_of_its_hashes_and_stops_when_told() {
    let headers = job();
    let mut hasher = Hasher::with_plan(Plan::new(Kernel::best()).with_width(Variant::Turtle, 2));
    let mut hashes = [[0; 32]; MAX_BATCH];
    let mut asked = 0;
    assert!(hasher.hash_batch(&headers, &mut hashes, || {
        asked += 1;
        true
    }));
    let variants = ghostrider::Rotation::of(&headers[0]).variants;
    let width = |variant| hasher.plan().width(variant);
    // Every 4,096 iterations.
    let of_hash = |variant| match variant {
        Variant::Fast | Variant::Lite => 64,
        Variant::Dark | Variant::DarkLite => 32,
        Variant::Turtle | Variant::TurtleLite => 16,
    };
    let of_all = |variant| MAX_BATCH.div_ceil(width(variant)) * of_hash(variant);
    let all: usize = variants.into_iter().map(of_all).sum();
    assert_eq!(asked, all);

    for stop in (0..all).step_by(9) {
        let mut asked = 0;
        assert!(!hasher.hash_batch(&headers, &mut hashes, || {
            asked += 1;
            asked <= stop
        }));
        assert_eq!(asked, stop + 1, "nothing is hashed after the answer no");
    }
}

#[test]
fn a_tuned_plan_fits_its_scratchpad() {
    let mut scratchpad = Scratchpad::new(2 << 20);
    let plan = Plan::tuned(Kernel::best(), scratchpad.blocks());
    assert!(plan.scratchpad_bytes() <= scratchpad.size_bytes());
    assert_eq!(plan.width(Variant::Fast), 1);
    assert_eq!(Plan::tuned(Kernel::PORTABLE, scratchpad.blocks()), Plan::new(Kernel::PORTABLE));
}
