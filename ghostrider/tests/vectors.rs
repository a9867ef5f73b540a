//! The published vectors on every kernel that the CPU has: every core, every CryptoNight, whole
//! hashes with their stages.

use ghostrider::cores::Core;
use ghostrider::cryptonight::{Kernel, Variant, WIDTHS};
use ghostrider::{Hash, Hasher, Header, Plan, Rotation, Scratchpad};
use serde_json::Value;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors.json")).expect("vectors.json is JSON")
}

fn list<'a>(vectors: &'a Value, key: &str) -> &'a [Value] {
    vectors[key].as_array().expect("a list of vectors")
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a string")).expect("hex digits")
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("another length")
}

fn index(value: &Value) -> usize {
    value.as_u64().expect("an index") as usize
}

fn indices(value: &Value) -> Vec<usize> {
    value.as_array().expect("a list").iter().map(index).collect()
}

#[test]
fn every_core() {
    let vectors = vectors();
    let cores = list(&vectors, "core");
    assert_eq!(cores.len(), 80);
    for vector in cores {
        let core = Core::ALL[index(&vector["index"])];
        assert_eq!(core.name(), vector["name"]);
        let input = bytes(&vector["input"]);
        let found = hex::encode(core.hash(&input));
        assert_eq!(found, vector["hash"], "{} of {} bytes", core.name(), input.len());
    }
}

#[test]
fn every_rotation() {
    let vectors = vectors();
    let headers = list(&vectors, "ghostrider");
    assert_eq!(headers.len(), 36);
    for vector in headers {
        let rotation = Rotation::of(&array(&vector["header"]));
        let cores = rotation.cores.map(|core| core as usize);
        assert_eq!(cores.to_vec(), indices(&vector["core_order"]), "{}", vector["note"]);
        let variants = rotation.variants.map(|variant| variant as usize);
        assert_eq!(variants.to_vec(), indices(&vector["cn_order"]), "{}", vector["note"]);
    }
}

#[test]
fn every_cryptonight_on_every_kernel_and_width() {
    let vectors = vectors();
    let hashes = list(&vectors, "cn");
    assert_eq!(hashes.len(), 20);
    let mut scratchpad = Scratchpad::new(16 << 20);
    for vector in hashes {
        let variant = Variant::ALL[index(&vector["index"])];
        assert_eq!(variant.name(), vector["name"]);
        let input = bytes(&vector["input"]);
        for kernel in Kernel::available() {
            let widths = if kernel == Kernel::PORTABLE { &WIDTHS[..1] } else { &WIDTHS };
            for &width in widths {
                let mut outputs = vec![[0; 32]; width];
                let inputs = vec![&input[..]; width];
                kernel.hash(variant, &inputs, scratchpad.blocks(), &mut outputs);
                for output in outputs {
                    let what = format!("{} on {}, {width}-way", variant.name(), kernel.name());
                    assert_eq!(hex::encode(output), vector["hash"], "{what}");
                }
            }
        }
    }
}

/// The stages by hand, from the public parts: the cores, then the CryptoNights.
#[test]
fn every_stage() {
    let vectors = vectors();
    let mut scratchpad = Scratchpad::new(2 << 20);
    for vector in list(&vectors, "ghostrider") {
        let header: Header = array(&vector["header"]);
        let rotation = Rotation::of(&header);
        let mut message = header.to_vec();
        let names = [("core_1_5", "cn_1"), ("core_6_10", "cn_2"), ("core_11_15", "cn_3")];
        for (round, (cores, cryptonight)) in names.into_iter().enumerate() {
            for core in &rotation.cores[5 * round..5 * round + 5] {
                message = core.hash(&message).to_vec();
            }
            assert_eq!(hex::encode(&message), vector["stages"][cores], "{}", vector["note"]);
            let mut output = [[0; 32]];
            let variant = rotation.variants[round];
            Kernel::best().hash(variant, &[&message], scratchpad.blocks(), &mut output);
            assert_eq!(hex::encode(output[0]), vector["stages"][cryptonight], "{}", vector["note"]);
            message = output[0].to_vec();
            message.resize(64, 0);
        }
    }
}

#[test]
fn every_header_on_every_kernel() {
    let vectors = vectors();
    let shares = list(&vectors, "ghostrider_shares_found_by_stock_xmrig");
    assert_eq!(shares.len(), 1);
    for kernel in Kernel::available() {
        let mut hasher = Hasher::with_plan(Plan::new(kernel));
        for vector in list(&vectors, "ghostrider").iter().chain(shares) {
            let found = hasher.hash(&array(&vector["header"]));
            assert_eq!(hex::encode(found), vector["hash"], "{}: {}", kernel.name(), vector["note"]);
        }
    }
}

#[test]
fn a_batch_of_any_headers_gives_each_its_hash() {
    let vectors = vectors();
    // The last two differ in the nonce only: they are interleaved, the others are not.
    let vectors = &list(&vectors, "ghostrider")[29..];
    let headers: Vec<Header> = vectors.iter().map(|vector| array(&vector["header"])).collect();
    assert_eq!(headers[5][4..36], headers[6][4..36]);
    let mut hashes: Vec<Hash> = vec![[0; 32]; headers.len()];
    assert!(Hasher::new().hash_batch(&headers, &mut hashes, || true));
    for (hash, vector) in hashes.iter().zip(vectors) {
        assert_eq!(hex::encode(hash), vector["hash"], "{}", vector["note"]);
    }
}
