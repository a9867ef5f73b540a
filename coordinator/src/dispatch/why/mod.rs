//! Why: what keeps a job from being run, a miner from being given jobs, an attempt from being paid.
//!
//! The answers come from the rules by which the matcher decides, asked of each miner or each class,
//! so that they cannot say something else than it does. Nothing is decided here.

mod idle;
mod pay;
mod reach;
mod store;
mod words;

use std::sync::Arc;

use protocol::why::{JobWhy, MinerWhy, Reach};
use protocol::{ErrorCode, JobId, JobState, Name, Timestamp};
use store::{Facts, Live};

use self::reach::{Fleet, Hold, Wanted, nobody};
use super::deal::Load;
use super::matching::{self, Needs};
use crate::accounts::{Binding, Caller};
use crate::app::App;
use crate::controls::InForce;
use crate::db::{DbError, Tx};
use crate::error::ApiError;
use crate::miners::Miner;

/// Up to how many the jobs ahead of one are counted.
const MAX_AHEAD: i64 = 100_000;

/// How many of the miners that could run a job are asked what else they can run: more of them
/// hardly change the answer.
const ASKED: usize = 64;

/// Whether no jobs are handed out at all.
fn paused(app: &App) -> bool {
    !app.controls.in_force().hands_out()
}

/// Who could run a job of these needs now.
///
/// # Errors
/// Where the database cannot be read.
pub async fn reach(app: &App, needs: &Needs) -> Result<Reach, DbError> {
    let mut tx = app.db.read().await?;
    let fleet = fleet(app, &mut tx).await?;
    tx.commit().await?;
    let hold = paused(app).then_some(Hold::Paused);
    Ok(reach::reach(&Wanted { needs, excluded: &[], hold }, &fleet, app.now()))
}

/// Why nobody took a job of these needs, from memory: without what the miners hold.
pub fn untaken(app: &App, needs: &Needs) -> String {
    let reach = remembered(app, needs, None);
    nobody(&reach).unwrap_or_else(|| {
        let miners = words::count(reach.able, "miner");
        format!("{miners} online could have run it, but had no room or other jobs before it")
    })
}

/// What keeps everybody from jobs of these needs, from memory; `None` where somebody can run them.
/// What the miners hold makes none unable, so that nothing is read.
pub fn unable(app: &App, needs: &Needs) -> Option<(Reach, String)> {
    let in_force = app.controls.in_force();
    let online = app.presence.online(app.now());
    if online.iter().any(|miner| matching::can_take(needs, miner, &in_force)) {
        return None;
    }
    let reach = remembered(app, needs, paused(app).then_some(Hold::Paused));
    nobody(&reach).map(|text| (reach, text))
}

/// Who could run jobs of these needs, if nobody held anything.
fn remembered(app: &App, needs: &Needs, hold: Option<Hold>) -> Reach {
    let now = app.now();
    let online = app.presence.online(now).into_iter().map(|miner| (miner, Load::default()));
    let fleet = Fleet {
        online: online.collect(),
        silent: app.presence.silent(now),
        in_force: app.controls.in_force(),
    };
    reach::reach(&Wanted { needs, excluded: &[], hold }, &fleet, now)
}

/// How many miners online can be handed jobs of these needs.
pub fn able(online: &[Arc<Miner>], needs: &Needs, in_force: &InForce) -> u64 {
    online.iter().filter(|miner| matching::can_take(needs, miner, in_force)).count() as u64
}

async fn fleet(app: &App, tx: &mut Tx) -> Result<Fleet, DbError> {
    let loads = store::loads(tx).await?;
    let now = app.now();
    let load = |miner: Arc<Miner>| {
        let load = loads.get(&miner.no).copied().unwrap_or_default();
        (miner, load)
    };
    let online = app.presence.online(now).into_iter().map(load).collect();
    Ok(Fleet { online, silent: app.presence.silent(now), in_force: app.controls.in_force() })
}

