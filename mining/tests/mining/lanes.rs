//! Threads that search: nothing is tried twice, nothing is lost, and they let go when told to.

use std::collections::HashSet;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use mining::hasher::{Event, Source};
use mining::randomx::{Cache, Machine, Mode};
use mining::work::MONERO_NONCE_AT;
use mining::{Hasher, NonceRange, Share, Target, Work};

use crate::mined::LOOK;

/// Longer than anything takes, even on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

fn cache() -> Cache {
    Cache::new(Mode::fastest(), b"lanes").unwrap()
}

fn work(difficulty: u64) -> Work {
    let target = Target::of_difficulty(difficulty);
    Work::new(vec![7; 76], MONERO_NONCE_AT, NonceRange::ALL, target).unwrap()
}

pub(crate) fn next_share(events: &Receiver<Event>) -> Share {
    match events.recv_timeout(PATIENCE).unwrap() {
        Event::Share(share) => share,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE);
        thread::sleep(LOOK);
    }
}

#[test]
fn shares_are_right_and_no_nonce_is_tried_twice() {
    let (sender, events) = channel();
    let hasher = Hasher::start(3, &sender, |_| {}).unwrap();
    let cache = cache();
    hasher.set_source(Some(Source::Light(cache.clone())));
    let task = hasher.set_work(Some(work(1)));
    hasher.set_running(3);
    let mut machine = Machine::light(&cache).unwrap();
    let mut seen = HashSet::new();
    for number in 0..60 {
        // Lanes come and go meanwhile.
        hasher.set_running(1 + number % 3);
        let share = next_share(&events);
        assert_eq!(share.task, task);
        assert!(seen.insert(share.nonce), "{} twice", share.nonce);
        let work = work(1);
        let mut blob = work.blob().to_vec();
        work.put_nonce(&mut blob, share.nonce);
        assert_eq!(machine.hash(&blob), share.hash);
    }
}

#[test]
fn only_what_meets_the_target_is_told() {
    let (sender, events) = channel();
    let hasher = Hasher::start(2, &sender, |_| {}).unwrap();
    hasher.set_source(Some(Source::Light(cache())));
    hasher.set_work(Some(work(8)));
    hasher.set_running(2);
    for _ in 0..3 {
        assert!(Target::of_difficulty(8).is_met_by(&next_share(&events).hash));
    }
    hasher.set_running(0);
    until(|| hasher.parked() == 2);
    assert!(hasher.hashes() > 3);
}

#[test]
fn parked_lanes_do_nothing_and_go_on_where_they_were() {
    let (sender, events) = channel();
    let hasher = Hasher::start(2, &sender, |_| {}).unwrap();
    hasher.set_source(Some(Source::Light(cache())));
    hasher.set_work(Some(work(1)));
    hasher.set_running(2);
    let first = next_share(&events);
    hasher.set_running(0);
    until(|| hasher.parked() == 2);
    let hashes = hasher.hashes();
    let before: HashSet<_> = events.try_iter().filter_map(nonce).chain([first.nonce]).collect();
    assert_eq!(before.len() as u64, hashes);
    hasher.set_running(2);
    until(|| hasher.parked() == 0);
    assert!(!before.contains(&next_share(&events).nonce));
}

fn nonce(event: Event) -> Option<u32> {
    match event {
        Event::Share(share) => Some(share.nonce),
        _ => None,
    }
}

