//! Turns: where the owner wants them, jobs are taken during one slice, and mining goes undisturbed
//! during the next. A job that runs is never cut short.

use super::{Facts, Opinion, Rule, Rules, words};

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct State {
    /// When the present pair of slices began: jobs first, then mining.
    began_ms: Option<u64>,
}

impl State {
    /// What speaks against taking jobs now: it is mining's turn.
    pub(super) fn turn(&mut self, rules: &Rules, facts: &Facts) -> Option<Opinion> {
        let slice_ms = u64::from(rules.slice_s) * 1000;
        if slice_ms == 0 || !rules.mining {
            self.began_ms = None;
            return None;
        }
        let began = *self.began_ms.get_or_insert(facts.at_ms);
        let into = facts.at_ms.saturating_sub(began) % (2 * slice_ms);
        (into >= slice_ms).then(|| {
            let rest = words((2 * slice_ms - into).div_ceil(1000));
            let why = format!("it is mining's slice of {} s for {rest} more", rules.slice_s);
            Opinion::new(Rule::Slice, 0, why, "the end of the slice, or ctl set slice_s=0")
        })
    }
}
