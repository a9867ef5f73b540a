//! Where the claim begins to look: below which rank no job of a class waits, as far as is known.
//!
//! In PostgreSQL's index of queued jobs those that were handed out come first until they are cleaned
//! up, which nobody can do as long as any older transaction is open. A look that begins at the lowest
//! rank walks over all of them; this one begins where the last one found its first job. Other replicas
//! tell of classes, not of ranks: what they take in makes the next look one from the beginning.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// For how long what is known is relied on: a wake-up that got lost delays a job by no more.
const FORGET_AFTER: Duration = Duration::from_secs(60);

/// What is known of the classes; ranks are those of the queue.
#[derive(Debug)]
pub(super) struct Floors {
    since: Instant,
    known: HashMap<i32, i64>,
    /// Of each class that was looked at: the lowest rank that was woken since the last look began.
    woken: HashMap<i32, i64>,
}

impl Default for Floors {
    fn default() -> Self {
        Self { since: Instant::now(), known: HashMap::new(), woken: HashMap::new() }
    }
}

impl Floors {
    /// A job of this rank waits, committed; [`i64::MIN`] where the rank is not known.
    pub fn woke(&mut self, class: i32, rank: i64) {
        for floors in [&mut self.known, &mut self.woken] {
            floors.entry(class).and_modify(|floor| *floor = rank.min(*floor));
        }
    }

    /// Where a look at a class begins, now. Each look says what it [`found`](Self::found).
    pub fn begin(&mut self, class: i32) -> i64 {
        if self.since.elapsed() > FORGET_AFTER {
            self.since = Instant::now();
            self.known.clear();
        }
        self.woken.insert(class, i64::MAX);
        self.known.get(&class).copied().unwrap_or(i64::MIN)
    }

    /// The look that began last saw no job of the class below this one.
    pub fn found(&mut self, class: i32, rank: i64) {
        // It may not have seen what was woken meanwhile.
        let woken = self.woken.get(&class).copied().unwrap_or(i64::MIN);
        self.known.insert(class, rank.min(woken));
    }

    /// Jobs may wait of which nothing was said.
    pub fn forget(&mut self) {
        self.known.clear();
        self.woken.values_mut().for_each(|woken| *woken = i64::MIN);
    }

    /// A class is none any more that may have jobs.
    pub fn rest(&mut self, class: i32) {
        self.known.remove(&class);
        self.woken.remove(&class);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look that finds something; where it began.
    fn look(floors: &mut Floors, class: i32, found: i64) -> i64 {
        let from = floors.begin(class);
        floors.found(class, found);
        from
    }

    #[tokio::test]
    async fn a_look_begins_where_the_last_one_found_something() {
        let mut floors = Floors::default();
        assert_eq!(look(&mut floors, 1, 10), i64::MIN);
        assert_eq!((floors.begin(1), floors.begin(2)), (10, i64::MIN));
        // Lower, then higher ones come.
        floors.woke(1, 5);
        floors.woke(1, 20);
        assert_eq!(look(&mut floors, 1, 20), 5);
        assert_eq!(look(&mut floors, 1, 20), 20);
        floors.woke(1, i64::MIN);
        assert_eq!(look(&mut floors, 1, 20), i64::MIN);
        floors.rest(1);
        assert_eq!(floors.begin(1), i64::MIN);
    }

    #[tokio::test]
    async fn what_comes_during_a_look_is_not_missed_by_the_next() {
        let mut floors = Floors::default();
        look(&mut floors, 1, 10);
        // With and without anything that was known before.
        for class in [1, 2] {
            floors.begin(class);
            floors.woke(class, 3);
            floors.found(class, 12);
            assert_eq!(look(&mut floors, class, 12), 3);
            // What the look after it saw counts.
            assert_eq!(floors.begin(class), 12);
        }
        floors.forget();
        floors.found(2, 20);
        assert_eq!(floors.begin(2), i64::MIN);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_forgotten_now_and_then() {
        let mut floors = Floors::default();
        look(&mut floors, 1, 10);
        tokio::time::advance(FORGET_AFTER).await;
        assert_eq!(floors.begin(1), 10);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(floors.begin(1), i64::MIN);
    }
}
