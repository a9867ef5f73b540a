//! The engine by itself: what it is, what it counts, and what it leaves to a module.

use wasi_common::pipe::WritePipe;

use super::*;

fn allowance(fuel: u64) -> Allowance {
    Allowance { fuel, memory_bytes: 1 << 20, is_narrow: false }
}

/// Runs a module in an empty directory; its outcome, and what it printed.
fn run(binary: &[u8], allowance: Allowance) -> (Outcome, String) {
    let work = tempfile::tempdir().unwrap();
    let params = Params::read(&Map::new()).unwrap();
    let (stdout, stderr) = (WritePipe::new_in_memory(), WritePipe::new_in_memory());
    let world =
        host::world(&params, &[], work.path(), [Box::new(stdout.clone()), Box::new(stderr)]);
    let outcome = engine::run(binary, allowance, world.unwrap());
    let printed = stdout.try_into_inner().unwrap().into_inner();
    (outcome, String::from_utf8(printed).unwrap())
}

fn text(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).unwrap()
}

#[test]
fn the_known_module_is_the_text_beside_it_and_burns_what_is_known() {
    assert_eq!(KNOWN, text(include_str!("known.wat")));
    let (outcome, printed) = run(KNOWN, allowance(1000));
    assert_eq!(outcome, Outcome { fuel: KNOWN_FUEL, ending: Ok(0) });
    assert_eq!(printed, KNOWN_OUTPUT);
}

#[test]
fn the_engine_is_the_one_that_is_linked_in() {
    let lock = include_str!("../../../../Cargo.lock");
    let version = lock.split("name = \"wasmtime\"\nversion = \"").nth(1).unwrap();
    let release = version.split('.').next().unwrap();
    assert_eq!(ENGINE, format!("wasmtime-{release}"));
}

#[test]
fn a_narrow_address_space_changes_nothing() {
    let fill = |last: u32| {
        let module = text(&format!(
            r#"(module (memory (export "memory") 1) (func (export "_start") (local $at i32)
                 (loop (i32.store (local.get $at) (i32.const 7))
                   (local.set $at (i32.add (local.get $at) (i32.const 4)))
                   (br_if 0 (i32.lt_u (local.get $at) (i32.const 65536))))
                 (drop (i32.load (i32.const {last})))))"#
        ));
        let (wide, _) = run(&module, allowance(1 << 30));
        let (narrow, _) = run(&module, Allowance { is_narrow: true, ..allowance(1 << 30) });
        assert_eq!(wide.ending, narrow.ending);
        (wide, narrow)
    };
    let (wide, narrow) = fill(65_532);
    assert_eq!((&wide.ending, wide.fuel), (&Ok(0), narrow.fuel));
    assert!(wide.fuel > 16_384 * 5, "{}", wide.fuel);
    // What a module burnt that trapped is not known, nor is it paid.
    let (code, why) = fill(65_533).0.ending.unwrap_err();
    assert_eq!((code, why.contains("out of bounds")), (FailureCode::Signal, true), "{why}");
}

#[test]
fn memory_is_what_the_job_has_and_no_is_not_an_answer() {
    let grow = |pages: u32, most: &str| {
        text(&format!(
            r#"(module (memory (export "memory") 1 {most}) (func (export "_start")
                 (if (i32.eq (memory.grow (i32.const {pages})) (i32.const -1))
                   (then unreachable))))"#
        ))
    };
    // 1 MiB is sixteen pages, of which it has one.
    assert_eq!(run(&grow(15, ""), allowance(1000)).0.ending, Ok(0));
    assert_eq!(run(&grow(16, ""), allowance(1000)).0.ending.unwrap_err().0, FailureCode::Oom);
    // Its own limit is another matter: that is the same everywhere.
    assert_eq!(run(&grow(5, "3"), allowance(1000)).0.ending.unwrap_err().0, FailureCode::Signal);
    let greedy = text(r#"(module (memory (export "memory") 17) (func (export "_start")))"#);
    assert_eq!(run(&greedy, allowance(1000)).0.ending.unwrap_err().0, FailureCode::Oom);
    let two = text(r#"(module (memory 9) (memory 9) (func (export "_start")))"#);
    assert_eq!(run(&two, allowance(1000)).0.ending.unwrap_err().0, FailureCode::Oom);
    let many = text(&format!("(module {} (func (export \"_start\")))", "(memory 0)".repeat(17)));
    assert_eq!(run(&many, allowance(1000)).0.ending.unwrap_err().0, FailureCode::Input);
    let narrow = Allowance { is_narrow: true, ..allowance(1000) };
    assert_eq!(run(&grow(15, ""), narrow).0.ending, Ok(0));
    assert_eq!(run(&grow(16, ""), narrow).0.ending.unwrap_err().0, FailureCode::Oom);
}

#[test]
fn fuel_ends_a_module_at_its_next_loop_or_call() {
    let (outcome, printed) = run(KNOWN, allowance(0));
    assert_eq!(outcome.ending.unwrap_err().0, FailureCode::Timeout);
    assert_eq!((outcome.fuel, printed.as_str()), (0, ""));
    let endless =
        text(r#"(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))"#);
    let (outcome, _) = run(&endless, allowance(1000));
    assert_eq!(outcome.ending.unwrap_err().0, FailureCode::Timeout);
    assert!((990..=1000).contains(&outcome.fuel), "{}", outcome.fuel);
    assert_eq!(run(KNOWN, allowance(KNOWN_FUEL)).0.ending, Ok(0));
}

#[test]
fn what_the_engine_needs_comes_out_of_the_jobs_memory() {
    assert_eq!(guest_bytes(100 << 20), 50 << 20);
    assert_eq!(guest_bytes(1 << 30), (1 << 30) - ENGINE_BYTES);
    assert_eq!(guest_bytes(u64::MAX), LARGEST_MEMORY);
}
