//! Every target over its corpus and over mutations of it: what libFuzzer does for hours, briefly
//! and always in the same way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fuzz::{Mutations, TARGETS, Target};

/// How many mutations are tried of each corpus, unless `FUZZ_CASES` says otherwise.
const MUTATIONS: usize = 400;

/// No sample is larger, in bytes.
const LARGEST: u64 = 4096;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn names(directory: &Path) -> BTreeSet<String> {
    let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    fs::read_dir(directory).unwrap().map(|entry| name(entry.unwrap().path())).collect()
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(root().join("corpus").join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in &files {
        assert!(file.metadata().unwrap().len() <= LARGEST, "{} is too large", file.display());
    }
    assert!(files.len() >= 3, "{target} has hardly any samples");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn replay(name: &str) {
    let (_, target): &(&str, Target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let samples = corpus(name);
    samples.iter().for_each(|sample| target(sample));
    let mut mutations = Mutations::new(&samples, 1);
    let cases = std::env::var("FUZZ_CASES").map_or(MUTATIONS, |cases| cases.parse().unwrap());
    for _ in 0..cases {
        let input = Shown(mutations.make());
        target(&input.0);
    }
}

/// Says with which input a target fell over.
struct Shown(Vec<u8>);

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with the input b\"{}\"", self.0.escape_ascii());
        }
    }
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*

        /// What is replayed here.
        const REPLAYED: &[&str] = &[$(stringify!($target)),*];
    };
}

replays! {
    allowlist amounts base_url bitcoin_pool bodies canonical cryptonight daemon_answers devices
    egress_request environment event_stream input_url jobs leased_job miner_conf miner_yaml
    mock_script model_servers monero_pool pool_address profiles receipt replies requests
    run_log runner_params scalars settings state_files upload
}

#[test]
fn each_target_has_a_program_a_corpus_and_a_replay() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len());
    assert_eq!(names(&root().join("corpus")), targets);
    assert_eq!(names(&root().join("fuzz_targets")), targets);
    assert_eq!(REPLAYED.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), targets);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for name in &targets {
        let program = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&program), "{name} is no program of Cargo.toml");
        let text = fs::read_to_string(root().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(text.contains(&format!("|data: &[u8]| fuzz::{name}(data)")), "{name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
}
