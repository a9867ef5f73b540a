//! The C functions of the RandomX reference implementation, which `randomx-rs` builds and links.
//!
//! `randomx-rs` itself can neither build a dataset on several threads, nor hash in a pipeline
//! without knowing all inputs beforehand, nor be used from several threads at all. The library can
//! do each of these, so its functions are declared here once more. That is only right for the
//! version that `Cargo.toml` pins: the tests at the end compare what can be compared.
//!
//! Nothing outside of this file is unsafe. Source of what may be called when, and from which
//! threads: `randomx.h` and `randomx.cpp` of version 1.2.1.

#![expect(unsafe_code, reason = "a C library is called; each call says why it is sound")]

use std::ffi::{c_int, c_uint, c_ulong, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{
    Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap,
};

/// The only use of the crate's own functions; without one, the library would not be linked.
pub(super) fn recommended() -> Flags {
    Flags(randomx_rs::RandomXFlag::get_recommended_flags().bits())
}

/// Whether memory that was written may be made executable, and stay writable at that. Some machines
/// refuse it to all programs or to services (`MemoryDenyWriteExecute`, `PR_SET_MDWE`, SELinux's
/// execmem); there the library would die of a signal at its first compiled program.
pub(super) fn may_execute(writable: bool) -> bool {
    const BYTES: usize = 4096;
    let (read_write, mut executable) =
        (ProtFlags::READ | ProtFlags::WRITE, MprotectFlags::READ | MprotectFlags::EXEC);
    executable.set(MprotectFlags::WRITE, writable);
    // SAFETY: a new mapping, wherever the kernel puts it.
    let Ok(page) =
        (unsafe { mmap_anonymous(ptr::null_mut(), BYTES, read_write, MapFlags::PRIVATE) })
    else {
        return false;
    };
    // SAFETY: nobody else knows of the mapping, and nothing in it is run.
    let may = unsafe { mprotect(page, BYTES, executable) }.is_ok();
    // SAFETY: it is not used any more.
    let _ = unsafe { munmap(page, BYTES) };
    may
}

/// `randomx_flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flags(c_uint);

impl Flags {
    pub(super) const LARGE_PAGES: Self = Self(1);
    pub(super) const HARD_AES: Self = Self(2);
    pub(super) const FULL_MEM: Self = Self(4);
    pub(super) const JIT: Self = Self(8);
    pub(super) const SECURE: Self = Self(16);

    pub(super) const fn with(self, other: Self, wanted: bool) -> Self {
        Self(if wanted { self.0 | other.0 } else { self.0 & !other.0 })
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Opaque types of the library.
mod opaque {
    #[repr(C)]
    pub(super) struct Cache([u8; 0]);
    #[repr(C)]
    pub(super) struct Dataset([u8; 0]);
    #[repr(C)]
    pub(super) struct Machine([u8; 0]);
}

unsafe extern "C" {
    fn randomx_alloc_cache(flags: c_uint) -> *mut opaque::Cache;
    fn randomx_init_cache(cache: *mut opaque::Cache, key: *const c_void, key_size: usize);
    fn randomx_release_cache(cache: *mut opaque::Cache);
    fn randomx_alloc_dataset(flags: c_uint) -> *mut opaque::Dataset;
    safe fn randomx_dataset_item_count() -> c_ulong;
    fn randomx_init_dataset(
        dataset: *mut opaque::Dataset,
        cache: *mut opaque::Cache,
        start_item: c_ulong,
        item_count: c_ulong,
    );
    fn randomx_get_dataset_memory(dataset: *mut opaque::Dataset) -> *mut c_void;
    fn randomx_release_dataset(dataset: *mut opaque::Dataset);
    fn randomx_create_vm(
        flags: c_uint,
        cache: *mut opaque::Cache,
        dataset: *mut opaque::Dataset,
    ) -> *mut opaque::Machine;
    fn randomx_destroy_vm(machine: *mut opaque::Machine);
    fn randomx_calculate_hash_first(
        machine: *mut opaque::Machine,
        input: *const c_void,
        input_size: usize,
    );
    fn randomx_calculate_hash_next(
        machine: *mut opaque::Machine,
        next_input: *const c_void,
        next_input_size: usize,
        output: *mut c_void,
    );
    fn randomx_calculate_hash_last(machine: *mut opaque::Machine, output: *mut c_void);

    // C11 7.6.4, of the system's libm.
    fn fegetenv(environment: *mut c_void) -> c_int;
    fn fesetenv(environment: *const c_void) -> c_int;
}

/// The length of an item of the dataset, in bytes.
pub(super) const ITEM_BYTES: usize = 64;

/// How many items a dataset has.
pub(super) fn item_count() -> u64 {
    randomx_dataset_item_count()
}

/// An initialised cache.
pub(super) struct Cache(NonNull<opaque::Cache>);

// SAFETY: after `randomx_init_cache` the library only reads a cache, whoever asks: dataset items
// and light machines on any number of threads. Only `drop` frees it, and that owns it.
unsafe impl Send for Cache {}
// SAFETY: as above.
unsafe impl Sync for Cache {}

impl Cache {
    /// `None` where the memory cannot be had.
    pub(super) fn new(flags: Flags, key: &[u8]) -> Option<Self> {
        // SAFETY: any combination of flags is allowed; the library catches its own exceptions.
        let cache = NonNull::new(unsafe { randomx_alloc_cache(flags.0) })?;
        // SAFETY: `cache` was just allocated, nobody else has it; the key is read for its length.
        unsafe { randomx_init_cache(cache.as_ptr(), key.as_ptr().cast(), key.len()) };
        Some(Self(cache))
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, released once; who needs it longer holds an `Arc`.
        unsafe { randomx_release_cache(self.0.as_ptr()) }
    }
}

/// The memory of a dataset.
struct Memory(NonNull<opaque::Dataset>);

// SAFETY: a pointer to memory of the library's; who writes it and who reads it is kept apart by
// `Filling` and `Dataset`.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Where it lies, and how long it is, in bytes.
    fn place(&self) -> (usize, usize) {
        // SAFETY: the dataset is allocated.
        let start = unsafe { randomx_get_dataset_memory(self.0.as_ptr()) };
        let items = usize::try_from(item_count()).unwrap_or(usize::MAX);
        (start.addr(), items.saturating_mul(ITEM_BYTES))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated by `Filling::new`, released once.
        unsafe { randomx_release_dataset(self.0.as_ptr()) }
    }
}

/// A dataset that is being filled, by any number of threads.
pub(super) struct Filling {
    memory: Arc<Memory>,
    cache: Arc<Cache>,
    /// The first item that nobody has begun.
    next: AtomicU64,
    /// How many items are written.
    written: AtomicU64,
}

impl Filling {
    /// An empty one. `None` where the memory cannot be had.
    pub(super) fn new(flags: Flags, cache: Arc<Cache>) -> Option<Self> {
        // SAFETY: any combination of flags is allowed; the library catches its own exceptions.
        let dataset = NonNull::new(unsafe { randomx_alloc_dataset(flags.0) })?;
        let memory = Arc::new(Memory(dataset));
        Some(Self { memory, cache, next: AtomicU64::new(0), written: AtomicU64::new(0) })
    }

    /// Asks the kernel for large pages instead of small ones, as far as it has them. To be called
    /// before anything is written. `false` where it refuses.
    pub(super) fn advise_huge(&self) -> bool {
        let page = rustix::param::page_size();
        let (start, length) = self.memory.place();
        let first = start.next_multiple_of(page);
        let length = (start + length).saturating_sub(first);
        // SAFETY: the pages lie within one allocation, and the advice changes no content.
        unsafe { madvise(ptr::without_provenance_mut(first), length, Advice::LinuxHugepage) }
            .is_ok()
    }

    /// Writes the next `count` items; `false` where all are begun already.
    pub(super) fn step(&self, count: u64) -> bool {
        let take = |next| (next < item_count()).then(|| item_count().min(next + count));
        let Ok(start) = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) else {
            return false;
        };
        let count = item_count().min(start + count) - start;
        // SAFETY: both are alive. `next` gives each range to one thread only, within the dataset,
        // and nobody reads it before `finish`. The library allows several threads to fill
        // different ranges at once (`randomx.h` at randomx_init_dataset).
        unsafe {
            randomx_init_dataset(self.memory.0.as_ptr(), self.cache.0.as_ptr(), start, count);
        }
        self.written.fetch_add(count, Ordering::Release);
        true
    }

    /// How many items are written.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// The dataset; `None` where items are missing.
    pub(super) fn finish(&self) -> Option<Dataset> {
        // From here on nobody writes: all ranges are given away, and all are written.
        (self.written() == item_count()).then(|| Dataset(Arc::clone(&self.memory)))
    }
}

/// A dataset with all its items.
#[derive(Clone)]
pub(super) struct Dataset(Arc<Memory>);

impl Dataset {
    /// Where the memory lies, and how long it is, in bytes.
    pub(super) fn place(&self) -> (usize, usize) {
        self.0.place()
    }
}

/// One that hashes.
pub(super) struct Machine {
    machine: NonNull<opaque::Machine>,
    /// What it reads.
    _source: Source,
}

enum Source {
    Cache { _alive: Arc<Cache> },
    Dataset { _alive: Dataset },
}

// SAFETY: a machine is memory without ties to a thread; it is used by one at a time (`&mut`).
unsafe impl Send for Machine {}

impl Machine {
    /// One that computes each item of the dataset when it needs it. `None` where the memory cannot
    /// be had.
    pub(super) fn light(flags: Flags, cache: Arc<Cache>) -> Option<Self> {
        let flags = flags.with(Flags::FULL_MEM, false);
        // SAFETY: the cache is initialised and lives as long as the machine; without FULL_MEM no
        // dataset is looked at.
        let machine =
            NonNull::new(unsafe { randomx_create_vm(flags.0, cache.0.as_ptr(), ptr::null_mut()) })?;
        Some(Self { machine, _source: Source::Cache { _alive: cache } })
    }

    /// One that reads the dataset. `None` where the memory cannot be had.
    pub(super) fn fast(flags: Flags, dataset: Dataset) -> Option<Self> {
        let flags = flags.with(Flags::FULL_MEM, true);
        let memory = dataset.0.0.as_ptr();
        // SAFETY: the dataset is complete and lives as long as the machine; with FULL_MEM no cache
        // is looked at.
        let machine = NonNull::new(unsafe { randomx_create_vm(flags.0, ptr::null_mut(), memory) })?;
        Some(Self { machine, _source: Source::Dataset { _alive: dataset } })
    }

    /// Begins the hash of `input`.
    pub(super) fn first(&mut self, input: &[u8]) {
        // SAFETY: the machine is alive and this thread's alone; the input is read for its length.
        unsafe {
            randomx_calculate_hash_first(self.machine.as_ptr(), input.as_ptr().cast(), input.len());
        }
    }

    /// Ends the hash that was begun, and begins that of `input`.
    pub(super) fn next(&mut self, input: &[u8]) -> [u8; 32] {
        let mut hash = [0; 32];
        let _floats = Floats::save();
        // SAFETY: as for `first`; the output has the 32 bytes that are written.
        unsafe {
            randomx_calculate_hash_next(
                self.machine.as_ptr(),
                input.as_ptr().cast(),
                input.len(),
                hash.as_mut_ptr().cast(),
            );
        }
        hash
    }

    /// Ends the hash that was begun.
    pub(super) fn last(&mut self) -> [u8; 32] {
        let mut hash = [0; 32];
        let _floats = Floats::save();
        // SAFETY: as for `next`.
        unsafe { randomx_calculate_hash_last(self.machine.as_ptr(), hash.as_mut_ptr().cast()) };
        hash
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: made by `light` or `fast`, destroyed once, before what it reads.
        unsafe { randomx_destroy_vm(self.machine.as_ptr()) }
    }
}

/// How this thread rounds floating-point numbers, put back when it is dropped.
///
/// A program of RandomX changes it. `randomx_calculate_hash` puts it back, `.._next` and `.._last`
/// do not, and Rust takes it for granted that nobody changes it.
struct Floats([u64; 16]);

impl Floats {
    fn save() -> Self {
        let mut floats = Self([0; 16]);
        // SAFETY: `fenv_t` is 32 bytes on x86-64 and 8 on aarch64 (glibc and musl); 128 are here.
        unsafe { fegetenv(floats.0.as_mut_ptr().cast()) };
        floats
    }
}

impl Drop for Floats {
    fn drop(&mut self) {
        // SAFETY: what `fegetenv` wrote.
        unsafe { fesetenv(self.0.as_ptr().cast()) };
    }
}

#[cfg(test)]
mod tests {
    use randomx_rs::RandomXFlag;

    use super::*;

    #[test]
    fn flags_are_those_of_the_crate() {
        for (ours, theirs) in [
            (Flags::LARGE_PAGES, RandomXFlag::FLAG_LARGE_PAGES),
            (Flags::HARD_AES, RandomXFlag::FLAG_HARD_AES),
            (Flags::FULL_MEM, RandomXFlag::FLAG_FULL_MEM),
            (Flags::JIT, RandomXFlag::FLAG_JIT),
            (Flags::SECURE, RandomXFlag::FLAG_SECURE),
        ] {
            assert_eq!(ours.0, theirs.bits());
        }
    }

    #[test]
    fn a_dataset_has_moneros_size() {
        // RANDOMX_DATASET_BASE_SIZE + RANDOMX_DATASET_EXTRA_SIZE of configuration.h.
        assert_eq!(item_count() as usize * ITEM_BYTES, 2_147_483_648 + 33_554_368);
    }

    #[test]
    fn rounding_is_put_back() {
        let cache = Arc::new(Cache::new(recommended(), b"key").unwrap());
        let mut machine = Machine::light(recommended(), cache).unwrap();
        machine.first(b"a");
        for input in 0..16_u8 {
            machine.next(&[input]);
            let (tiny, one) = (std::hint::black_box(f64::MIN_POSITIVE), std::hint::black_box(1.0));
            // Flushed to zero, or rounded up, where the library's settings are left behind.
            assert!(tiny / 2.0 > 0.0);
            assert_eq!(one + f64::EPSILON / 4.0, 1.0);
            assert_eq!(-one - f64::EPSILON / 4.0, -1.0);
        }
    }
}
