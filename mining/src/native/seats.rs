//! Which lane runs on which processor. A lane that is on a good one stays there.
//!
//! Allowances come while threads are being moved. So the books never say that a lane is where it is
//! not: while it is moved it is nowhere, and what is nowhere does not run.

use std::io;

use super::{Common, Seating};
use crate::engine::Allowance;

/// The processor of each lane; `None` for those that are parked. `pins` is where each is bound now.
/// With more threads than processors, some share one; without any processors, nobody runs.
fn seat(pins: &[Option<usize>], processors: &[usize], threads: usize) -> Vec<Option<usize>> {
    let mut free: Vec<usize> = processors.to_vec();
    let mut seats = vec![None; pins.len()];
    let mut left = threads.min(if processors.is_empty() { 0 } else { pins.len() });
    for (seat, pin) in seats.iter_mut().zip(pins) {
        if let Some(place) = free.iter().position(|processor| Some(*processor) == *pin)
            && left > 0
        {
            *seat = Some(free.remove(place));
            left -= 1;
        }
    }
    let mut others = free.into_iter().chain(processors.iter().copied().cycle());
    for seat in seats.iter_mut().filter(|seat| seat.is_none()).take(left) {
        *seat = others.next();
    }
    seats
}

impl Seating {
    /// How many threads may run.
    pub(super) const fn threads(&self) -> usize {
        if self.allowance.give_memory_back || self.ended { 0 } else { self.allowance.threads }
    }

    pub(super) fn processors<'a>(&'a self, homes: &'a [usize]) -> &'a [usize] {
        match self.allowance.processors.as_slice() {
            [] => homes,
            processors => processors,
        }
    }

    /// Without the processors that refuse.
    fn seats(&self, homes: &[usize], refuse: &[usize]) -> Vec<Option<usize>> {
        let mut processors = self.processors(homes).to_vec();
        processors.retain(|processor| !refuse.contains(processor));
        seat(&self.pins, &processors, self.threads())
    }
}

impl Common {
    /// Those that are where they may be run or stop now; those that have to move wait for
    /// [`Common::reseat`], since moving a thread may take a moment.
    pub(super) fn allow(&self, allowance: &Allowance) {
        let mut seating = self.seating();
        seating.allowance.clone_from(allowance);
        let seats = seating.seats(&self.homes, &[]);
        let is_there = |lane: usize| seats[lane].is_some() && seats[lane] == seating.pins[lane];
        self.hasher.set_lanes(is_there);
        self.leave.set(seating.threads() > 0);
    }

    /// Binds the lanes to the processors that they were given, and lets those run that had to wait
    /// for that. Returns the processors that refuse.
    pub(super) fn reseat(&self, mut pin: impl FnMut(usize, usize) -> io::Result<()>) -> Vec<usize> {
        let mut refuse = Vec::new();
        loop {
            let mut seating = self.seating();
            let seats = seating.seats(&self.homes, &refuse);
            let moves = |(lane, seat): (usize, &Option<usize>)| {
                seat.filter(|seat| seating.pins[lane] != Some(*seat)).map(|seat| (lane, seat))
            };
            let Some((lane, processor)) = seats.iter().enumerate().find_map(moves) else {
                // Where nothing can be bound and no processor was named, any will do.
                let named = !seating.allowance.processors.is_empty();
                let free = !named && self.homes.iter().all(|home| refuse.contains(home));
                let anywhere = if free { seating.threads() } else { 0 };
                self.hasher.set_lanes(|lane| seats[lane].is_some() || lane < anywhere);
                return refuse;
            };
            seating.pins[lane] = None;
            drop(seating);
            match pin(lane, processor) {
                Ok(()) => self.seating().pins[lane] = Some(processor),
                Err(_) => refuse.push(processor),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::hasher::{Event, Hasher};

    const SOME: [Option<usize>; 4] = [Some(0), Some(1), Some(2), Some(3)];

    #[test]
    fn lanes_stay_where_they_may() {
        assert_eq!(seat(&SOME, &[0, 1, 2, 3], 2), [Some(0), Some(1), None, None]);
        // Jobs took processors 0 and 1: nobody has to move.
        assert_eq!(seat(&SOME, &[2, 3], 2), [None, None, Some(2), Some(3)]);
        assert_eq!(seat(&SOME, &[3], 4), [Some(3), Some(3), Some(3), Some(3)]);
    }

    #[test]
    fn lanes_move_where_they_must() {
        assert_eq!(seat(&SOME[..2], &[1, 7], 2), [Some(7), Some(1)]);
        assert_eq!(seat(&[Some(0), None], &[4, 5], 1), [Some(4), None]);
        assert_eq!(seat(&[None, Some(0)], &[0, 1], 2), [Some(1), Some(0)]);
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(seat(&SOME[..2], &[], 2), [None, None]);
        assert_eq!(seat(&SOME[..2], &[0, 1], 0), [None, None]);
        assert_eq!(seat(&[], &[0], 3), []);
    }

    fn lanes(pins: &[Option<usize>]) -> Common {
        let hasher = Hasher::start(pins.len(), &channel::<Event>().0, |_| {}).unwrap();
        let seating = Seating { pins: pins.to_vec(), ..Seating::default() };
        Common {
            hasher,
            threads: Arc::new([]),
            homes: vec![0, 1],
            seating: seating.into(),
            leave: Arc::default(),
            board: std::sync::Mutex::default(),
        }
    }

    fn on(threads: usize, processors: &[usize]) -> Allowance {
        Allowance { threads, processors: processors.to_vec(), give_memory_back: false }
    }

    #[test]
    fn whoever_changes_his_mind_meanwhile_never_has_a_lane_where_it_may_not_be() {
        let common = lanes(&[Some(0)]);
        common.allow(&on(1, &[0]));
        assert!(common.hasher.wants(0));
        common.allow(&on(1, &[1]));
        let is_at = RefCell::new(0);
        let refuse = common.reseat(|lane, processor| {
            is_at.replace(processor);
            if processor == 1 {
                // Just when it has left processor 0, it is to be there again.
                common.allow(&on(1, &[0]));
                assert!(!common.hasher.wants(lane));
            }
            Ok(())
        });
        assert!(refuse.is_empty());
        assert_eq!(is_at.into_inner(), 0);
        assert!(common.hasher.wants(0));
        assert_eq!(common.seating().pins, [Some(0)]);
    }

    #[test]
    fn where_it_cannot_be_bound_a_lane_does_not_run() {
        let common = lanes(&[None, None]);
        let pin = |_, processor: usize| match processor {
            5 => Err(io::ErrorKind::InvalidInput.into()),
            _ => Ok(()),
        };
        common.allow(&on(2, &[5]));
        assert_eq!(common.reseat(pin), [5]);
        assert!(!common.hasher.wants(0) && !common.hasher.wants(1));
        // What else is allowed is used.
        common.allow(&on(1, &[5, 1]));
        assert_eq!(common.reseat(pin), [5]);
        assert!(common.hasher.wants(0) && !common.hasher.wants(1));
        assert_eq!(common.seating().pins, [Some(1), None]);
    }

    #[test]
    fn where_nothing_can_be_bound_the_system_decides() {
        let common = lanes(&[None, None]);
        let pin = |_, _| Err(io::ErrorKind::PermissionDenied.into());
        common.allow(&on(1, &[]));
        assert_eq!(common.reseat(pin), [0, 1]);
        assert!(common.hasher.wants(0) && !common.hasher.wants(1));
        common.allow(&on(0, &[]));
        assert!(!common.hasher.wants(0));
    }
}
