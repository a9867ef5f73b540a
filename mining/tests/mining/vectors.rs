//! Every way of computing RandomX gives the hashes of the reference implementation.

use std::thread;

use mining::randomx::{Builder, Cache, Machine, Mode, self_test};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    rx0: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    key: String,
    input: String,
    hash: String,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str::<Vectors>(include_str!("../randomx.json")).unwrap().rx0
}

/// The vectors of each key, and the key.
fn by_key() -> Vec<(String, Vec<Vector>)> {
    let mut keys: Vec<(String, Vec<Vector>)> = Vec::new();
    for vector in vectors() {
        match keys.iter_mut().find(|(key, _)| *key == vector.key) {
            Some((_, list)) => list.push(vector),
            None => keys.push((vector.key.clone(), vec![vector])),
        }
    }
    keys
}

fn check(mode: Mode, machine: &mut Machine, vectors: &[Vector]) {
    for vector in vectors {
        let input = hex::decode(&vector.input).unwrap();
        assert_eq!(hex::encode(machine.hash(&input)), vector.hash, "{mode}: {}", vector.input);
    }
    // In a pipeline, each hash comes with the next input.
    let mut hashes = Vec::new();
    for vector in vectors {
        hashes.extend(machine.feed(&hex::decode(&vector.input).unwrap()));
    }
    hashes.extend(machine.finish());
    let expected: Vec<_> = vectors.iter().map(|vector| vector.hash.clone()).collect();
    let hashes: Vec<_> = hashes.into_iter().map(hex::encode).collect();
    assert_eq!(hashes, expected, "{mode}");
}

fn modes() -> Vec<Mode> {
    let fastest = Mode::fastest();
    let mut modes = vec![
        fastest,
        Mode::portable(),
        Mode { jit: false, ..fastest },
        Mode { hard_aes: false, ..fastest },
        Mode { secure: true, ..fastest },
    ];
    modes.dedup();
    modes
}

#[test]
fn light_machines_give_the_reference_hashes() {
    assert_eq!(vectors().len(), 13);
    for (key, vectors) in by_key() {
        for mode in modes() {
            let cache = Cache::new(mode, &hex::decode(&key).unwrap()).unwrap();
            check(mode, &mut Machine::light(&cache).unwrap(), &vectors);
        }
    }
}

#[test]
fn fast_machines_give_the_reference_hashes() {
    // One dataset only: it takes half a minute of two processors.
    let (key, vectors) = by_key().into_iter().max_by_key(|(_, list)| list.len()).unwrap();
    let cache = Cache::new(Mode::fastest(), &hex::decode(&key).unwrap()).unwrap();
    let builder = Builder::new(&cache).unwrap();
    assert!(builder.finish().is_none());
    let threads = thread::available_parallelism().unwrap().get();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| while builder.step() {});
        }
    });
    assert_eq!(builder.done_permille(), 1000);
    let dataset = builder.finish().unwrap();
    drop((cache, builder));
    assert_eq!(hex::encode(dataset.key()), key);
    check(dataset.mode(), &mut Machine::fast(&dataset).unwrap(), &vectors);
}

#[test]
fn this_machine_passes_its_own_test() {
    self_test(Mode::fastest()).unwrap();
    self_test(Mode::portable()).unwrap();
}
