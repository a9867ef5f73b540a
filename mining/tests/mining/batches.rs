//! GhostRider's batches: parked in their midst they go on there, and no nonce is lost or tried twice.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use ghostrider::cryptonight::{Kernel, Variant};
use ghostrider::{Header, Plan, VariantSet};
use mining::ghostrider::Plans;
use mining::hasher::{Event, Source};
use mining::work::HEADER_NONCE_AT;
use mining::{BadWork, Hasher, NonceRange, Share, Target, Work};

use crate::lanes::{PATIENCE, next_share, until};

const LANES: usize = 3;

fn header() -> Header {
    // The fastest set: these tests are about lanes.
    let fastest = VariantSet::all().find(|set| {
        let fast = [Variant::DarkLite, Variant::Turtle, Variant::TurtleLite];
        set.variants() == fast
    });
    let mut header: Header = std::array::from_fn(|i| (i * 7) as u8);
    header[4..36].copy_from_slice(&fastest.unwrap().example());
    header
}

fn work(nonces: NonceRange) -> Work {
    Work::new(header().to_vec(), HEADER_NONCE_AT, nonces, Target::of_difficulty(1)).unwrap()
}

/// Without a measurement, which takes a while when tests run side by side.
fn source() -> Source {
    Source::GhostRider(Plans::fixed(LANES, Plan::new(Kernel::best())))
}

/// By an independent path.
fn check(share: Share) {
    let mut header = header();
    header[HEADER_NONCE_AT..].copy_from_slice(&share.nonce.to_le_bytes());
    let mut hasher = ghostrider::Hasher::with_plan(Plan::new(Kernel::PORTABLE));
    assert_eq!(hasher.hash(&header), share.hash);
}

/// What the lanes told.
#[derive(Default)]
struct Told {
    nonces: HashSet<u32>,
    ended: bool,
}

impl Told {
    fn take(&mut self, event: Event) {
        match event {
            Event::Share(Share { nonce, .. }) => {
                assert!(self.nonces.insert(nonce), "{nonce} twice");
            }
            Event::Exhausted { .. } => self.ended = true,
            other => panic!("{other:?}"),
        }
    }

    /// Until a lane has said that there are no more, and there are as many as there should be.
    fn all(mut self, events: &Receiver<Event>, count: u32) {
        while !self.ended || self.nonces.len() < count as usize {
            self.take(events.recv_timeout(PATIENCE).unwrap());
        }
        assert_eq!(self.nonces, (0..count).collect());
    }
}

#[test]
fn shares_of_batches_are_right_while_lanes_come_and_go() {
    let (sender, events) = channel();
    let hasher = Hasher::start(LANES, &sender, |_| {}).unwrap();
    hasher.set_source(Some(source()));
    let task = hasher.set_work(Some(work(NonceRange::ALL)));
    hasher.set_running(LANES);
    let mut seen = HashSet::new();
    for number in 0..60 {
        hasher.set_running(1 + number % LANES);
        let share = next_share(&events);
        assert_eq!(share.task, task);
        assert!(seen.insert(share.nonce), "{} twice", share.nonce);
        if number % 10 == 0 {
            check(share);
        }
    }
}

#[test]
fn a_range_that_is_no_multiple_of_a_batch_comes_to_its_end() {
    let (sender, events) = channel();
    let hasher = Hasher::start(LANES, &sender, |_| {}).unwrap();
    hasher.set_source(Some(source()));
    hasher.set_work(Some(work(NonceRange::first(21))));
    hasher.set_running(LANES);
    Told::default().all(&events, 21);
    assert_eq!(hasher.hashes(), 21);
}

#[test]
fn a_parked_batch_goes_on_where_it_was() {
    let (sender, events) = channel();
    let hasher = Hasher::start(LANES, &sender, |_| {}).unwrap();
    hasher.set_source(Some(source()));
    hasher.set_work(Some(work(NonceRange::first(48))));
    let mut told = Told::default();
    // Parked as soon as they run, again and again: hardly ever between two batches.
    while told.nonces.len() < 24 {
        hasher.set_running(LANES);
        until(|| hasher.parked() == 0);
        hasher.set_running(0);
        until(|| hasher.parked() == LANES);
        events.try_iter().for_each(|event| told.take(event));
        assert_eq!(hasher.hashes(), told.nonces.len() as u64);
    }
    hasher.set_running(LANES);
    told.all(&events, 48);
    assert_eq!(hasher.hashes(), 48);
}

#[test]
fn a_batch_that_was_given_up_is_hashed_again() {
    let (sender, events) = channel();
    let hasher = Hasher::start(LANES, &sender, |_| {}).unwrap();
    hasher.set_source(Some(source()));
    hasher.set_work(Some(work(NonceRange::first(40))));
    hasher.set_running(LANES);
    let mut told = Told::default();
    // The memory is given back in the midst of a batch, and had again.
    while told.nonces.len() < 24 {
        told.take(events.recv_timeout(PATIENCE).unwrap());
        let without = hasher.set_source(None);
        until(|| hasher.has_taken_over(without));
        events.try_iter().for_each(|event| told.take(event));
        assert_eq!(hasher.hashes(), told.nonces.len() as u64);
        hasher.set_source(Some(source()));
    }
    told.all(&events, 40);
    assert_eq!(hasher.hashes(), 40);
}

#[test]
fn what_is_no_header_is_refused() {
    let (sender, events) = channel();
    let hasher = Hasher::start(1, &sender, |_| {}).unwrap();
    hasher.set_source(Some(source()));
    let blob = vec![0; 76];
    let bad = Work::new(blob, 39, NonceRange::ALL, Target::of_difficulty(1)).unwrap();
    let task = hasher.set_work(Some(bad));
    hasher.set_running(1);
    let refused = events.recv_timeout(PATIENCE).unwrap();
    assert_eq!(refused, Event::BadWork { task, why: BadWork::NoHeader(76) });
    // It is told once, however often the lane is woken.
    for _ in 0..10_000 {
        hasher.set_running(1);
        thread::yield_now();
    }
    hasher.set_work(Some(work(NonceRange::ALL)));
    next_share(&events);
}
