//! What takes long and cannot be interrupted: the test of this machine, a cache, the memory of a
//! dataset. On a thread of its own, which gives way to everybody.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::{io, panic, thread};

use super::{Common, Message, Pages, Settings};
use crate::randomx::{Builder, Cache, Mode, OutOfMemory, self_test};
use crate::{ghostrider, host};

/// With less memory than this available, in bytes, there is no dataset: it would be the machine's last.
pub const FAST_NEEDS_BYTES: u64 = 3 << 30;

/// What must be available for a second dataset: its memory and its cache's, and 1 GiB for others.
pub(super) const AHEAD_NEEDS_BYTES: u64 = (2080 + 256 + 1024) << 20;

/// With less than this available, there is not even a cache: its 256 MiB, and some for others.
const LIGHT_NEEDS_BYTES: u64 = 384 << 20;

/// A dataset and its cache.
const SET_BYTES: u64 = (2080 + 256) << 20;

/// What is said of a panic, whose own words are in the log.
const FAULT: &str = "a fault in this program while it prepared to hash";

/// A seed.
pub(super) type Seed = [u8; 32];

/// What a job's hashes need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// RandomX on this seed.
    RandomX(Seed),
    /// GhostRider.
    GhostRider,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) need: Need,
    pub(super) settings: Settings,
    /// For the time after the present seed, if there is memory to spare.
    pub(super) ahead: bool,
    /// Test the machine first.
    pub(super) test: bool,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Forged {
    pub(super) order: Order,
    pub(super) stock: Result<Stock, String>,
}

/// What can be hashed with, after some building.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) goods: Goods,
    pub(super) warnings: Vec<String>,
}

/// What hashes come from.
#[derive(Debug)]
pub(super) enum Goods {
    /// RandomX without a dataset.
    Cache(Cache),
    /// RandomX with one that is to be built.
    Builder(Builder),
    /// GhostRider needs nothing but a machine that passed its test.
    GhostRider,
}

/// Begins it, where something is allowed to run; a [`Message::Forged`] says what came of it.
pub(super) fn start(order: Order, common: &Arc<Common>, to: Sender<Message>) -> io::Result<()> {
    let (processors, leave) = (common.processors(), Arc::clone(&common.leave));
    leave.forging(true);
    let begun = thread::Builder::new().name("forge".to_owned()).spawn({
        let leave = Arc::clone(&leave);
        move || {
            order.settings.priority.take();
            // Processors that went away meanwhile: then nothing runs on them either.
            let _ = host::pin(&processors);
            let stock = panic::catch_unwind(|| forge(&order));
            let stock = stock.unwrap_or_else(|_| Err(FAULT.to_owned()));
            leave.forging(false);
            // Nobody waits for it any more: the engine has ended.
            let _ = to.send(Message::Forged(Box::new(Forged { order, stock })));
        }
    });
    if begun.is_err() {
        leave.forging(false);
    }
    begun.map(drop)
}

fn forge(order: &Order) -> Result<Stock, String> {
    match order.need {
        Need::RandomX(seed) => randomx(order, &seed),
        Need::GhostRider => {
            if order.test {
                ghostrider::self_test().map_err(|error| error.to_string())?;
            }
            Ok(Stock { goods: Goods::GhostRider, warnings: Vec::new() })
        }
    }
}

fn randomx(order: &Order, seed: &Seed) -> Result<Stock, String> {
    let plain = Mode::fastest().or_secure(order.settings.secure);
    if order.test {
        enough_for_a_cache(host::available_bytes())?;
        self_test(plain).map_err(|error| error.to_string())?;
    }
    let room = || (host::available_bytes(), host::free_huge_bytes());
    choose(order, plain, &room, &|mode, pages| make(mode, seed, pages))
}

/// What can be had: `room` says what is available now and what of reserved pages is free, in bytes;
/// `make` tries it.
fn choose(
    order: &Order,
    plain: Mode,
    room: &dyn Fn() -> (u64, u64),
    make: &dyn Fn(Mode, Option<Pages>) -> Result<Goods, OutOfMemory>,
) -> Result<Stock, String> {
    let Settings { pages, light, .. } = order.settings;
    let mut warnings = Vec::new();
    // Reserved pages are no part of what is available.
    let apart = pages == Pages::Reserved && (!order.ahead || room().1 >= SET_BYTES);
    let scarce = |available| available < FAST_NEEDS_BYTES;
    if apart || (pages == Pages::Surplus && !(order.ahead && room().0 < AHEAD_NEEDS_BYTES)) {
        let dataset = !light && (apart || !scarce(room().0));
        match make(Mode { reserved_pages: true, ..plain }, dataset.then_some(pages)) {
            Ok(goods) if dataset || light => return Ok(Stock { goods, warnings }),
            Ok(goods) => {
                warnings.push(light_for_want_of(room().0));
                return Ok(Stock { goods, warnings });
            }
            Err(error) => warnings.push(format!("{error}: transparent large pages instead")),
        }
    }
    // Asked again: those pages may have come out of it, and others take, too.
    let (available, _) = room();
    if order.ahead && available < AHEAD_NEEDS_BYTES {
        return Err("no memory to spare for the next dataset".to_owned());
    }
    enough_for_a_cache(available)?;
    if !light && !scarce(available) {
        match make(plain, Some(pages)) {
            Ok(goods) => return Ok(Stock { goods, warnings }),
            Err(error) if order.ahead => return Err(error.to_string()),
            Err(error) => {
                warnings.push(format!("light mode, about a ninth of the hashrate: {error}"));
            }
        }
    } else if !light {
        warnings.push(light_for_want_of(available));
    }
    let goods = make(plain, None).map_err(|error| error.to_string())?;
    Ok(Stock { goods, warnings })
}

