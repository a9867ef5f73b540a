//! What an operator decides while the coordinator runs, and the record of what was decided.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::amount::{Amount, Units};
use crate::id::Name;
use crate::job::UnitType;
use crate::time::Timestamp;

/// Parts of a whole unit in [`Units::nanos`].
const NANOS: i128 = 1_000_000_000;

/// Body and reply of `GET` and `PUT /v1/admin/controls`: all of them, always.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Controls {
    /// Counts the changes. A `PUT` that names another version than the one in force is refused
    /// with 409; without one it wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// Whether new jobs are taken in.
    pub intake: bool,
    /// Whether jobs are handed out. What runs goes on, and is paid.
    pub dispatch: bool,
    /// The most that may be issued in a day (UTC), in AITBC; absent: no cap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily_cap: Option<Amount>,
    /// The operator's share of each price, in hundredths of a per cent.
    pub fee_bp: u16,
    /// Prices in place of those of the configuration; absent: those of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
    /// What single clients may do.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub clients: BTreeMap<Name, ClientControl>,
    /// Miners that get no jobs, with the reason that they are told.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub banned_miners: BTreeMap<Name, String>,
    /// Wallets whose miners get no jobs, with the reason that they are told.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub banned_wallets: BTreeMap<Name, String>,
}

impl Default for Controls {
    fn default() -> Self {
        Self {
            version: None,
            intake: true,
            dispatch: true,
            daily_cap: None,
            fee_bp: 0,
            prices: None,
            clients: BTreeMap::new(),
            banned_miners: BTreeMap::new(),
            banned_wallets: BTreeMap::new(),
        }
    }
}

/// What one client may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ClientControl {
    /// It may not submit, for this reason, which it is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub banned: Option<String>,
    /// Jobs that it may have in the queue and at work at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_live_jobs: Option<u32>,
    /// Jobs that it may submit in a day (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_jobs_per_day: Option<u32>,
    /// Its share of the queue, in place of the one that came with its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// What work pays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Prices {
    /// A workload's own price.
    pub workloads: BTreeMap<Name, UnitPrice>,
    /// Any other job that needs a GPU.
    pub gpu: UnitPrice,
    /// Any other job.
    pub cpu: UnitPrice,
}

impl Default for Prices {
    fn default() -> Self {
        let seconds = |unit_type, nanos| UnitPrice {
            unit_type,
            unit_price: Amount::from_nanos(nanos),
            bonus: None,
        };
        Self {
            workloads: BTreeMap::new(),
            gpu: seconds(UnitType::GpuSeconds, 20_000_000),
            cpu: seconds(UnitType::CpuSeconds, 2_000_000),
        }
    }
}

/// What one unit pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UnitPrice {
    /// What is counted.
    pub unit_type: UnitType,
    /// What one unit pays, in AITBC.
    pub unit_price: Amount,
    /// What efficient work gets on top, from the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bonus: Option<Bonus>,
}

/// A reward for efficiency. A miner measures itself, so this is bounded: `max_bp` of the price at
/// `full_at` and above, in proportion below, nothing at or below `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Bonus {
    /// Which of the proof's metrics.
    pub metric: BonusMetric,
    /// The value that earns nothing.
    pub from: u32,
    /// The value that earns all of it.
    pub full_at: u32,
    /// The most, in hundredths of a per cent of the price.
    pub max_bp: u16,
}

impl Bonus {
    /// What it adds to a price, where `measured` is the metric: in proportion to the millionth,
    /// rounded down.
    pub fn earned(&self, price: Amount, measured: Units) -> Amount {
        let measured = i128::from(measured.nanos());
        let (from, full_at) = (i128::from(self.from) * NANOS, i128::from(self.full_at) * NANOS);
        let span = (full_at - from).max(1);
        let millionths = (measured.clamp(from, from + span) - from) * 1_000_000 / span;
        let most = i128::from(self.most(price).nanos());
        i64::try_from(most * millionths / 1_000_000).map_or(Amount::ZERO, Amount::from_nanos)
    }

    /// The most that it adds to a price.
    pub fn most(&self, price: Amount) -> Amount {
        price.share(self.max_bp).unwrap_or(Amount::ZERO)
    }
}

impl BonusMetric {
    /// The name of the metric in a proof.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokensPerKj => "tokens_per_kJ",
            Self::TokensPerTflopS => "tokens_per_TFLOP_s",
        }
    }
}

