//! One accepted job, from its submission to its end.

use std::collections::BTreeSet;

use protocol::job::Lease;
use protocol::{Amount, JobState, Timestamp};
use serde_json::Value;

/// From lease to acknowledgement.
pub const ACK_SECS: i64 = 10;
/// A lease without renewal.
pub const LEASE_SECS: i64 = 30;
/// What the deadline adds to a job's run time.
pub const MARGIN_SECS: i64 = 60;
/// How long a job that came back may wait for the next miner.
pub const TTL_SECS: i64 = 900;
/// The first delay after a failure; it doubles.
pub const RETRY_SECS: i64 = 5;
/// How long a reply is kept for repeats.
pub const KEY_SECS: i64 = 24 * 3600;

/// What a client asks of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    pub runtime_secs: i64,
    pub ttl_secs: i64,
    pub max_attempts: u32,
    pub max_price: Option<Amount>,
}

/// Who works.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Miner {
    pub wallet: usize,
    pub registered: bool,
    pub concurrency: usize,
}

/// An accepted job.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    pub prepaid: bool,
    pub terms: Terms,
    pub unit_price: Amount,
    pub hold: Amount,
    pub phase: Phase,
    pub attempt: u32,
    /// How often it was leased.
    pub fence: i64,
    /// When it lapses unless somebody takes it: not before the first, at the latest the second.
    pub lapses: (Timestamp, Timestamp),
    pub excluded: BTreeSet<usize>,
    /// Who holds it, or held it last, while nobody else has it.
    pub holder: Option<Holder>,
    pub paid: Option<Paid>,
    /// Why it ended without a result.
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    Queued,
    /// Until some moment between these.
    Delayed(Timestamp, Timestamp),
    Assigned,
    Running,
    Ended(JobState),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    pub miner: usize,
    pub leased_at: Timestamp,
    pub lease: Lease,
}

/// What a job paid, once and for all.
#[derive(Debug, Clone, PartialEq)]
pub struct Paid {
    pub wallet: usize,
    pub price: Amount,
    pub output: String,
    pub receipt: Value,
}

impl Task {
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    pub fn is_leased(&self) -> bool {
        matches!(self.phase, Phase::Assigned | Phase::Running)
    }

    pub fn end(&mut self, state: JobState, reason: &str) {
        self.phase = Phase::Ended(state);
        self.reason = Some(reason.to_owned());
    }

    /// A lease of somebody who never registered lasts as long as the job may anyway.
    pub fn renew(&mut self, miners: &[Miner], now: Timestamp) {
        if let Some(holder) = self.holder.as_mut().filter(|h| miners[h.miner].registered) {
            let renewed = now.plus_secs(LEASE_SECS).min(holder.lease.deadline);
            // What a miner was told that it has, another clock does not take away.
            holder.lease.expires_at = holder.lease.expires_at.max(renewed);
        }
    }

    /// Back to the queue, its try counted; somewhere within `delay` somebody may get it.
    pub fn requeue(&mut self, delay: (i64, i64), now: Timestamp) {
        let later = |millis: i64| Timestamp::from_micros(now.micros() + millis * 1000);
        let (from, to) = (later(delay.0), later(delay.1));
        self.attempt += 1;
        self.phase = if to == now { Phase::Queued } else { Phase::Delayed(from, to) };
        let lapses = |before: Timestamp, due: Timestamp| before.max(due.plus_secs(TTL_SECS));
        self.lapses = (lapses(self.lapses.0, from), lapses(self.lapses.1, to));
    }

    /// What it may be after a sweep.
    pub fn swept(&self, now: Timestamp) -> Vec<Self> {
        let mut task = self.clone();
        if task.has_ended() {
            return vec![task];
        }
        if task.is_leased() {
            if task.holder.as_ref().is_some_and(|holder| holder.lease.expires_at < now) {
                if task.attempt < task.terms.max_attempts {
                    task.requeue((0, 0), now);
                } else {
                    task.end(JobState::Failed, "E_CRASH");
                }
            }
            return vec![task];
        }
        let mut expired = task.clone();
        expired.end(JobState::Expired, "NO_ELIGIBLE_MINER");
        if task.lapses.1 < now {
            return vec![expired];
        }
        let mut may = Vec::new();
        if task.lapses.0 < now {
            may.push(expired);
            task.lapses.0 = now;
        }
        if let Phase::Delayed(from, to) = task.phase {
            if from <= now {
                may.push(Self { phase: Phase::Queued, ..task.clone() });
            }
            if to <= now {
                return may;
            }
        }
        may.push(task);
        may
    }
}