/// `GET /v1/jobs/{id}/why`: for its client and operators all of it, for a miner what became of its
/// own attempts.
///
/// # Errors
/// `JOB_NOT_FOUND`, also for those whom it does not concern.
pub async fn job(app: &App, caller: &Caller, job_id: JobId) -> Result<JobWhy, ApiError> {
    let mut tx = app.db.read().await?;
    let facts = store::facts(&mut tx, job_id).await?.ok_or_else(ApiError::job_not_found)?;
    let (wallet, miner) = match &caller.binding {
        Binding::Client { client } if *client != facts.client => {
            return Err(ApiError::job_not_found());
        }
        Binding::Miner { wallet, miner_id } => (Some(wallet), miner_id.as_ref()),
        Binding::Client { .. } | Binding::Admin | Binding::Open { .. } => (None, None),
    };
    let to_miner = wallet.is_some();
    let attempts = store::attempts(&mut tx, job_id, wallet, miner).await?;
    let attempts: Vec<_> = attempts.iter().map(|attempt| pay::why(attempt, to_miner)).collect();
    let mut why = JobWhy {
        job_id,
        state: facts.state,
        summary: String::new(),
        ahead: None,
        reach: None,
        attempts,
    };
    if to_miner {
        let last = why.attempts.last().ok_or_else(ApiError::job_not_found)?;
        why.summary = last.message.clone();
        return Ok(why);
    }
    if let (JobState::Queued, Some(live)) = (facts.state, &facts.live) {
        (why.reach, why.ahead) = wait(app, &mut tx, job_id, live).await?;
    }
    tx.commit().await?;
    why.summary = summary(&facts, &why);
    Ok(why)
}

/// Who could run a waiting job, and how many leave before it of those that they can run.
async fn wait(
    app: &App,
    tx: &mut Tx,
    job_id: JobId,
    live: &Live,
) -> Result<(Option<Reach>, Option<u64>), DbError> {
    let found = super::store::classes(tx, [live.class_id]).await?.pop();
    let Some((_, needs)) = found else { return Ok((None, None)) };
    let fleet = fleet(app, tx).await?;
    let hold = if paused(app) { Some(Hold::Paused) } else { live.due_at.map(Hold::Retry) };
    let wanted = Wanted { needs: &needs, excluded: &live.excluded, hold };
    let reach = reach::reach(&wanted, &fleet, app.now());
    if reach.able == 0 {
        return Ok((Some(reach), None));
    }
    let able = |miner: &&Arc<Miner>| {
        matching::can_take(&needs, miner, &fleet.in_force) && !live.excluded.contains(&miner.no)
    };
    let miners = fleet.online.iter().map(|(miner, _)| miner).filter(able).take(ASKED);
    let classes = shared_classes(app, &miners.collect::<Vec<_>>());
    let ahead = store::ahead(tx, &classes, (live.rank, job_id), MAX_AHEAD).await?;
    Ok((Some(reach), Some(ahead)))
}

/// The classes with queued jobs that any of these miners can take.
fn shared_classes(app: &App, miners: &[&Arc<Miner>]) -> Vec<i32> {
    let ready: Vec<(i32, Arc<Needs>)> = {
        let board = app.dispatch.shared.board();
        let known = |class: &i32| Some((*class, Arc::clone(board.classes.get(*class)?)));
        board.ready.keys().filter_map(known).collect()
    };
    let in_force = app.controls.in_force();
    let taken =
        |needs: &Needs| miners.iter().any(|miner| matching::can_take(needs, miner, &in_force));
    ready.into_iter().filter(|(_, needs)| taken(needs)).map(|(class, _)| class).collect()
}

/// The answer about a job in a sentence.
fn summary(facts: &Facts, why: &JobWhy) -> String {
    let at = |at: Option<Timestamp>| at.map_or(String::new(), |at| format!(" at {at}"));
    let error = || facts.error.as_ref().map(|(code, text)| words::failure(code, text));
    let holder = || {
        let holder = facts.live.as_ref().and_then(|live| live.holder.as_ref());
        holder.map_or("a miner", Name::as_str)
    };
    let live = facts.live.as_ref();
    match facts.state {
        JobState::Queued => queued(live, why, error()),
        JobState::Assigned => {
            let (since, until) =
                (at(live.and_then(|l| l.leased_at)), at(live.and_then(|l| l.lease_expires_at)));
            format!("{} was handed it{since}; it goes back unless acknowledged{until}", holder())
        }
        JobState::Running => {
            let tries = live.map_or(String::new(), |live| {
                format!(", attempt {} of {}", live.attempt, live.max_attempts)
            });
            format!("{} works on it since{}{tries}", holder(), at(live.and_then(|l| l.leased_at)))
                .replace("since at", "since")
        }
        JobState::Completed => {
            let paid = why.attempts.iter().rev().find(|attempt| attempt.receipt_id.is_some());
            let paid = paid
                .map_or(String::new(), |paid| format!(" by {}: {}", paid.miner_id, paid.message));
            format!("completed{}{paid}", at(facts.finished_at))
        }
        JobState::Failed | JobState::Canceled | JobState::Expired => {
            let word = facts.state.as_str().to_lowercase();
            let error = error().map_or(String::new(), |error| format!(": {error}"));
            format!("{word}{}{error}", at(facts.finished_at))
        }
    }
}

