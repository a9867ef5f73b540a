//! Controls: what the operator decides while the coordinator runs, and what follows from it, one
//! function per question. Rules only; what may be decided is in `check`, the copy that each replica
//! keeps in `switchboard`, the SQL in `store`, the HTTP in `routes`.

mod check;
pub mod routes;
pub mod store;
mod switchboard;

pub use check::{Problem, check, prices as check_prices};
use protocol::control::{ClientControl, Controls, Prices};
use protocol::{Amount, ErrorCode, Name, Timestamp};
use serde_json::{Map, Value, json};
pub use switchboard::Switchboard;

use crate::audit::{self, Action, Record};
use crate::db::Db;
use crate::error::ApiError;

/// The decisions in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForce {
    /// How often they were changed.
    pub version: i64,
    controls: Controls,
}

/// Why a client's job is not taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody's is.
    Paused,
    /// The operator does not want this client's, and says why.
    Banned(String),
    /// It has as many as it may have in the queue and at work.
    LiveJobs {
        /// How many that is.
        limit: u32,
    },
    /// It submitted as many as it may in a day.
    JobsPerDay {
        /// How many that is.
        limit: u32,
    },
}

impl InForce {
    /// Decisions, and how often they were changed before.
    pub const fn new(version: i64, controls: Controls) -> Self {
        Self { version, controls }
    }

    /// As they stand on the wire.
    pub fn to_wire(&self) -> Controls {
        Controls { version: Some(self.version), ..self.controls.clone() }
    }

    /// Whether jobs are taken in at all.
    pub const fn takes_in(&self) -> bool {
        self.controls.intake
    }

    /// Whether jobs are handed out at all.
    pub const fn hands_out(&self) -> bool {
        self.controls.dispatch
    }

    /// Whether a client may submit one more job, that has `live` of them in the queue and at work and
    /// submitted `today` of them today.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, client: &Name, live: u64, today: u64) -> Result<(), Refusal> {
        if !self.takes_in() {
            return Err(Refusal::Paused);
        }
        let Some(control) = self.client(client) else { return Ok(()) };
        if let Some(reason) = &control.banned {
            return Err(Refusal::Banned(reason.clone()));
        }
        match (control.max_live_jobs, control.max_jobs_per_day) {
            (Some(limit), _) if live >= u64::from(limit) => Err(Refusal::LiveJobs { limit }),
            (_, Some(limit)) if today >= u64::from(limit) => Err(Refusal::JobsPerDay { limit }),
            _ => Ok(()),
        }
    }

    /// Whether the client's live jobs have to be counted before [`Self::admits`] is asked.
    pub fn counts_live_jobs(&self, client: &Name) -> bool {
        self.client(client).is_some_and(|control| control.max_live_jobs.is_some())
    }

    /// Why a miner gets no jobs, if the operator decided so.
    pub fn ban_of(&self, miner: &Name, wallet: &Name) -> Option<&str> {
        let by_name = self.controls.banned_miners.get(miner);
        by_name.or_else(|| self.controls.banned_wallets.get(wallet)).map(String::as_str)
    }

    /// A client's share of the queue, where it is not the one that came with its key.
    pub fn weight_of(&self, client: &Name) -> Option<u32> {
        self.client(client)?.weight
    }

    /// What work pays: what was decided, else what is configured.
    pub fn prices<'a>(&'a self, configured: &'a Prices) -> &'a Prices {
        self.controls.prices.as_ref().unwrap_or(configured)
    }

    /// The operator's share of each price, in hundredths of a per cent.
    pub const fn fee_bp(&self) -> u16 {
        self.controls.fee_bp
    }

    /// The most that may be issued in a day.
    pub const fn daily_cap(&self) -> Option<Amount> {
        self.controls.daily_cap
    }

    fn client(&self, client: &Name) -> Option<&ClientControl> {
        self.controls.clients.get(client)
    }
}

impl Refusal {
    /// What the client is told. `now` is for when it may come back.
    pub fn to_error(&self, now: Timestamp) -> ApiError {
        let quota = |quota: &str, limit: u32, message: String| {
            let error = ApiError::new(ErrorCode::QuotaExceeded, message);
            error.with("quota", quota).with("limit", limit)
        };
        match self {
            Self::Paused => {
                ApiError::new(ErrorCode::IntakePaused, "the operator takes in no jobs for now")
                    .with("retry_after_secs", PAUSE_SECS)
            }
            Self::Banned(reason) => {
                ApiError::new(ErrorCode::Banned, format!("this client may not submit: {reason}"))
            }
            Self::LiveJobs { limit } => {
                let message = format!("{limit} jobs may be in the queue and at work at once");
                quota("max_live_jobs", *limit, message).with("retry_after_secs", PAUSE_SECS)
            }
            Self::JobsPerDay { limit } => {
                let message = format!("{limit} jobs may be submitted in a day (UTC)");
                quota("max_jobs_per_day", *limit, message)
                    .with("retry_after_secs", secs_to_midnight(now))
            }
        }
    }
}

