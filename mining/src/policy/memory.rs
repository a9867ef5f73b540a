//! Whether the dataset stays in memory: it goes back when a job or the machine needs the room, and
//! after a long pause. Building it anew costs more than most pauses: it does not come back for a
//! little room that may be gone again.

use super::{Facts, Opinion, Rule, Rules, words};

/// Pressure has to fall to this part of the limit before memory is taken again.
const RELIEF: f64 = 0.5;

/// How much more has to be available than what stopped it, before memory is taken again, in MiB.
const MARGIN_MB: u64 = 512;

/// What an owner can do about it.
const CHANGE: &str = "more free memory, or ctl set memory_floor_mb=N";

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    /// Whether something waited for memory too often.
    pressed: bool,
    /// When want of memory stopped it, until it may come back.
    stopped_ms: Option<u64>,
    /// Since when nothing is mined.
    paused_since_ms: Option<u64>,
}

impl State {
    /// What speaks against mining for want of memory.
    pub(super) fn opinion(&mut self, rules: &Rules, facts: &Facts) -> Option<Opinion> {
        let want = self.pressure(rules, facts).or_else(|| self.shortage(rules, facts));
        let why = match (want, self.stopped_ms) {
            (Some(why), before) => {
                self.stopped_ms = before.or(Some(facts.at_ms));
                why
            }
            (None, Some(since)) => {
                let since_ms = facts.at_ms.saturating_sub(since);
                let rest_ms = (u64::from(rules.quantum_s) * 1000).saturating_sub(since_ms);
                if rest_ms == 0 {
                    self.stopped_ms = None;
                    return None;
                }
                let rest = words(rest_ms.div_ceil(1000));
                let ago = since_ms / 1000;
                format!("stopped for want of memory {ago} s ago; it goes on in {rest}")
            }
            (None, None) => return None,
        };
        Some(Opinion::new(Rule::Memory, 0, why, CHANGE))
    }

    fn pressure(&mut self, rules: &Rules, facts: &Facts) -> Option<String> {
        let limit = rules.memory_pressure_pct.map(f64::from);
        let Some((limit, now)) = limit.zip(facts.memory_pressure_pct) else {
            self.pressed = false;
            return None;
        };
        self.pressed = now >= if self.pressed { limit * RELIEF } else { limit };
        let why = || format!("programs wait for memory {now:.0} % of the time (limit {limit:.0})");
        self.pressed.then(why)
    }

    fn shortage(&self, rules: &Rules, facts: &Facts) -> Option<String> {
        let available = facts.available_mb?;
        let jobs: u64 = if rules.memory_for_jobs {
            facts.jobs.iter().map(|job| job.memory_mb).sum()
        } else {
            0
        };
        // What it holds is not among what is available, and need not be found again.
        let need = facts.mining.memory_need_mb.saturating_sub(facts.mining.memory_held_mb);
        let floor = u64::from(rules.memory_floor_mb);
        let margin = if self.stopped_ms.is_some() { MARGIN_MB } else { 0 };
        (available < jobs + floor + need + margin).then(|| {
            let mut why = format!("{available} MiB available; {floor} MiB stay free");
            if jobs > 0 {
                why += &format!(", jobs may take {jobs} MiB");
            }
            if need > 0 {
                why += &format!(", mining needs {need} MiB");
            }
            if margin > 0 {
                why += &format!(", and comes back only with {margin} MiB more");
            }
            why
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
