//! What takes long and cannot be interrupted: the test of this machine, a cache, the memory of a
//! dataset. On a thread of its own, which gives way to everybody.

use std::io;
use std::thread;

use super::{Message, Pages, Settings};
use crate::randomx::{Builder, Cache, Mode, OutOfMemory, self_test};
use crate::{ghostrider, host};

/// With less memory than this available, there is no dataset: it would be the machine's last.
pub(super) const FAST_NEEDS_BYTES: u64 = 3 << 30;

/// What must be available for a second dataset: its memory and its cache's, and 1 GiB for others.
pub(super) const AHEAD_NEEDS_BYTES: u64 = (2080 + 256 + 1024) << 20;

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

/// Begins it; a [`Message::Forged`] says what came of it.
pub(super) fn start(order: Order, to: std::sync::mpsc::Sender<Message>) -> io::Result<()> {
    thread::Builder::new().name("forge".to_owned()).spawn(move || {
        order.settings.priority.take();
        let stock = forge(&order);
        // Nobody waits for it any more: the engine has ended.
        let _ = to.send(Message::Forged(Box::new(Forged { order, stock })));
    })?;
    Ok(())
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
    let Settings { pages, light, secure, .. } = order.settings;
    let plain = Mode { secure, ..Mode::fastest() };
    if order.test {
        self_test(plain).map_err(|error| error.to_string())?;
    }
    let mut warnings = Vec::new();
    let available = host::available_bytes();
    if order.ahead && available < AHEAD_NEEDS_BYTES {
        return Err("no memory to spare for the next dataset".to_owned());
    }
    let scarce = available < FAST_NEEDS_BYTES && pages != Pages::Reserved;
    if scarce && !light {
        let mib = available >> 20;
        warnings.push(format!(
            "light mode, about a ninth of the hashrate: {mib} MiB of memory are available, \
             a dataset wants 3072"
        ));
    }
    let pages = if light || scarce { None } else { Some(pages) };
    if matches!(order.settings.pages, Pages::Surplus | Pages::Reserved) {
        match make(Mode { reserved_pages: true, ..plain }, seed, pages) {
            Ok(goods) => return Ok(Stock { goods, warnings }),
            Err(error) => warnings.push(format!("{error}: transparent large pages instead")),
        }
    }
    match make(plain, seed, pages) {
        Ok(goods) => Ok(Stock { goods, warnings }),
        Err(error) if pages.is_none() || order.ahead => Err(error.to_string()),
        Err(error) => {
            warnings.push(format!("light mode, about a ninth of the hashrate: {error}"));
            let goods = make(plain, seed, None).map_err(|error| error.to_string())?;
            Ok(Stock { goods, warnings })
        }
    }
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
