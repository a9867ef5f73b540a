//! RandomX as Monero uses it: caches, datasets, and the machines that hash with them.
//!
//! A seed makes a [`Cache`] (256 MiB, half a second). A [`Machine`] on it hashes slowly; a
//! [`Dataset`] (2080 MiB, made of the cache by many small [`Builder::step`]s) makes it fast.

use std::fmt;
use std::sync::Arc;

mod dataset;
mod library;
mod pages;
mod self_test;

pub use dataset::{Builder, Dataset, STEP_ITEMS};
pub use pages::Pages;
pub use self_test::{SelfTestFailed, self_test};

use library::Flags;

/// How the machines compute. The result is the same in every way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Programs are compiled rather than interpreted.
    pub jit: bool,
    /// Memory of compiled programs is never writable and executable at once; costs speed.
    pub secure: bool,
    /// The processor's own AES.
    pub hard_aes: bool,
    /// Memory of large pages that are reserved or permitted, for caches, datasets and, as far as
    /// they go, scratchpads; without them nothing can be allocated in this mode.
    pub reserved_pages: bool,
}

/// Memory that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory for RandomX's {what} ({mib} MiB{})", if *.reserved { " of reserved large pages" } else { "" })]
pub struct OutOfMemory {
    what: &'static str,
    mib: u32,
    reserved: bool,
}

#[cfg(test)]
impl OutOfMemory {
    /// That a dataset's memory cannot be had.
    pub(crate) const fn of_dataset(mode: Mode) -> Self {
        mode.lacks("dataset", 2080)
    }
}

impl Mode {
    /// The fastest one of this machine, without reserved pages: where it lets no memory be writable
    /// and executable at once, the secure one; where written memory may not be executed at all, the
    /// interpreter.
    pub fn fastest() -> Self {
        let flags = library::recommended();
        let at_once = library::may_execute(true);
        Self {
            jit: flags.has(Flags::JIT) && (at_once || library::may_execute(false)),
            secure: flags.has(Flags::SECURE) || !at_once,
            hard_aes: flags.has(Flags::HARD_AES),
            reserved_pages: false,
        }
    }

    /// The same, but [secure](Self::secure) if that is wished for.
    pub const fn or_secure(self, wish: bool) -> Self {
        Self { secure: self.secure || wish, ..self }
    }

    /// The one that relies on nothing: interpreter and AES by tables.
    pub const fn portable() -> Self {
        Self { jit: false, secure: false, hard_aes: false, reserved_pages: false }
    }

    fn flags(self) -> Flags {
        library::recommended()
            .with(Flags::JIT, self.jit)
            .with(Flags::SECURE, self.secure)
            .with(Flags::HARD_AES, self.hard_aes)
            .with(Flags::LARGE_PAGES, self.reserved_pages)
    }

    /// Scratchpads are small enough to do without large pages, where the others took the last one.
    fn on_any_pages<T>(self, allocate: impl Fn(Flags) -> Option<T>) -> Option<T> {
        let flags = self.flags();
        allocate(flags).or_else(|| allocate(flags.with(Flags::LARGE_PAGES, false)))
    }

    const fn lacks(self, what: &'static str, mib: u32) -> OutOfMemory {
        OutOfMemory { what, mib, reserved: self.reserved_pages }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let jit = match (self.jit, self.secure) {
            (true, false) => "jit",
            (true, true) => "secure jit",
            (false, _) => "interpreter",
        };
        write!(f, "{jit}, {} aes", if self.hard_aes { "hardware" } else { "software" })
    }
}

/// What a seed is turned into first.
#[derive(Clone)]
pub struct Cache {
    library: Arc<library::Cache>,
    mode: Mode,
    key: Arc<[u8]>,
}

impl Cache {
    /// The cache of the seed `key`. Takes about half a second. Clones are the same cache.
    ///
    /// # Errors
    /// Where its 256 MiB cannot be had.
    pub fn new(mode: Mode, key: &[u8]) -> Result<Self, OutOfMemory> {
        let library = library::Cache::new(mode.flags(), key);
        let library = Arc::new(library.ok_or_else(|| mode.lacks("cache", 256))?);
        Ok(Self { library, mode, key: key.into() })
    }

    /// The seed.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// How it was made, and how machines on it compute.
    pub const fn mode(&self) -> Mode {
        self.mode
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// One that hashes: 2 MiB of scratchpad and a program. It belongs to one thread at a time.
pub struct Machine {
    library: library::Machine,
    begun: bool,
}

impl Machine {
    /// The length of a scratchpad, in bytes.
    pub(crate) const SCRATCHPAD_BYTES: u64 = 2 << 20;

    /// A slow one, which needs no dataset.
    ///
    /// # Errors
    /// Where its scratchpad cannot be had.
    pub fn light(cache: &Cache) -> Result<Self, OutOfMemory> {
        let with = |flags| library::Machine::light(flags, Arc::clone(&cache.library));
        let library = cache.mode.on_any_pages(with);
        let library = library.ok_or_else(|| cache.mode.lacks("scratchpad", 2))?;
        Ok(Self { library, begun: false })
    }

    /// A fast one.
    ///
    /// # Errors
    /// Where its scratchpad cannot be had.
    pub fn fast(dataset: &Dataset) -> Result<Self, OutOfMemory> {
        let mode = dataset.mode();
        let with = |flags| library::Machine::fast(flags, dataset.library());
        let library = mode.on_any_pages(with);
        let library = library.ok_or_else(|| mode.lacks("scratchpad", 2))?;
        Ok(Self { library, begun: false })
    }

    /// The hash of `input`, at once.
    pub fn hash(&mut self, input: &[u8]) -> [u8; 32] {
        self.begun = false;
        self.library.first(input);
        self.library.last()
    }

    /// Begins the hash of `input` and returns the one that was begun before, if any: half of the
    /// next hash's preparation hides behind the end of the last one.
    pub fn feed(&mut self, input: &[u8]) -> Option<[u8; 32]> {
        if self.begun {
            return Some(self.library.next(input));
        }
        self.begun = true;
        self.library.first(input);
        None
    }

    /// Gives up the hash that was begun.
    pub const fn forget(&mut self) {
        self.begun = false;
    }

    /// The hash that was begun, if any.
    pub fn finish(&mut self) -> Option<[u8; 32]> {
        let begun = std::mem::take(&mut self.begun);
        begun.then(|| self.library.last())
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("begun", &self.begun).finish_non_exhaustive()
    }
}
