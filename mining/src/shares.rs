//! The book of shares: what was found, and what became of each.

use std::collections::BTreeMap;

use crate::engine::Shares;
use crate::pool::Verdict;

/// How many different reasons are counted one by one.
const MOST_REASONS: usize = 32;

/// The reasons beyond those.
const OTHER: &str = "other";

/// Counters, and the shares that wait for an answer.
#[derive(Debug, Default)]
pub struct Book {
    counted: Shares,
    /// The difficulty of each share under way.
    under_way: BTreeMap<u64, u64>,
}

impl Book {
    /// One was found that comes too late.
    pub fn stale(&mut self) {
        self.counted.found += 1;
        self.counted.stale += 1;
    }

    /// One was found and goes to the pool. Returns its number.
    pub fn send(&mut self, difficulty: u64) -> u64 {
        self.counted.found += 1;
        self.counted.under_way += 1;
        self.under_way.insert(self.counted.found, difficulty);
        self.counted.found
    }

    /// This became of one. Returns its difficulty; `None` where it is not waited for.
    pub fn settle(&mut self, number: u64, verdict: &Verdict) -> Option<u64> {
        let difficulty = self.under_way.remove(&number)?;
        self.counted.under_way -= 1;
        match verdict {
            Verdict::Accepted => {
                self.counted.accepted += 1;
                let sum = self.counted.accepted_difficulty.saturating_add(difficulty);
                self.counted.accepted_difficulty = sum;
            }
            Verdict::Rejected(reason) => {
                self.counted.rejected += 1;
                self.count(reason);
            }
            Verdict::Stale => self.counted.stale += 1,
            Verdict::Lost(reason) => {
                self.counted.lost += 1;
                self.count(reason);
            }
        }
        Some(difficulty)
    }

    fn count(&mut self, reason: &str) {
        let reasons = &mut self.counted.reasons;
        let known = reasons.contains_key(reason) || reasons.len() + 1 < MOST_REASONS;
        *reasons.entry(if known { reason } else { OTHER }.to_owned()).or_default() += 1;
    }

    /// The counters.
    pub const fn counted(&self) -> &Shares {
        &self.counted
    }

    /// One of those that wait for an answer.
    pub fn under_way(&self) -> Option<u64> {
        self.under_way.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adds_up(book: &Book) -> bool {
        let Shares { found, accepted, rejected, stale, lost, under_way, .. } = *book.counted();
        found == accepted + rejected + stale + lost + under_way
    }

    #[test]
    fn every_share_is_counted_once() {
        let mut book = Book::default();
        let numbers: Vec<_> = (1..=5).map(|difficulty| book.send(difficulty * 1000)).collect();
        book.stale();
        assert!(adds_up(&book));
        assert_eq!(book.settle(numbers[0], &Verdict::Accepted), Some(1000));
        assert_eq!(book.settle(numbers[0], &Verdict::Accepted), None);
        book.settle(numbers[1], &Verdict::Rejected("Low difficulty share".into()));
        book.settle(numbers[2], &Verdict::Stale);
        book.settle(numbers[3], &Verdict::Lost("connection reset".into()));
        let counted = book.counted();
        assert_eq!((counted.found, counted.accepted, counted.rejected), (6, 1, 1));
        assert_eq!((counted.stale, counted.lost, counted.accepted_difficulty), (2, 1, 1000));
        assert_eq!(counted.reasons["connection reset"], 1);
        assert_eq!((counted.under_way, book.under_way()), (1, Some(numbers[4])));
        assert!(adds_up(&book));
    }

    #[test]
    fn a_pool_with_many_words_is_cut_short() {
        let mut book = Book::default();
        for word in 0..100 {
            let number = book.send(1);
            book.settle(number, &Verdict::Rejected(format!("reason {word}")));
        }
        assert_eq!(book.counted().reasons.len(), MOST_REASONS);
        assert_eq!(book.counted().reasons[OTHER], 100 - MOST_REASONS as u64 + 1);
        assert!(adds_up(&book));
    }
}