/// The metrics that a bonus may reward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub enum BonusMetric {
    /// Tokens per kilojoule.
    #[serde(rename = "tokens_per_kJ")]
    TokensPerKj,
    /// Tokens per second and per TFLOP/s of the device.
    #[serde(rename = "tokens_per_TFLOP_s")]
    TokensPerTflopS,
}

/// One line of the audit log, as `GET /v1/admin/audit` lists it: newest first, append-only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct AuditLine {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Whose key did it; `local` for the command line on the coordinator's machine.
    pub actor: String,
    /// What: `controls.put`, `key.create`, `key.revoke`, `miner.drain`, `wallet.deposit`, ...
    pub action: String,
    /// To whom or to what.
    pub subject: String,
    /// What exactly; never a secret.
    pub data: Value,
}

/// Reply of `GET /v1/admin/queues`: what waits, by requirement class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Queues {
    /// The coordinator's clock.
    pub server_time: Timestamp,
    /// The classes that have live jobs, most waiting first; at most 200.
    pub items: Vec<Queue>,
}

/// The live jobs of one requirement class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Queue {
    /// The class.
    pub class_id: i32,
    /// What it needs of a miner.
    pub needs: Value,
    /// Jobs that nobody holds.
    pub queued: u64,
    /// Jobs that wait to be tried again.
    pub delayed: u64,
    /// Jobs that somebody holds.
    pub held: u64,
    /// Since when the longest has been waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    /// Miners online that can run them.
    pub able: u64,
}

/// Reply of `GET /v1/admin/rates`: what went through lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Rates {
    /// The coordinator's clock.
    pub server_time: Timestamp,
    /// The last minute, the last hour, the last day.
    pub items: Vec<Rate>,
}

/// What went through in the last so many seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Rate {
    /// How long, in seconds.
    pub secs: u32,
    /// Jobs submitted.
    pub submitted: u64,
    /// Jobs ended, by how.
    pub ended: BTreeMap<String, u64>,
    /// Attempts that failed.
    pub failed_attempts: u64,
    /// What was credited to miners, in AITBC.
    pub credited: Amount,
    /// Half of the jobs that started, at most the newest 10,000 of them, waited for their first
    /// miner no longer than this, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_p50_ms: Option<u64>,
    /// 99 of 100 waited no longer than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_p99_ms: Option<u64>,
}

/// Reply of `GET /v1/admin/capacities`: what the miners that were heard of lately offer together;
/// of workloads, models and regions the 200 that most have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct Capacities {
    /// The coordinator's clock.
    pub server_time: Timestamp,
    /// Miners online.
    pub online: u64,
    /// CPU slots.
    pub cpu_slots: u64,
    /// GPU slots.
    pub gpu_slots: u64,
    /// Jobs at work.
    pub inflight: u64,
    /// Miners by workload.
    pub workloads: BTreeMap<Name, u64>,
    /// Miners by model.
    pub models: BTreeMap<Name, u64>,
    /// Miners by region; those without one are not counted.
    pub regions: BTreeMap<Name, u64>,
}

/// What one client has in the queue and got of the miners' time: whether the shares are fair. Where
/// more than 10,000 jobs started or were paid in the last hour, it counts the newest 10,000.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(schemars::JsonSchema))]
pub struct ClientShare {
    /// The client.
    pub client: Name,
    /// Its weight.
    pub weight: u32,
    /// Jobs in the queue.
    pub queued: u64,
    /// Jobs at work.
    pub held: u64,
    /// Jobs that started in the last hour.
    pub started: u64,
    /// Half of them waited less than this, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_p50_ms: Option<u64>,
    /// What it paid, or was issued for it, in the last hour, in AITBC.
    pub spent: Amount,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bonus_is_in_proportion_and_bounded() {
        let metric = BonusMetric::TokensPerKj;
        let bonus = Bonus { metric, from: 100, full_at: 300, max_bp: 1_000 };
        let price: Amount = "10".parse().unwrap();
        let earned = |measured: &str| bonus.earned(price, measured.parse().unwrap()).to_string();
        assert_eq!(earned("-5"), "0");
        assert_eq!(earned("100"), "0");
        assert_eq!(earned("200"), "0.5");
        assert_eq!(earned("300"), "1");
        assert_eq!(earned("9223372036"), "1");
        assert_eq!(bonus.most(price).to_string(), "1");
        assert_eq!(bonus.earned(Amount::MAX, Units::MAX), Amount::MAX.share(1_000).unwrap());
    }
}
