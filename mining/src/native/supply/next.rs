//! What is made for the seed that comes next, while the one of now is mined.

use std::time::{Duration, Instant};

use super::{AGAIN, Supply};
use crate::native::ahead::Ahead;
use crate::native::forge::{Goods, Need, Seed, Stock};
use crate::native::material::Next;
use crate::notice::Notice;

impl Supply {
    pub(super) fn take_in_ahead(&mut self, need: Need, stock: Result<Stock, String>) {
        let Need::RandomX(seed) = need else { return };
        if !matches!(&self.next, Next::Forging(of) if *of == seed) {
            return;
        }
        let begun = match stock.map(|stock| stock.goods) {
            Ok(Goods::Builder(builder)) => Ahead::start(builder, &self.common).ok(),
            _ => None,
        };
        self.next = match begun {
            Some(ahead) => Next::Building(seed, ahead),
            None => Next::Refused(seed),
        };
        if matches!(self.next, Next::Building(..)) {
            self.tell(&Notice::Preparing { ahead: true });
        }
    }

    pub(super) fn look_ahead(&mut self, need: Need, next: Option<Seed>) {
        if let Next::Building(of, ahead) = &self.next
            && let Some(dataset) = ahead.builder().finish()
        {
            self.next = Next::Ready(*of, dataset);
            self.built += 1;
            self.tell(&Notice::ReadyAhead);
        }
        let Some(next) = next.filter(|next| Need::RandomX(*next) != need) else { return };
        let since = self.next_begun.map(|begun| begun.elapsed());
        let may = self.material.is_fast() && self.in_flight.is_none();
        if may && is_to_begin(&self.next, &next, since) {
            self.next_begun = Some(Instant::now());
            // First: what it has may be what the next one needs.
            self.next = Next::None;
            self.next = match self.forge(Need::RandomX(next), true) {
                Ok(()) => Next::Forging(next),
                Err(_) => Next::Refused(next),
            };
        }
    }
}

/// Whether the dataset of `wanted` is to be begun, so long after the last one that was: a pool that
/// changes its mind costs one a minute at most.
fn is_to_begin(present: &Next, wanted: &Seed, since: Option<Duration>) -> bool {
    let is_other = matches!(present, Next::Refused(_)) || present.seed() != Some(wanted);
    is_other && since.is_none_or(|since| since >= AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_changes_the_next_seed_waits_a_minute() {
        let (one, other) = ([1; 32], [2; 32]);
        let second = Some(Duration::from_secs(1));
        assert!(is_to_begin(&Next::None, &one, None));
        assert!(!is_to_begin(&Next::Forging(one), &one, Some(AGAIN)));
        assert!(!is_to_begin(&Next::Forging(one), &other, second));
        assert!(is_to_begin(&Next::Forging(one), &other, Some(AGAIN)));
        assert!(!is_to_begin(&Next::Refused(one), &one, second));
        assert!(is_to_begin(&Next::Refused(one), &one, Some(AGAIN)));
    }
}
