//! What is made and kept, in an order that no pool should ask for.

use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::*;
use crate::engine::{Allowance, Engine};
use crate::native::board::Board;
use crate::native::{Inbox, Native, Outlet, Priority};
use crate::pool::{Solution, Verdict};
use crate::randomx::{Cache, Mode};

struct Nowhere;

impl Outlet for Nowhere {
    fn submit(&self, _: Solution) -> Result<(), Verdict> {
        Ok(())
    }

    fn exhausted(&self, _: u64) {}
}

/// A supply of its own, for the lanes of an engine that has no pool.
struct Bench {
    engine: Native,
    supply: Supply,
    messages: Receiver<Message>,
    notices: Receiver<Notice>,
}

fn bench() -> Bench {
    let engine = Native::start(
        Settings { threads: Some(1), ..Settings::default() },
        Arc::new(|_: &Notice| {}),
        |_: Inbox| Nowhere,
    );
    let engine = engine.unwrap();
    let (tell, notices) = channel();
    let listener: Listener = Arc::new(move |notice: &Notice| drop(tell.send(notice.clone())));
    let (inbox, messages) = channel();
    let settings = Settings { light: true, priority: Priority::Normal, ..Settings::default() };
    let supply = Supply::new(Arc::clone(&engine.common), settings, listener, inbox);
    let bench = Bench { engine, supply, messages, notices };
    bench.allow(1, false);
    bench
}

const fn of(seed: u8) -> Need {
    Need::RandomX([seed; 32])
}

fn builder(seed: u8) -> Arc<Builder> {
    Arc::new(Builder::new(&Cache::new(Mode::fastest(), &[seed; 32]).unwrap()).unwrap())
}

impl Bench {
    fn allow(&self, threads: usize, give_memory_back: bool) {
        let allowance = Allowance { threads, give_memory_back, ..Allowance::default() };
        self.engine.allow(&allowance);
    }

    fn job(&mut self, need: Need) {
        self.supply.prepare_for(need);
        self.supply.advance(Some((need, None)));
    }

    fn forged(&self) -> Forged {
        match self.messages.recv().unwrap() {
            Message::Forged(forged) => *forged,
            other => panic!("{other:?}"),
        }
    }

    /// Goes on until the lanes have let go.
    fn settle(&mut self, need: Need) {
        loop {
            self.supply.advance(Some((need, None)));
            if self.supply.retired.is_none() {
                return;
            }
            thread::yield_now();
        }
    }

    fn building(&mut self, seed: u8) -> Arc<Builder> {
        let builder = builder(seed);
        self.supply.wanted = Some(of(seed));
        let building = Building::new([seed; 32], Arc::clone(&builder));
        self.supply.material = Material::Building(building);
        builder
    }
}

#[test]
fn a_flood_of_seeds_is_forged_one_at_a_time() {
    let mut bench = bench();
    for seed in 0..20 {
        bench.job(of(seed));
    }
    assert_eq!(bench.supply.in_flight, Some(of(0)));
    // What comes of the first is not wanted any more; then it is the last one's turn.
    let forged = bench.forged();
    assert_eq!(forged.order.need, of(0));
    bench.supply.take_in(forged);
    bench.supply.advance(Some((of(19), None)));
    let forged = bench.forged();
    assert_eq!(forged.order.need, of(19));
    bench.supply.take_in(forged);
    assert!(matches!(bench.supply.material, Material::Ready { need, .. } if need == of(19)));
    // All who could tell of more are gone.
    let Bench { engine, supply, messages, .. } = bench;
    drop((supply, engine));
    assert_eq!(messages.iter().count(), 0);
}

#[test]
fn what_took_long_is_kept_until_the_new_seed_has_lasted() {
    let mut bench = bench();
    let builder = bench.building(1);
    for _ in 0..3 {
        bench.job(of(2));
        assert!(bench.supply.kept.is_some() && bench.supply.in_flight.is_none());
        bench.job(of(1));
        let Material::Building(back) = &bench.supply.material else { panic!() };
        assert!(Arc::ptr_eq(&back.builder, &builder));
        assert!(bench.supply.kept.is_none());
    }
    bench.job(of(2));
    let kept = bench.supply.kept.as_mut().unwrap();
    kept.since = kept.since.checked_sub(SETTLED).unwrap();
    bench.settle(of(2));
    assert!(bench.supply.kept.is_none());
    assert_eq!(bench.supply.in_flight, Some(of(2)));
    // Nobody has it any more.
    assert_eq!(Arc::strong_count(&builder), 1);
    bench.forged();
}

#[test]
fn giving_back_leaves_nothing_and_says_so_only_then() {
    let mut bench = bench();
    // A dataset for the next seed, and a forge at work.
    bench.job(of(1));
    let ahead = crate::native::ahead::Ahead::start(
        Builder::new(&Cache::new(Mode::fastest(), &[2; 32]).unwrap()).unwrap(),
        &bench.engine.common,
    );
    bench.supply.next = Next::Building([2; 32], ahead.unwrap());
    bench.supply.replace(Material::None, None);
    bench.allow(0, true);
    bench.supply.advance(Some((of(1), None)));
    assert!(matches!(bench.supply.next, Next::None));
    assert!(bench.notices.try_recv().is_err(), "the forge still holds its cache");
    let mut board = Board::default();
    bench.supply.show(&mut board);
    assert_eq!(board.memory_bytes, 256 << 20);
    let forged = bench.forged();
    bench.supply.take_in(forged);
    bench.supply.advance(Some((of(1), None)));
    assert_eq!(bench.notices.try_recv().unwrap(), Notice::GivenBack);
    bench.supply.show(&mut board);
    assert_eq!(board.memory_bytes, 0);
}

#[test]
fn ghostrider_needs_no_dataset_of_a_next_seed() {
    let mut bench = bench();
    bench.supply.next = Next::Refused([2; 32]);
    bench.supply.prepare_for(Need::GhostRider);
    assert!(matches!(bench.supply.next, Next::None));
}

#[test]
fn a_dataset_ends_the_wait_for_memory() {
    let mut bench = bench();
    let since = Instant::now().checked_sub(AGAIN);
    bench.supply.scarce_since = since;
    bench.supply.material = Material::Forging(of(1));
    let cache = Cache::new(Mode::fastest(), &[1; 32]).unwrap();
    bench.supply.build(of(1), Builder::new(&cache).unwrap());
    assert_eq!(bench.supply.scarce_since, None);
    // And whatever is fast is not widened.
    bench.supply.scarce_since = since;
    bench.supply.widen();
    assert!(matches!(bench.supply.material, Material::Building(_)));
}