fn queued(live: Option<&Live>, why: &JobWhy, error: Option<String>) -> String {
    let Some(reach) = &why.reach else { return "it waits in the queue".to_owned() };
    let mut text = if let Some(nobody) = nobody(reach) {
        nobody
    } else {
        let able =
            format!("{} of {} online can run it", reach.able, words::count(reach.online, "miner"));
        let place = match why.ahead {
            None | Some(0) => "it is the first that they get".to_owned(),
            Some(ahead) if ahead >= MAX_AHEAD.unsigned_abs() => {
                format!("it waits behind {MAX_AHEAD} jobs and more")
            }
            Some(ahead) => format!("it waits behind {}", words::count(ahead, "job")),
        };
        let held = reach.reasons.iter().find(|r| matches!(r.requirement.as_str(), "paused"));
        let free = match (held, reach.free) {
            (Some(_), _) => "dispatch is paused".to_owned(),
            (None, 0) => "none of them is free".to_owned(),
            (None, free) => format!("{free} of them free"),
        };
        format!("{able}, {free}; {place}")
    };
    let Some(live) = live else { return text };
    if let Some(due_at) = live.due_at {
        let why = error.map_or(String::new(), |error| format!(" after {error}"));
        let tries = format!("attempt {} of {}", live.attempt, live.max_attempts);
        text = format!("it waits until {due_at} for {tries}{why}. {text}");
    }
    format!("{text}; it lapses at {}", live.expires_at)
}

/// `GET /v1/miners/{id}/why`: what keeps a miner from the jobs in the queue.
///
/// # Errors
/// `MINER_NOT_REGISTERED`, `MINER_MISMATCH`, `FORBIDDEN_SCOPE`.
pub async fn miner(app: &App, caller: &Caller, id: &Name) -> Result<MinerWhy, ApiError> {
    if caller.admin().is_err() {
        // A client's key is told so, not that there is no such miner.
        caller.wallet()?;
    }
    let miner = app.presence.find(id).await?.ok_or_else(|| {
        let message = "this miner neither registered nor sent a heartbeat";
        ApiError::new(ErrorCode::MinerNotRegistered, message)
    })?;
    if caller.admin().is_err() {
        caller.may_act_for(&miner.id, &miner.wallet)?;
    }
    let mut tx = app.db.read().await?;
    let load = store::loads(&mut tx).await?.remove(&miner.no).unwrap_or_default();
    let waiting = store::waiting(&mut tx).await?;
    let excluding = store::excluding(&mut tx, miner.no).await?;
    let needs = super::store::classes(&mut tx, waiting.keys().copied()).await?;
    tx.commit().await?;
    let class = |(class, needs): (i32, Needs)| {
        let (queued, delayed) = waiting.get(&class).copied().unwrap_or_default();
        let excluded = excluding.get(&class).copied().unwrap_or(0);
        idle::Waiting { needs: Arc::new(needs), queued, excluded, delayed }
    };
    let classes: Vec<_> = needs.into_iter().map(class).collect();
    let now = app.now();
    let seen_at = app.presence.seen_at(&miner.id);
    let online = seen_at.is_some_and(|at| now.since(at) <= app.presence.silence());
    let in_force = app.controls.in_force();
    let standing = idle::Standing { miner: &miner, load, online, seen_at, in_force: &in_force };
    Ok(idle::why(standing, &classes, now))
}
