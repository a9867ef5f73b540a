//! Which way of earning pays more, as far as the owner gave the numbers for it. Prices are in
//! whatever currency the owner thinks in; only the quotients matter.

use serde::{Deserialize, Serialize};

use super::window::value_at;
use super::{Facts, Opinion, Rule, Rules};

/// The numbers of a choice, in the owner's currency per hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// What the hashes of an hour are worth.
    pub hashes: f64,
    /// What energy costs meanwhile.
    pub energy: f64,
    /// What jobs pay, after the same energy; absent: not known.
    pub jobs: Option<f64>,
}

impl Eq for Numbers {}

impl Numbers {
    /// What mining leaves.
    pub fn mining(&self) -> f64 {
        self.hashes - self.energy
    }
}

/// What the numbers are; `None` where the owner did not say what hashes are worth, or it is not
/// known yet how many there are.
pub(super) fn numbers(rules: &Rules, facts: &Facts) -> Option<Numbers> {
    let value = rules.hash_value?.get();
    // None at all is not a low one: something keeps it from hashing that is no matter of money.
    let hashrate = facts.mining.hashrate.filter(|rate| *rate > 0.0)?;
    let price = facts.local.and_then(|now| value_at(&rules.tariff, now));
    let price = price.or(rules.energy_price.map(|price| price.get())).unwrap_or(0.0);
    let watts = rules.watts.map(f64::from).or(facts.power_w).unwrap_or(0.0);
    let energy = watts / 1000.0 * price;
    let worth = rules.job_value.map_or(1.0, |value| value.get());
    let jobs = facts.jobs_pay_per_h.map(|pay| pay * worth - energy);
    Some(Numbers { hashes: hashrate * 3600.0 / 1e6 * value, energy, jobs })
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    /// Mining did not pay for its energy.
    loss: bool,
    /// Mining paid more than jobs.
    mining_first: bool,
}

/// What was chosen.
#[derive(Debug)]
pub(super) struct Choice {
    loss: Option<Opinion>,
    mining_first: Option<Opinion>,
}

impl State {
    /// Chooses. Once chosen, the other way has to be better by a margin.
    pub(super) fn choose(&mut self, rules: &Rules, numbers: Option<&Numbers>) -> Choice {
        let Some(numbers) = numbers else {
            *self = Self::default();
            return Choice { loss: None, mining_first: None };
        };
        let margin = f64::from(rules.margin_pct) / 100.0;
        let edge = |is_on: bool, reference: f64| {
            let width = reference.abs() * margin;
            if is_on { reference - width } else { reference + width }
        };
        self.loss = numbers.hashes < edge(!self.loss, numbers.energy);
        let jobs = numbers.jobs.filter(|jobs| *jobs > 0.0 || numbers.mining() > 0.0);
        self.mining_first =
            jobs.is_some_and(|jobs| numbers.mining() > edge(self.mining_first, jobs));
        let Numbers { hashes, energy, .. } = numbers;
        let loss = self.loss.then(|| {
            let why =
                format!("an hour's hashes are worth {hashes:.4}, its energy costs {energy:.4}");
            let change = "a lower tariff, or ctl set hash_value=N";
            Opinion::new(Rule::Revenue, 0, why, change)
        });
        let mining_first = jobs.filter(|_| self.mining_first).map(|jobs| {
            let mining = numbers.mining();
            let why = format!("mining leaves {mining:.4} an hour, jobs lately {jobs:.4}");
            let change =
                "better paid jobs (they are tried again every hour), or ctl set hash_value=";
            Opinion::new(Rule::Revenue, 0, why, change)
        });
        Choice { loss, mining_first }
    }
}

impl Choice {
    pub(super) fn against_mining(&self) -> Option<Opinion> {
        self.loss.clone()
    }

    pub(super) fn against_jobs(self) -> Option<Opinion> {
        // Who does not mine has nothing better to do than jobs.
        self.mining_first.filter(|_| self.loss.is_none())
    }
}