/// When to ask again after a refusal that nobody can say the end of, in seconds.
const PAUSE_SECS: u64 = 30;

/// How long the day (UTC) still lasts, in seconds, rounded up.
pub fn secs_to_midnight(now: Timestamp) -> u64 {
    let left = Timestamp::of_day(now.day() + 1).since(now);
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

/// Puts decisions in force: in the database, with a line in the audit log.
///
/// # Errors
/// `INVALID_PAYLOAD` naming what is wrong, `CONFLICT_STATE` where `wanted` names another version than
/// the one in force.
pub async fn put(
    db: &Db,
    now: Timestamp,
    actor: &str,
    wanted: Controls,
) -> Result<InForce, ApiError> {
    check::refuse(&check(&wanted))?;
    let mut tx = db.write().await?;
    let before = store::lock(&mut tx).await?;
    if wanted.version.is_some_and(|version| version != before.version) {
        let message = format!("version {} is in force", before.version);
        return Err(
            ApiError::new(ErrorCode::ConflictState, message).with("version", before.version)
        );
    }
    let version = before.version + 1;
    let after = InForce::new(version, Controls { version: None, ..wanted });
    store::add(&mut tx, now, actor, &after).await?;
    let changed = changes(&before.controls, &after.controls);
    let data = json!({ "version": version, "changed": changed });
    let (action, subject) = (Action::PutControls, "controls");
    audit::store::append(&mut tx, now, Record { actor, action, subject, data }).await?;
    tx.commit().await?;
    Ok(after)
}

/// The top-level members that differ, as they are now; null where they are gone.
fn changes(before: &Controls, after: &Controls) -> Map<String, Value> {
    let members = |controls| match serde_json::to_value(controls) {
        Ok(Value::Object(members)) => members,
        Ok(_) | Err(_) => Map::new(),
    };
    let (before, mut after) = (members(before), members(after));
    for name in before.keys() {
        after.entry(name.clone()).or_insert(Value::Null);
    }
    after.retain(|name, value| before.get(name) != Some(value));
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn in_force(change: impl FnOnce(&mut Controls)) -> InForce {
        let mut controls = Controls::default();
        change(&mut controls);
        InForce::new(1, controls)
    }

    #[test]
    fn a_pause_outweighs_a_ban_outweighs_a_quota() {
        let control = ClientControl {
            banned: Some("unpaid".to_owned()),
            max_live_jobs: Some(2),
            max_jobs_per_day: Some(5),
            weight: None,
        };
        let mut open = in_force(|c| drop(c.clients.insert(name("c"), control)));
        open.controls.intake = false;
        assert_eq!(open.admits(&name("c"), 9, 9), Err(Refusal::Paused));
        assert_eq!(open.admits(&name("other"), 0, 0), Err(Refusal::Paused));
        open.controls.intake = true;
        assert_eq!(open.admits(&name("c"), 9, 9), Err(Refusal::Banned("unpaid".to_owned())));
        open.controls.clients.get_mut(&name("c")).unwrap().banned = None;
        assert_eq!(open.admits(&name("c"), 2, 0), Err(Refusal::LiveJobs { limit: 2 }));
        assert_eq!(open.admits(&name("c"), 1, 5), Err(Refusal::JobsPerDay { limit: 5 }));
        assert_eq!(open.admits(&name("c"), 1, 4), Ok(()));
        assert_eq!(open.admits(&name("other"), 9, 9), Ok(()));
    }

    #[test]
    fn a_miner_is_banned_by_its_name_or_its_wallet() {
        let banned = in_force(|c| {
            c.banned_miners.insert(name("m1"), "wrong results".to_owned());
            c.banned_wallets.insert(name("w2"), "stolen".to_owned());
        });
        assert_eq!(banned.ban_of(&name("m1"), &name("w1")), Some("wrong results"));
        assert_eq!(banned.ban_of(&name("m2"), &name("w2")), Some("stolen"));
        assert_eq!(banned.ban_of(&name("m2"), &name("w1")), None);
    }

    #[test]
    fn the_day_ends_at_midnight() {
        let secs = |text: &str| secs_to_midnight(text.parse().unwrap());
        assert_eq!(secs("2026-01-24T00:00:00Z"), 86_400);
        assert_eq!(secs("2026-01-24T23:59:58.5Z"), 2);
    }

    #[test]
    fn what_changed_is_what_differs() {
        let before = in_force(|c| c.daily_cap = Some("5".parse().unwrap())).controls;
        let after = in_force(|c| c.intake = false).controls;
        let changed = Value::Object(changes(&before, &after));
        assert_eq!(changed, json!({ "daily_cap": null, "intake": false }));
    }
}
