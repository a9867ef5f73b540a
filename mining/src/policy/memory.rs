//! Whether the dataset stays in memory: it goes back when a job or the machine needs the room, and
//! after a long pause.

use super::{Facts, Opinion, Rule, Rules, words};

/// Pressure has to fall to this part of the limit before memory is taken again.
const RELIEF: f64 = 0.5;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    /// Whether something waited for memory too often.
    pressed: bool,
    /// Since when nothing is mined.
    paused_since_ms: Option<u64>,
}

impl State {
    /// What speaks against mining for want of memory.
    pub(super) fn opinion(&mut self, rules: &Rules, facts: &Facts) -> Option<Opinion> {
        let change = "more free memory, or ctl set memory_floor_mb=N";
        if let (Some(limit), Some(now)) = (rules.memory_pressure_pct, facts.memory_pressure_pct) {
            let limit = f64::from(limit);
            self.pressed = now >= if self.pressed { limit * RELIEF } else { limit };
            if self.pressed {
                let why =
                    format!("programs wait for memory {now:.0} % of the time (limit {limit:.0})");
                return Some(Opinion::new(Rule::Memory, 0, why, change));
            }
        } else {
            self.pressed = false;
        }
        let available = facts.available_mb?;
        let jobs: u64 = if rules.memory_for_jobs {
            facts.jobs.iter().map(|job| job.memory_mb).sum()
        } else {
            0
        };
        // What it holds is not among what is available, and need not be found again.
        let need = facts.mining.memory_need_mb.saturating_sub(facts.mining.memory_held_mb);
        let floor = u64::from(rules.memory_floor_mb);
        (available < jobs + floor + need).then(|| {
            let mut why = format!("{available} MiB available; {floor} MiB stay free");
            if jobs > 0 {
                why += &format!(", jobs may take {jobs} MiB");
            }
            if need > 0 {
                why += &format!(", mining needs {need} MiB");
            }
            Opinion::new(Rule::Memory, 0, why, change)
        })
    }

    /// Why the memory is given back, if it is, after `cpu` has decided.
    pub(super) fn decide(&mut self, rules: &Rules, facts: &Facts, cpu: &Opinion) -> Option<String> {
        if cpu.most > 0 {
            self.paused_since_ms = None;
            return None;
        }
        let since = *self.paused_since_ms.get_or_insert(facts.at_ms);
        let rebuild = facts.mining.rebuild_s;
        let cost = rebuild.map_or(String::new(), |s| format!("; building it anew takes {s:.0} s"));
        if let Some(want) = self.opinion(rules, facts) {
            return Some(format!("{}{cost}", want.why));
        }
        let after_ms = u64::from(rules.memory_after_min) * 60_000;
        let paused_ms = facts.at_ms.saturating_sub(since);
        (after_ms > 0 && paused_ms >= after_ms)
            .then(|| format!("nothing is mined for {}{cost}", words(paused_ms / 1000)))
    }
}