#[test]
fn a_range_of_nonces_comes_to_its_end() {
    let (sender, events) = channel();
    let hasher = Hasher::start(2, &sender, |_| {}).unwrap();
    hasher.set_source(Some(Source::Light(cache())));
    let mut few = work(1);
    few.nonces = NonceRange::first(9);
    let task = hasher.set_work(Some(few));
    hasher.set_running(2);
    let (mut nonces, mut ended) = (HashSet::new(), 0);
    while ended == 0 || nonces.len() < 9 {
        match events.recv_timeout(PATIENCE).unwrap() {
            Event::Share(share) => assert!(nonces.insert(share.nonce)),
            Event::Exhausted { task: of } => {
                assert_eq!(of, task);
                ended += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(nonces, (0..9).collect());
    // Other work wakes them again.
    let task = hasher.set_work(Some(work(1)));
    loop {
        if let Event::Share(share) = events.recv_timeout(PATIENCE).unwrap() {
            assert_eq!(share.task, task);
            break;
        }
    }
}

#[test]
fn parked_lanes_give_back_what_they_hold() {
    let (sender, events) = channel();
    let hasher = Hasher::start(3, &sender, |_| {}).unwrap();
    hasher.set_source(Some(Source::Light(cache())));
    let task = hasher.set_work(Some(work(1)));
    hasher.set_lanes(|lane| lane != 1);
    next_share(&events);
    until(|| hasher.parked() == 1);
    until(|| hasher.has_taken_over(task));
    hasher.set_running(0);
    until(|| hasher.parked() == 3);
    let without = hasher.set_source(None);
    until(|| hasher.has_taken_over(without));
    assert_eq!(hasher.parked(), 3);
    // Without anything to hash with, lanes can be parked as well.
    hasher.set_running(3);
    until(|| hasher.parked() == 0);
    hasher.set_running(0);
    until(|| hasher.parked() == 3);
}

#[test]
fn another_source_repeats_no_nonce() {
    let (sender, events) = channel();
    let hasher = Hasher::start(3, &sender, |_| {}).unwrap();
    let cache = cache();
    hasher.set_source(Some(Source::Light(cache.clone())));
    hasher.set_work(Some(work(1)));
    hasher.set_running(3);
    let mut seen = HashSet::new();
    for number in 0..60 {
        if number % 4 == 0 {
            hasher.set_source(Some(Source::Light(cache.clone())));
        }
        assert!(seen.insert(next_share(&events).nonce));
    }
}

#[test]
fn the_same_bytes_under_another_target_go_on_behind_what_was_tried() {
    let (sender, events) = channel();
    let hasher = Hasher::start(1, &sender, |_| {}).unwrap();
    hasher.set_source(Some(Source::Light(cache())));
    let first = hasher.set_work(Some(work(1)));
    hasher.set_running(1);
    let (mut tried, mut task) = (HashSet::new(), first);
    while task == first {
        assert!(tried.insert(next_share(&events).nonce));
        if tried.len() == 5 {
            task = hasher.set_work(Some(work(2)));
        }
    }
    let behind = loop {
        let share = next_share(&events);
        if share.task == task {
            break share.nonce;
        }
        tried.insert(share.nonce);
    };
    assert!(tried.iter().all(|nonce| *nonce < behind), "{behind} after {tried:?}");
}

#[test]
fn a_job_that_comes_back_goes_on_behind_what_was_tried() {
    let (sender, events) = channel();
    let hasher = Hasher::start(2, &sender, |_| {}).unwrap();
    hasher.set_source(Some(Source::Light(cache())));
    let target = Target::of_difficulty(1);
    let other = Work::new(vec![8; 76], MONERO_NONCE_AT, NonceRange::ALL, target).unwrap();
    hasher.set_running(2);
    let mut tried = HashSet::new();
    // The pool went away, or had other work between.
    for between in [None, Some(other), None] {
        let task = hasher.set_work(Some(work(1)));
        let shares = std::iter::repeat_with(|| next_share(&events));
        for share in shares.filter(|share| share.task >= task).take(8) {
            assert!(tried.insert(share.nonce), "{} twice", share.nonce);
        }
        let next = hasher.set_work(between);
        until(|| hasher.has_taken_over(next));
        let left = events.try_iter().filter_map(|event| match event {
            Event::Share(share) if share.task == task => Some(share.nonce),
            _ => None,
        });
        tried.extend(left);
    }
}
