//! Whether jobs may be asked for: what the decision means for who asks.

use std::time::Duration;

use mining::policy::{Decision, Rule};

use super::Sharing;

/// Whether jobs may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Now.
    Open,
    /// Not now: nothing is known of the machine yet, it is mining's turn, or there are enough of them.
    /// One that is on its way is welcome.
    Later,
    /// The owner's rules are against it: one that is on its way is not begun.
    Closed,
}

impl Gate {
    pub(super) const fn of(decision: &Decision, has_room: bool) -> Self {
        match decision.jobs.rule {
            _ if decision.takes_jobs() && has_room => Self::Open,
            _ if decision.takes_jobs() => Self::Later,
            // The choice between jobs and mining.
            Rule::Revenue | Rule::Slice => Self::Later,
            _ => Self::Closed,
        }
    }
}

impl Sharing {
    /// Whether jobs may be asked for now.
    pub fn gate(&self) -> Gate {
        *self.gate.borrow()
    }

    /// Waits until jobs may be asked for.
    pub async fn opened(&self) {
        // The sender lives as long as `self`.
        let _ = self.gate.subscribe().wait_for(|gate| *gate == Gate::Open).await;
    }

    /// Waits until the owner's rules are against jobs.
    pub async fn closed(&self) {
        let _ = self.gate.subscribe().wait_for(|gate| *gate == Gate::Closed).await;
    }

    /// Why no jobs are asked for, if none are: the rule, and what it says.
    pub fn not_taking(&self) -> Option<String> {
        if self.gate() == Gate::Open {
            return None;
        }
        let desk = self.desk();
        let Some(decision) = &desk.decision else {
            return Some("the machine was not looked at yet".to_owned());
        };
        if decision.takes_jobs() {
            return Some("enough jobs are at work, by how long they take".to_owned());
        }
        Some(format!("{}: {}", decision.jobs.rule.as_str(), decision.jobs.why))
    }

    /// How long the coordinator may hold a question for a job, if a slice shall not be overrun.
    pub fn longest_question(&self) -> Option<Duration> {
        let slice_s = self.desk().rules.slice_s;
        (slice_s > 0).then(|| Duration::from_secs(slice_s.into()))
    }
}
