//! The dataset, and how it comes about: in small steps, so that whoever builds it can be stopped.

use std::fmt;
use std::sync::{Arc, OnceLock};

use super::{Cache, Mode, OutOfMemory, Pages, library};

/// How many items one step writes: about 3 ms of work, so that nobody waits longer for the
/// processor.
pub const STEP_ITEMS: u64 = 2048;

/// A dataset under construction. Any number of threads call [`Builder::step`].
pub struct Builder {
    library: library::Filling,
    cache: Cache,
    advised: bool,
    pages: OnceLock<Pages>,
}

impl Builder {
    /// Allocates the 2080 MiB, on large pages as far as the kernel has any.
    ///
    /// # Errors
    /// Where the memory cannot be had.
    pub fn new(cache: &Cache) -> Result<Self, OutOfMemory> {
        Self::with(cache, !cache.mode().reserved_pages)
    }

    /// The same without asking for large pages: for a machine whose owner does not want them.
    ///
    /// # Errors
    /// Where the memory cannot be had.
    pub fn on_small_pages(cache: &Cache) -> Result<Self, OutOfMemory> {
        Self::with(cache, false)
    }

    fn with(cache: &Cache, advise: bool) -> Result<Self, OutOfMemory> {
        let mode = cache.mode();
        let library = library::Filling::new(mode.flags(), Arc::clone(&cache.library));
        let library = library.ok_or_else(|| mode.lacks("dataset", 2080))?;
        // Between allocation and the first write: pages that are there already stay small.
        let advised = advise && library.advise_huge();
        Ok(Self { library, cache: cache.clone(), advised, pages: OnceLock::new() })
    }

    /// Does one small part of the work; `false` where nothing is left to be begun.
    pub fn step(&self) -> bool {
        self.library.step(STEP_ITEMS)
    }

    /// How much is done, in thousandths.
    pub fn done_permille(&self) -> u64 {
        self.library.written() * 1000 / library::item_count()
    }

    /// Whether all is done.
    pub fn is_complete(&self) -> bool {
        self.library.written() == library::item_count()
    }

    /// The dataset; `None` where parts are missing.
    pub fn finish(&self) -> Option<Dataset> {
        let library = self.library.finish()?;
        let (key, mode) = (Arc::clone(&self.cache.key), self.cache.mode);
        let of_mode = || Pages::of(mode, self.advised, library.place());
        let pages = *self.pages.get_or_init(of_mode);
        Some(Dataset { library, key, mode, pages })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("done_permille", &self.done_permille())
            .finish_non_exhaustive()
    }
}

/// The dataset of a seed. Clones are the same dataset.
#[derive(Clone)]
pub struct Dataset {
    library: library::Dataset,
    key: Arc<[u8]>,
    mode: Mode,
    pages: Pages,
}

impl Dataset {
    /// The seed.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// How machines on it compute.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// What memory it lies in.
    pub const fn pages(&self) -> Pages {
        self.pages
    }

    pub(super) fn library(&self) -> library::Dataset {
        self.library.clone()
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("mode", &self.mode)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}
