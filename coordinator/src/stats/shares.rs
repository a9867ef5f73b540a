//! From rows to shares: which clients to show, and the quantiles of waits. Pure.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use protocol::control::ClientShare;
use protocol::{Amount, Name};

use super::store::Start;

/// The most clients that are shown.
const CLIENTS: usize = 100;

/// What is known of the clients, each by its own statement.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Live jobs: in all, and at work.
    pub live: HashMap<Name, (u64, u64)>,
    /// Jobs that started in the last hour.
    pub starts: Vec<(Name, Start)>,
    /// What was paid in the last hour.
    pub spent: HashMap<Name, Amount>,
}

impl Clients {
    /// Those that are shown: with the most live jobs, then with the most starts.
    pub fn busiest(&self) -> Vec<Name> {
        let mut started: HashMap<&Name, u64> = HashMap::new();
        for (client, _) in &self.starts {
            *started.entry(client).or_default() += 1;
        }
        let names: HashSet<&Name> =
            self.live.keys().chain(self.spent.keys()).chain(started.keys().copied()).collect();
        let mut names: Vec<&Name> = names.into_iter().collect();
        names.sort_by_key(|name| {
            let live = self.live.get(*name).map_or(0, |(all, _)| *all);
            (Reverse((live, started.get(*name).copied().unwrap_or(0))), (*name).clone())
        });
        names.into_iter().take(CLIENTS).cloned().collect()
    }

    /// The shares of some clients, in their order.
    pub fn shares(&self, clients: Vec<Name>, weights: &HashMap<Name, u32>) -> Vec<ClientShare> {
        let mut waits: HashMap<&Name, Vec<u64>> = HashMap::new();
        for (client, start) in &self.starts {
            waits.entry(client).or_default().push(start.waited_ms);
        }
        let share = |client: Name| {
            let (all, held) = self.live.get(&client).copied().unwrap_or_default();
            let mut waits = waits.remove(&client).unwrap_or_default();
            ClientShare {
                weight: weights.get(&client).copied().unwrap_or(1),
                queued: all.saturating_sub(held),
                held,
                started: waits.len() as u64,
                wait_p50_ms: quantile(&mut waits, 50),
                spent: self.spent.get(&client).copied().unwrap_or(Amount::ZERO),
                client,
            }
        };
        clients.into_iter().map(share).collect()
    }
}

/// The least value that so many per cent of all do not exceed; `None` where there is none.
pub(super) fn quantile(values: &mut [u64], percent: usize) -> Option<u64> {
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use protocol::Timestamp;

    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        assert_eq!(quantile(&mut [], 50), None);
        assert_eq!(quantile(&mut [7], 99), Some(7));
        let mut hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!((quantile(&mut hundred, 50), quantile(&mut hundred, 99)), (Some(50), Some(99)));
    }

    #[test]
    fn the_busiest_hundred_are_shown() {
        let name = |n: usize| format!("c{n:03}").parse::<Name>().unwrap();
        let start = Start { at: Timestamp::from_micros(0), waited_ms: 5 };
        let clients = Clients {
            live: (0..150).map(|n| (name(n), (n as u64, 1))).collect(),
            starts: vec![(name(149), start), (name(200), start)],
            spent: HashMap::from([(name(149), Amount::from_nanos(3))]),
        };
        let busiest = clients.busiest();
        assert_eq!((busiest.len(), &busiest[0], &busiest[99]), (100, &name(149), &name(50)));
        let shares = clients.shares(busiest, &HashMap::from([(name(149), 4)]));
        let first = &shares[0];
        assert_eq!((first.weight, first.queued, first.held), (4, 148, 1));
        assert_eq!((first.started, first.wait_p50_ms), (1, Some(5)));
        assert_eq!(first.spent, Amount::from_nanos(3));
    }
}
