//! Which processors jobs have, and which are left for mining: never the same ones.

use std::collections::BTreeSet;

use super::{Class, Facts, Opinion, Rule};

/// The processors that no job has, in order.
pub fn free(facts: &Facts) -> Vec<usize> {
    let taken: BTreeSet<_> = facts.jobs.iter().flat_map(|job| &job.processors).collect();
    facts.processors.iter().copied().filter(|number| !taken.contains(number)).collect()
}

/// The processors of a job that wants `threads`, out of `usable`: those that the fewest others have,
/// from the upper end, so that mining keeps its own at the lower one. At least one, where there are
/// any.
pub fn grant(usable: &[usize], others: &[&[usize]], threads: usize) -> Vec<usize> {
    let used = |number: &usize| others.iter().filter(|other| other.contains(number)).count();
    let mut order: Vec<_> = usable.to_vec();
    order.sort_by_key(|number| (used(number), std::cmp::Reverse(*number)));
    order.truncate(threads.max(1));
    order.sort_unstable();
    order
}

/// What jobs leave.
pub(super) fn opinions(facts: &Facts, all: usize) -> Vec<Opinion> {
    let mut opinions = Vec::new();
    let critical = facts.jobs.iter().filter(|job| job.class == Class::Critical).count();
    if critical > 0 {
        let why = format!("{critical} critical jobs run");
        opinions.push(Opinion::new(Rule::CriticalJob, 0, why, "the end of the job"));
    }
    if !facts.jobs.is_empty() {
        let free = free(facts).len().min(all);
        let count = facts.processors.len();
        let why = format!(
            "{} jobs have {} of {count} processors",
            facts.jobs.len(),
            count - free.min(count)
        );
        opinions.push(Opinion::new(Rule::Jobs, free, why, "the end of a job"));
    }
    opinions
}
