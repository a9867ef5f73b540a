//! Wasmtime with every choice made that could make two nodes differ, and a module run in it.

use protocol::FailureCode;
use rustix::io::Errno;
use wasi_common::{I32Exit, WasiCtx};
use wasmtime::{Config, Engine, Linker, Module, OptLevel, ResourceLimiter, Store, Trap};

/// The largest module, in bytes.
pub(super) const LARGEST_MODULE: u64 = 64 << 20;

/// The stack of a module, in bytes; of the 8 MiB that a thread usually has.
const STACK_BYTES: usize = 1 << 20;

/// What one entry of a table takes, in bytes.
const ENTRY_BYTES: usize = 16;

/// What a memory that grows in a narrow address space has in reserve, so that not every step moves
/// it, in bytes.
const GROWTH_BYTES: u64 = 16 << 20;

/// Memories and tables of one module, each.
const MOST_OF_A_KIND: usize = 16;

/// What a module may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Fuel: about one unit for an instruction.
    pub(super) fuel: u64,
    /// Its memories and tables together, in bytes.
    pub(super) memory_bytes: u64,
    /// Whether the address space of this process has a limit. Then memory is checked at every
    /// access instead of being fenced in by 4 GiB of unused addresses: slower, with the same result.
    pub(super) is_narrow: bool,
}

/// What became of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The fuel that it burnt.
    pub(super) fuel: u64,
    /// Its exit code, or why it has none.
    pub(super) ending: Result<i32, (FailureCode, String)>,
}

/// Runs the module `binary` in `world`.
pub(super) fn run(binary: &[u8], allowance: Allowance, world: WasiCtx) -> Outcome {
    let input = |error: wasmtime::Error| Outcome {
        fuel: 0,
        ending: Err((FailureCode::Input, format!("the module cannot be run: {error:#}"))),
    };
    let engine = match Engine::new(&settings(allowance)) {
        Ok(engine) => engine,
        Err(error) => return input(error),
    };
    let module = match Module::from_binary(&engine, binary) {
        Ok(module) => module,
        Err(error) => return input(error),
    };
    let most = usize::try_from(allowance.memory_bytes).unwrap_or(usize::MAX);
    let guest = Guest { world, room: Room { most, used: 0 } };
    let mut store = Store::new(&engine, guest);
    store.limiter(|guest| &mut guest.room);
    let started = store.set_fuel(allowance.fuel).and_then(|()| start(&engine, &module, &mut store));
    let left = store.get_fuel().unwrap_or(0);
    Outcome { fuel: allowance.fuel.saturating_sub(left), ending: ending(started, allowance.fuel) }
}

/// Every choice that decides what a module computes, how much fuel it burns and which modules are
/// taken is made here, whatever the defaults of this or a later release are.
fn settings(allowance: Allowance) -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(false)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(OptLevel::Speed)
        .memory_init_cow(false)
        .max_wasm_stack(STACK_BYTES)
        .wasm_backtrace(false)
        .wasm_bulk_memory(true)
        .wasm_multi_value(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(true)
        .wasm_multi_memory(true)
        .wasm_memory64(false)
        .wasm_extended_const(true)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
    if allowance.is_narrow {
        config
            .memory_reservation(0)
            .memory_reservation_for_growth(GROWTH_BYTES)
            .memory_guard_size(0);
    }
    config
}

struct Guest {
    world: WasiCtx,
    room: Room,
}

fn start(
    engine: &Engine,
    module: &Module,
    store: &mut Store<Guest>,
) -> Result<(), wasmtime::Error> {
    let mut linker = Linker::new(engine);
    wasi_common::sync::add_to_linker(&mut linker, |guest: &mut Guest| &mut guest.world)?;
    let instance = linker.instantiate_pre(module).map_err(|error| error.context(Unfit))?;
    let instance = instance.instantiate(&mut *store).map_err(|error| {
        let began = error.is::<Trap>() || error.is::<I32Exit>();
        if began { error } else { error.context(Unfit) }
    })?;
    let start = instance.get_typed_func::<(), ()>(&mut *store, "_start");
    start.map_err(|error| error.context(Unfit))?.call(store, ())
}

/// The module asks for what is not there, or is no program.
#[derive(Debug, thiserror::Error)]
#[error("the module cannot be run")]
struct Unfit;

/// Memories and tables have grown to what they may take.
#[derive(Debug, thiserror::Error)]
#[error("the module's memory is used up")]
struct Full;

fn ending(started: Result<(), wasmtime::Error>, fuel: u64) -> Result<i32, (FailureCode, String)> {
    let Err(error) = started else { return Ok(0) };
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Ok(exit.0);
    }
    // A mapping that the system refuses is memory that is not there.
    Err(if error.is::<Full>() || error.is::<Errno>() {
        (FailureCode::Oom, Full.to_string())
    } else if error.is::<Unfit>() {
        (FailureCode::Input, format!("{error:#}"))
    } else {
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => {
                (FailureCode::Timeout, format!("the fuel is used up: max_fuel is {fuel}"))
            }
            Some(trap) => (FailureCode::Signal, format!("the module trapped: {trap}")),
            None => (FailureCode::Signal, format!("the module was ended: {error:#}")),
        }
    })
}

/// How much memories and tables may take together. Whoever wants more is ended: told "no", a module
/// might go on, and its result would depend on the node.
struct Room {
    most: usize,
    used: usize,
}

impl Room {
    fn take(&mut self, current: usize, desired: usize, most: Option<usize>) -> Result<bool, Full> {
        if most.is_some_and(|most| desired > most) {
            // More than the module itself declares: "no" on every node.
            return Ok(false);
        }
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.most {
            return Err(Full);
        }
        self.used = used;
        Ok(true)
    }
}

impl ResourceLimiter for Room {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.take(current, desired, maximum)?)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error.context(Full))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |entries: usize| entries.saturating_mul(ENTRY_BYTES);
        Ok(self.take(bytes(current), bytes(desired), maximum.map(bytes))?)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        Err(error.context(Full))
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        MOST_OF_A_KIND
    }

    fn memories(&self) -> usize {
        MOST_OF_A_KIND
    }
}
