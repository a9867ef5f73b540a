//! What the owner decides about mining, each rule with its default.

use serde::{Deserialize, Serialize};

use super::{Decimal, Window};

/// The owner's rules. All of them can be changed while the node runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// Whether to mine.
    pub mining: bool,
    /// Whether to take jobs.
    pub compute: bool,
    /// Others have let the machine be once they take less than this of its processors, in per
    /// cent,
    pub load_pct: u8,
    /// for this long, in seconds;
    pub quiet_s: u32,
    /// and they are at work again from this on; 100: never mind what they do.
    pub busy_pct: u8,
    /// How long nobody may have touched keyboard, mouse or terminal, in seconds.
    pub input_s: u32,
    /// What mining may take of the threads while the machine is in use, in per cent.
    pub in_use_pct: u8,
    /// Whether jobs are taken while the machine is in use, on battery, or out of the schedule.
    pub compute_in_use: bool,
    /// How long a stop lasts at least, in seconds.
    pub quantum_s: u32,
    /// The most that mining takes of the threads, in per cent;
    pub cpu_pct: u8,
    /// the same as their number.
    pub cpu_threads: Option<u32>,
    /// The intensity of a GPU miner, in per cent.
    pub gpu_intensity: u8,
    /// When to mine, with a share in per cent behind `=`; empty: always.
    pub schedule: Vec<Window>,
    /// Whether to mine on battery.
    pub on_battery: bool,
    /// From which temperature on not to mine, in degrees Celsius.
    pub max_temperature_c: Option<u32>,
    /// From which power on not to mine, in watts.
    pub max_power_w: Option<u32>,
    /// From which pressure on processors the machine counts as in use, in per cent.
    pub cpu_pressure_pct: Option<u8>,
    /// From which pressure on memory on not to mine, in per cent.
    pub memory_pressure_pct: Option<u8>,
    /// Memory that stays available to others, in MiB.
    pub memory_floor_mb: u32,
    /// Whether the dataset goes where a job asks for its room.
    pub memory_for_jobs: bool,
    /// After how many minutes without mining the dataset goes; 0: never.
    pub memory_after_min: u32,
    /// The processors of a job that names no number of threads; absent: its slot's share of all.
    pub job_threads: Option<u32>,
    /// From which priority on nothing mines beside a job.
    pub critical_priority: u8,
    /// Up to which priority jobs yield to mining, on one thread; absent: none does.
    pub low_priority: Option<u8>,
    /// How long jobs are taken, and then mining goes undisturbed, in turns, in seconds; 0: no turns.
    pub slice_s: u32,
    /// How long jobs shall take, in seconds: the node takes fewer at once where they take longer;
    /// 0: as many as there are slots.
    pub job_target_s: u32,
    /// By how much that number changes at a time, in per cent.
    pub step_pct: u8,
    /// What a million hashes are worth, in the owner's currency; absent: mining and jobs are not
    /// compared.
    pub hash_value: Option<Decimal>,
    /// What one AITBC is worth in the same; absent: 1.
    pub job_value: Option<Decimal>,
    /// What a kilowatt-hour costs in the same,
    pub energy_price: Option<Decimal>,
    /// and at which times something else, behind `=`.
    pub tariff: Vec<Window>,
    /// What mining takes, in watts; absent: what is measured.
    pub watts: Option<u32>,
    /// How much better the other way has to be, in per cent.
    pub margin_pct: u8,
}

/// What is wrong with rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {message}")]
pub struct Problem {
    /// The key to blame.
    pub key: &'static str,
    /// What it must be.
    pub message: &'static str,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            mining: true,
            compute: true,
            load_pct: 20,
            quiet_s: 30,
            busy_pct: 35,
            input_s: 120,
            in_use_pct: 0,
            compute_in_use: true,
            quantum_s: 10,
            cpu_pct: 100,
            cpu_threads: None,
            gpu_intensity: 100,
            schedule: Vec::new(),
            on_battery: false,
            max_temperature_c: None,
            max_power_w: None,
            cpu_pressure_pct: None,
            memory_pressure_pct: Some(20),
            memory_floor_mb: 512,
            memory_for_jobs: true,
            memory_after_min: 30,
            job_threads: None,
            critical_priority: 9,
            low_priority: None,
            slice_s: 0,
            job_target_s: 0,
            step_pct: 25,
            hash_value: None,
            job_value: None,
            energy_price: None,
            tariff: Vec::new(),
            watts: None,
            margin_pct: 10,
        }
    }
}

impl Rules {
    /// What no value by itself shows.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), Problem> {
        let percent = "must be at most 100";
        let broken = [
            ("load_pct", self.load_pct > 100, percent),
            ("busy_pct", self.busy_pct < self.load_pct, "must not be less than load_pct"),
            ("in_use_pct", self.in_use_pct > 100, percent),
            ("cpu_pct", self.cpu_pct > 100, percent),
            ("gpu_intensity", self.gpu_intensity > 100, percent),
            ("cpu_pressure_pct", self.cpu_pressure_pct.is_some_and(|p| p > 100), percent),
            ("memory_pressure_pct", self.memory_pressure_pct.is_some_and(|p| p > 100), percent),
            ("margin_pct", self.margin_pct > 100, percent),
            ("step_pct", !(1..=100).contains(&self.step_pct), "must be from 1 to 100"),
            ("max_temperature_c", self.max_temperature_c == Some(0), "must be at least 1"),
            ("job_threads", self.job_threads == Some(0), "must be at least 1"),
            ("max_power_w", self.max_power_w == Some(0), "must be at least 1"),
            (
                "low_priority",
                self.low_priority.is_some_and(|low| low >= self.critical_priority),
                "must be less than critical_priority",
            ),
            (
                "tariff",
                self.tariff.iter().any(|window| window.value.is_none()),
                "needs a price behind each time, as in 22:00-06:00=0.19",
            ),
            ("schedule", self.schedule.len() > MOST_WINDOWS, "has more than 100 times"),
            ("tariff", self.tariff.len() > MOST_WINDOWS, "has more than 100 times"),
        ];
        let found = broken.into_iter().find(|(_, is_broken, _)| *is_broken);
        found.map_or(Ok(()), |(key, _, message)| Err(Problem { key, message }))
    }
}

/// Nobody's week has more.
const MOST_WINDOWS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_fine_and_contradictions_are_not() {
        assert_eq!(Rules::default().check(), Ok(()));
        let wrong = |change: fn(&mut Rules)| {
            let mut rules = Rules::default();
            change(&mut rules);
            rules.check().unwrap_err().key
        };
        assert_eq!(wrong(|rules| rules.cpu_pct = 101), "cpu_pct");
        assert_eq!(wrong(|rules| rules.busy_pct = 10), "busy_pct");
        assert_eq!(wrong(|rules| rules.low_priority = Some(9)), "low_priority");
        assert_eq!(wrong(|rules| rules.tariff = vec!["01:00-02:00".parse().unwrap()]), "tariff");
    }
}
