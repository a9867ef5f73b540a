//! The wasm runner: small modules with one sin each, and that one module is the same everywhere.

use protocol::JobId;
use serde_json::{Value, json};

use crate::rig::Rig;

/// What every module here begins with.
const WASI: &str = r#"
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir"
    (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink"
    (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 1)
"#;

fn module(rest: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {WASI} {rest})")).unwrap()
}

fn program(body: &str) -> Vec<u8> {
    module(&format!(r#"(func (export "_start") {body})"#))
}

impl Rig {
    async fn submit_module(&self, binary: &[u8], change: Value) -> JobId {
        let sha256 = self.upload(binary).await;
        let mut job = json!({
            "runner": {"kind": "wasm"}, "max_attempts": 1,
            "input": {"files": [{"name": "module.wasm", "sha256": sha256}]},
            "limits": {"max_fuel": 10_000_000, "max_runtime_s": 60},
        });
        for (key, value) in change.as_object().unwrap() {
            job[key] = value.clone();
        }
        self.submit(job).await
    }
}

/// Everything that could differ from one run to the next, printed: random numbers, both clocks,
/// before and after an hour's sleep, arguments, environment, a directory, what is said of it, and a
/// sum that has no number.
const SEEKER: &str = r#"
    (drop (call $random (i32.const 1024) (i32.const 64)))
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 1088)))
    (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 1096)))
    (i64.store (i32.const 24) (i64.const 3600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 60)))
    (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 1104)))
    (drop (call $stat (i32.const 3) (i32.const 1112)))
    (drop (call $readdir (i32.const 3) (i32.const 1200) (i32.const 512) (i64.const 0) (i32.const 60)))
    (drop (call $args (i32.const 1720) (i32.const 1760)))
    (drop (call $environ (i32.const 1900) (i32.const 1940)))
    (f64.store (i32.const 2040)
      (f64.div (f64.const 0) (f64.sub (f64.const 1) (f64.const 1))))
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 1024))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 60)))
"#;

#[tokio::test]
async fn the_same_module_and_input_give_the_same_output_and_the_same_fuel() {
    let price = json!({"wasm": {"unit_type": "fuel", "unit_price": "0.001"}});
    let rig = Rig::with_prices(json!({"workloads": price})).await;
    let binary = program(SEEKER);
    let asked = json!({
        "args": ["one", "two"], "params": {"seed": 7, "env": {"A": "b"}},
        "constraints": {"engine": "wasmtime-36"}, "artifacts": [{"path": "out.txt"}],
    });
    let mut runs = Vec::new();
    for _ in 0..2 {
        // A node of its own each time, with directories of its own.
        let node = rig.run().await;
        let id = rig.submit_module(&binary, asked.clone()).await;
        let result = rig.result(id).await;
        let receipt = rig.receipt(id).await;
        assert_eq!(receipt.unit_type, protocol::job::UnitType::Fuel);
        assert_eq!(receipt.units.to_string(), result.metrics["fuel"].to_string());
        assert_eq!(receipt.verify(), Ok(()));
        assert_eq!(rig.credits(id).await, 1);
        let output = rig.download(id, 1).await;
        runs.push((result.output_sha.unwrap(), result.metrics["fuel"].clone(), output));
        node.end().await;
    }
    assert_eq!(runs[0], runs[1]);
    let output = &runs[0].2;
    let number = |at: usize| u64::from_le_bytes(output[at..at + 8].try_into().unwrap());
    assert_eq!(number(64), 1_704_067_200_000_000_000);
    assert_eq!(number(80) - number(64), 3_600_000_000_000);
    assert_eq!(number(1016), 0x7ff8_0000_0000_0000);
    assert!(output.windows(5).any(|part| part == b"input"));
    assert!(output.windows(7).any(|part| part == b"one\0two") && !output[..64].contains_all_zero());

    // The control: another seed is another output.
    let node = rig.run().await;
    let mut other = asked;
    other["params"]["seed"] = 8.into();
    let id = rig.submit_module(&binary, other).await;
    assert_ne!(rig.result(id).await.output_sha.unwrap(), runs[0].0);
    node.end().await;
}

trait ContainsAllZero {
    fn contains_all_zero(&self) -> bool;
}

impl ContainsAllZero for [u8] {
    fn contains_all_zero(&self) -> bool {
        self.iter().all(|byte| *byte == 0)
    }
}