fn enough_for_a_cache(available: u64) -> Result<(), String> {
    if available >= LIGHT_NEEDS_BYTES {
        return Ok(());
    }
    let (mib, wants) = (available >> 20, LIGHT_NEEDS_BYTES >> 20);
    Err(format!("{mib} MiB of memory are available, RandomX wants {wants} at least"))
}

fn light_for_want_of(available: u64) -> String {
    let (mib, wants) = (available >> 20, FAST_NEEDS_BYTES >> 20);
    format!(
        "light mode, about a ninth of the hashrate: {mib} MiB of memory are available, \
         a dataset wants {wants}"
    )
}

/// Without pages: without a dataset.
fn make(mode: Mode, seed: &Seed, pages: Option<Pages>) -> Result<Goods, OutOfMemory> {
    let cache = Cache::new(mode, seed)?;
    Ok(match pages {
        None => Goods::Cache(cache),
        Some(Pages::Small) => Goods::Builder(Builder::on_small_pages(&cache)?),
        Some(_) => Goods::Builder(Builder::new(&cache)?),
    })
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const GIB: u64 = 1 << 30;

    /// What is tried, where nothing can be had and each attempt leaves `room` as it is then.
    fn tried(pages: Pages, ahead: bool, room: &[(u64, u64)]) -> (Vec<(bool, bool)>, String) {
        let settings = Settings { pages, ..Settings::default() };
        let order = Order { need: Need::RandomX([0; 32]), settings, ahead, test: false };
        let (tried, now) = (RefCell::new(Vec::new()), Cell::new(0));
        let make = |mode: Mode, pages: Option<Pages>| {
            tried.borrow_mut().push((mode.reserved_pages, pages.is_some()));
            now.set((now.get() + 1).min(room.len() - 1));
            Err(OutOfMemory::of_dataset(mode))
        };
        let why = choose(&order, Mode::portable(), &|| room[now.get()], &make).unwrap_err();
        (tried.into_inner(), why)
    }

    #[test]
    fn instead_of_reserved_pages_only_what_is_there_is_taken() {
        let (reserved, fast, light) = ((true, true), (false, true), (false, false));
        let attempts = |room| tried(Pages::Reserved, false, &[room]).0;
        assert_eq!(attempts((4 * GIB, 0)), [reserved, fast, light]);
        assert_eq!(attempts((2 * GIB, 0)), [reserved, light]);
        assert_eq!(attempts((GIB / 4, 0)), [reserved]);
        // Surplus pages come out of what is available.
        let surplus = tried(Pages::Surplus, false, &[(4 * GIB, 0), (2 * GIB, 0)]).0;
        assert_eq!(surplus, [reserved, light]);
        assert_eq!(tried(Pages::Surplus, false, &[(2 * GIB, 0)]).0, [(true, false), light]);
    }

    #[test]
    fn a_second_dataset_takes_only_what_is_free() {
        let (reserved, fast) = ((true, true), (false, true));
        let attempts = |pages, room| tried(pages, true, &[room]).0;
        assert_eq!(attempts(Pages::Reserved, (GIB, 3 * GIB)), [reserved]);
        assert_eq!(attempts(Pages::Reserved, (GIB, GIB)), []);
        assert_eq!(attempts(Pages::Reserved, (4 * GIB, GIB)), [fast]);
        assert_eq!(attempts(Pages::Surplus, (3 * GIB, 0)), []);
        assert_eq!(attempts(Pages::Transparent, (3 * GIB, 0)), []);
    }

    #[test]
    fn without_memory_for_a_cache_it_says_so() {
        let (tried, why) = tried(Pages::Transparent, false, &[(100 << 20, 0)]);
        assert_eq!(tried, []);
        assert_eq!(why, "100 MiB of memory are available, RandomX wants 384 at least");
    }
}