#[tokio::test]
async fn every_end_of_a_module_has_its_code() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let small = json!({"limits": {"max_fuel": 10_000_000, "ram_mb": 600}});
    for (binary, change, code, message) in [
        (program("(loop (br 0))"), json!({}), "E_TIMEOUT", "the fuel is used up"),
        (
            program("(loop (br_if 0 (i32.ne (memory.grow (i32.const 64)) (i32.const -1))))"),
            small.clone(),
            "E_OOM",
            "memory is used up",
        ),
        (
            module(
                r#"(table 1 funcref) (func (export "_start")
                   (drop (table.grow 0 (ref.null func) (i32.const 100000000))))"#,
            ),
            small,
            "E_OOM",
            "memory is used up",
        ),
        (program("unreachable"), json!({}), "E_SIGNAL", "unreachable"),
        (
            program("(drop (i32.load (i32.const -1)))"),
            json!({}),
            "E_SIGNAL",
            "out of bounds memory access",
        ),
        (
            module(r#"(func $deep (call $deep)) (func (export "_start") (call $deep))"#),
            json!({}),
            "E_SIGNAL",
            "call stack exhausted",
        ),
        (program("(call $exit (i32.const 3))"), json!({}), "E_EXIT", "code 3"),
        (program("(call $exit (i32.const 126))"), json!({}), "E_SIGNAL", "exit status"),
        (b"\0asm\x01\0\0\0\xff\xff\xff".to_vec(), json!({}), "E_INPUT", "cannot be run"),
        (b"(module)".to_vec(), json!({}), "E_INPUT", "cannot be run"),
        (Vec::new(), json!({}), "E_INPUT", "cannot be run"),
        (module(""), json!({}), "E_INPUT", "_start"),
        (
            wat::parse_str(r#"(module (import "env" "steal" (func)))"#).unwrap(),
            json!({}),
            "E_INPUT",
            "env::steal",
        ),
        (
            wat::parse_str("(module (memory 1 1 shared))").unwrap(),
            json!({}),
            "E_INPUT",
            "threads must be enabled",
        ),
        (program(""), json!({"params": {"module": "other"}}), "E_INPUT", "not among the input"),
        (program(""), json!({"params": {"unknown": 1}}), "E_INPUT", "unknown field"),
        (
            program(""),
            json!({"params": {"env": {"A": "\u{1}".repeat(70_000)}}}),
            "E_INPUT",
            "64 KiB",
        ),
    ] {
        let id = rig.submit_module(&binary, change.clone()).await;
        let error = rig.failed(id, code).await.error.unwrap();
        assert!(error.message.contains(message), "{change}: {}", error.message);
        assert_eq!(rig.credits(id).await, 0);
    }
    node.end().await;
}

/// A module that tries to leave its directory, and traps where it can, or where it cannot even do
/// what it may.
#[tokio::test]
async fn a_module_stays_in_its_directory() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let try_open = |at: usize, text: &str, flags: u32, is_open: bool| {
        let wanted = if is_open { "i32.ne" } else { "i32.eq" };
        // To read, or to write what is to be made.
        let rights = if flags == 0 { 1 << 1 } else { 1 << 6 };
        format!(
            r#"(if ({wanted} (call $open (i32.const 3) (i32.const 1) (i32.const {at})
                 (i32.const {}) (i32.const {flags}) (i64.const {rights}) (i64.const 0) (i32.const 0)
                 (i32.const 8)) (i32.const 0)) (then unreachable))"#,
            text.len()
        )
    };
    let paths = [
        ("input/module.wasm", 0, true),
        ("made.txt", 1, true),
        ("input/made.txt", 1, false),
        ("../etc/passwd", 0, false),
        ("/etc/passwd", 0, false),
        ("input/../../etc/passwd", 0, false),
        ("link/passwd", 0, false),
        ("miner-node", 0, false),
    ];
    let mut data = r#"(data (i32.const 512) "/etclink")"#.to_owned();
    let mut body = "(drop (call $symlink (i32.const 512) (i32.const 4) (i32.const 3) \
                    (i32.const 516) (i32.const 4)))"
        .to_owned();
    for (number, (path, flags, is_open)) in paths.into_iter().enumerate() {
        let at = 1024 + number * 64;
        data += &format!(r#"(data (i32.const {at}) "{path}")"#);
        body += &try_open(at, path, flags, is_open);
    }
    let binary = module(&format!(r#"{data} (func (export "_start") {body})"#));
    let id = rig.submit_module(&binary, json!({"artifacts": [{"path": "made.txt"}]})).await;
    assert_eq!(rig.result(id).await.artifacts.len(), 1);
    node.end().await;
}

#[tokio::test]
async fn another_engine_is_not_this_one() {
    let rig = Rig::new().await;
    let node = rig.run().await;
    let told = node.node.capabilities();
    assert_eq!(told.engines, ["wasmtime-36".parse().unwrap()]);
    node.end().await;
}
