//! The market as it is promised: jobs, leases and payments without a database, a network or a clock.
//!
//! It does not predict; it judges. [`Market::after`] takes what was asked and what was answered and
//! says what the market may be then, or which promise the answer breaks. What chance or another
//! replica may decide (whose turn it is, how long a delay is exactly) is left open until something
//! that is seen decides it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::job::Lease;
use protocol::{
    Amount, ErrorCode, FailureCode, Job, JobId, JobState, LeaseToken, Timestamp, Units,
};
use serde_json::Value;
use uuid::Uuid;

use super::promises::{Answer, Broken, Promise, broken, expect};
use super::task::{
    ACK_SECS, Holder, KEY_SECS, MARGIN_SECS, Miner, Paid, Phase, RETRY_SECS, Task, Terms,
};

/// A request, as far as the promises know it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub ask: Ask,
    /// Its idempotency key.
    pub key: Option<Uuid>,
}

#[derive(Debug, Clone)]
pub enum Ask {
    Submit { prepaid: bool, terms: Terms },
    Cancel { prepaid: bool, job: JobId },
    Claim { miner: usize },
    Ack { call: Call },
    Renew { miner: usize, call: Call },
    Fail { call: Call, code: FailureCode },
    Prove { call: Call, output: String, claim: Option<Claim> },
    Sweep,
}

/// A call about a leased job: of whose wallet, and with which token.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub job: JobId,
    pub wallet: usize,
    pub token: Option<LeaseToken>,
}

/// What a signed receipt claims.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    pub miner: usize,
    pub fence: i64,
    pub units: Units,
}

/// The first answer to a request with a key.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    at: Timestamp,
    answer: Answer,
    /// Somebody whose clock says that it is old enough has swept.
    may_be_forgotten: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Market {
    pub miners: Vec<Miner>,
    pub replicas: usize,
    pub deposit: Amount,
    pub jobs: BTreeMap<JobId, Task>,
    answered: BTreeMap<Uuid, Kept>,
}

impl Market {
    pub fn new(miners: Vec<Miner>, replicas: usize, deposit: Amount) -> Self {
        Self { miners, replicas, deposit, jobs: BTreeMap::new(), answered: BTreeMap::new() }
    }

    /// What the market may be after this answer. `racing`: something else was asked meanwhile.
    pub fn after(
        &self,
        asked: &Asked,
        answer: &Answer,
        now: Timestamp,
        racing: bool,
    ) -> Result<Vec<Self>, Broken> {
        let unchanged = || Ok(vec![self.clone()]);
        if let Some(kept) = asked.key.and_then(|key| self.answered.get(&key)) {
            let first = &kept.answer;
            let same = (first.status, &first.body) == (answer.status, &answer.body);
            if same && answer.replayed {
                return unchanged();
            }
            if !kept.may_be_forgotten {
                return broken(Promise::Repeat, format!("{answer:?} instead of {first:?}"));
            }
        }
        if racing && asked.key.is_some() && answer.is(ErrorCode::IdempotencyInFlight) {
            return unchanged();
        }
        let mut next = self.clone();
        match &asked.ask {
            Ask::Sweep => return Ok(self.swept(now)),
            Ask::Submit { prepaid, terms } => next.submit(*prepaid, *terms, answer, now)?,
            Ask::Cancel { prepaid, job } => next.cancel(*prepaid, *job, answer)?,
            Ask::Claim { miner } => next.claim(*miner, answer, now, racing)?,
            Ask::Ack { call } => next.ack(call, answer, now)?,
            Ask::Renew { miner, call } => next.renew(*miner, call, answer, now)?,
            Ask::Fail { call, code } => next.fail(call, *code, answer, now)?,
            Ask::Prove { call, output, claim } => {
                next.prove(call, output, *claim, answer, now)?;
            }
        }
        // A refusal of the key itself is not kept: the key may be allowed more tomorrow.
        if let Some(key) = asked.key
            && answer.status != 403
        {
            let kept = Kept { at: now, answer: answer.clone(), may_be_forgotten: false };
            next.answered.insert(key, kept);
        }
        Ok(vec![next])
    }

    fn submit(
        &mut self,
        prepaid: bool,
        terms: Terms,
        answer: &Answer,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let unit_price: Amount = "0.002".parse().unwrap();
        let most = Units::from_whole(terms.runtime_secs).unwrap().price(unit_price).unwrap();
        let hold = if prepaid { terms.max_price.unwrap_or(most) } else { Amount::ZERO };
        if self.funds() < hold {
            return answer.refused(ErrorCode::InsufficientFunds);
        }
        let view = answer.granted(201)?;
        let lapses = now.plus_secs(terms.ttl_secs);
        let task = Task {
            prepaid,
            terms,
            unit_price,
            hold,
            phase: Phase::Queued,
            attempt: 1,
            fence: 0,
            lapses: (lapses, lapses),
            excluded: BTreeSet::new(),
            holder: None,
            paid: None,
            reason: None,
        };
        let job: JobId = serde_json::from_value(view["job_id"].clone()).unwrap();
        match self.jobs.insert(job, task) {
            None => Ok(()),
            Some(_) => broken(Promise::Once, format!("the id {job} a second time")),
        }
    }

    fn cancel(&mut self, prepaid: bool, job: JobId, answer: &Answer) -> Result<(), Broken> {
        let task = self.jobs.get_mut(&job).unwrap();
        if task.prepaid != prepaid {
            return answer.refused(ErrorCode::JobNotFound);
        }
        if let Phase::Ended(_) = task.phase {
            return answer.refused(ErrorCode::ConflictState);
        }
        answer.granted(200)?;
        task.end(JobState::Canceled, "E_CANCELED");
        Ok(())
    }

    fn claim(
        &mut self,
        miner: usize,
        answer: &Answer,
        now: Timestamp,
        racing: bool,
    ) -> Result<(), Broken> {
        let Miner { registered, concurrency, .. } = self.miners[miner];
        let held: Vec<JobId> = self.held(miner).collect();
        if answer.status == 204 {
            // Another replica learns of a job a moment later, and whoever races may lose.
            let open = self.can_claim(miner, now).next().is_none() || self.replicas > 1 || racing;
            let redelivered = !registered && !held.is_empty();
            return if open && !redelivered {
                Ok(())
            } else {
                broken(Promise::Served, format!("nothing for miner {miner}"))
            };
        }
        let job: Job = serde_json::from_value(answer.granted(200)?.clone()).unwrap();
        let may = self.can_claim(miner, now).any(|id| id == job.id);
        let Some(task) = self.jobs.get_mut(&job.id) else {
            return broken(Promise::Served, format!("{} was never submitted", job.id));
        };
        if !registered && !held.is_empty() {
            let same = task.holder.as_ref().is_some_and(|holder| holder.lease == job.lease);
            return if same && held.contains(&job.id) {
                Ok(())
            } else {
                broken(Promise::Room, format!("miner {miner} has not finished {held:?}"))
            };
        }
        if held.len() >= concurrency {
            return broken(Promise::Room, format!("miner {miner} already holds {held:?}"));
        }
        if !may {
            return broken(Promise::Fence, format!("{} to miner {miner}: {task:?}", job.id));
        }
        let deadline = now.plus_secs(task.terms.runtime_secs + MARGIN_SECS);
        let expires_at = if registered { now.plus_secs(ACK_SECS).min(deadline) } else { deadline };
        let lease = Lease { token: job.lease.token, fence: task.fence + 1, expires_at, deadline };
        expect(Promise::Fence, &job.lease, &lease)?;
        expect(Promise::Try, &job.attempt, &task.attempt)?;
        task.fence += 1;
        task.phase = Phase::Assigned;
        task.holder = Some(Holder { miner, leased_at: now, lease });
        Ok(())
    }

    fn held(&self, miner: usize) -> impl Iterator<Item = JobId> {
        let holds = move |task: &Task| task.holder.as_ref().is_some_and(|h| h.miner == miner);
        self.jobs.iter().filter(move |(_, t)| t.is_leased() && holds(t)).map(|(id, _)| *id)
    }

    /// The jobs that a miner with room may get.
    pub fn can_claim(&self, miner: usize, now: Timestamp) -> impl Iterator<Item = JobId> {
        let room = self.held(miner).count() < self.miners[miner].concurrency;
        let fits = move |task: &Task| {
            task.phase == Phase::Queued && task.lapses.1 > now && !task.excluded.contains(&miner)
        };
        self.jobs.iter().filter(move |(_, task)| room && fits(task)).map(|(id, _)| *id)
    }

    /// The job that a call is about, or why the call is not heard. `renewing`: a heartbeat of this
    /// miner, which may name its jobs without a token.
    fn heard(&mut self, call: &Call, renewing: Option<usize>) -> Result<&mut Task, ErrorCode> {
        let miners = &self.miners;
        let task = self.jobs.get_mut(&call.job).unwrap();
        if let Phase::Ended(_) = task.phase {
            return Err(ErrorCode::ConflictState);
        }
        let Some(holder) = &task.holder else { return Err(ErrorCode::ConflictState) };
        if miners[holder.miner].wallet != call.wallet {
            return Err(not_the_holder(call, task));
        }
        let own = match call.token {
            Some(token) => token == holder.lease.token,
            None => !miners[holder.miner].registered || renewing == Some(holder.miner),
        };
        if own { Ok(task) } else { Err(ErrorCode::LeaseLost) }
    }

    fn ack(&mut self, call: &Call, answer: &Answer, now: Timestamp) -> Result<(), Broken> {
        let miners = self.miners.clone();
        match self.heard(call, None) {
            Err(code) => answer.refused(code),
            Ok(task) if !task.is_leased() => answer.refused(ErrorCode::LeaseLost),
            Ok(task) => {
                let body = answer.granted(200)?;
                task.renew(&miners, now);
                task.phase = Phase::Running;
                let lease: Lease = serde_json::from_value(body["lease"].clone()).unwrap();
                expect(Promise::Lease, &Some(lease), &task.holder.as_ref().map(|h| h.lease.clone()))
            }
        }
    }

    fn renew(
        &mut self,
        miner: usize,
        call: &Call,
        answer: &Answer,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let miners = self.miners.clone();
        let body = answer.granted(200)?;
        let (renewed, canceled) = match self.heard(call, Some(miner)) {
            Err(_) => (false, true),
            Ok(task) if !task.is_leased() => (false, false),
            Ok(task) => {
                task.renew(&miners, now);
                (true, false)
            }
        };
        let named = |field: &str| body[field].as_array().is_some_and(|jobs| !jobs.is_empty());
        let seen = (named("renewed"), named("cancel_jobs"));
        expect(Promise::Lease, &seen, &(renewed, canceled))
    }

    fn fail(
        &mut self,
        call: &Call,
        code: FailureCode,
        answer: &Answer,
        now: Timestamp,
    ) -> Result<(), Broken> {
        if self.jobs[&call.job].phase == Phase::Ended(JobState::Canceled)
            && code == FailureCode::Canceled
        {
            // It stopped because it was told to.
            return answer.granted(200).map(drop);
        }
        let task = match self.heard(call, None) {
            Err(code) => return answer.refused(code),
            Ok(task) => task,
        };
        let body = answer.granted(200)?;
        let ended = body["state"] == "FAILED";
        if task.is_leased() {
            let left = task.attempt < task.terms.max_attempts;
            match code {
                _ if ended && !left => task.end(JobState::Failed, code.as_str()),
                // Goes to somebody else, if there is anybody that this replica knows of.
                FailureCode::Deny if ended => task.end(JobState::Failed, code.as_str()),
                FailureCode::Deny if left => {
                    task.excluded.extend(task.holder.as_ref().map(|holder| holder.miner));
                    task.requeue((0, 0), now);
                }
                FailureCode::Exit if left => {
                    let delay = RETRY_SECS * 1000 * 2_i64.pow(task.attempt - 1);
                    task.requeue((delay * 90 / 100, delay * 110 / 100), now);
                }
                FailureCode::Crash | FailureCode::Canceled if left => task.requeue((0, 0), now),
                _ => return broken(Promise::Ends, format!("{body} after {code:?} of {task:?}")),
            }
        }
        expect(Promise::Try, &body["attempt"], &Value::from(task.attempt))?;
        expect(Promise::Ends, &ended, &(task.phase == Phase::Ended(JobState::Failed)))
    }

    fn prove(
        &mut self,
        call: &Call,
        output: &str,
        claim: Option<Claim>,
        answer: &Answer,
        now: Timestamp,
    ) -> Result<(), Broken> {
        let task = &self.jobs[&call.job];
        if let Some(paid) = &task.paid {
            if paid.wallet != call.wallet {
                return answer.refused(not_the_holder(call, task));
            }
            if paid.output != output {
                return answer.refused(ErrorCode::DuplicateProof);
            }
            if answer.status == 201 {
                return broken(Promise::Once, format!("a second credit: {answer:?}"));
            }
            let body = answer.granted(200)?;
            expect(Promise::Once, &body["receipt"], &paid.receipt)?;
            expect(Promise::Once, &amount(&body["credited"]), &paid.price)?;
            return expect(Promise::Once, &amount(&body["balance"]), &self.earned(call.wallet));
        }
        let miners = self.miners.clone();
        let task = match self.heard(call, None) {
            Err(code) => return answer.refused(code),
            Ok(task) => task,
        };
        let holder = task.holder.clone().unwrap();
        // The coordinator's own clock, and what the client set as the most.
        let most = Duration::from_secs(task.terms.runtime_secs as u64);
        let ran = now.since(holder.leased_at).min(most).as_micros();
        let seen = Units::from_micros(ran as i64).unwrap();
        let cap = task.terms.max_price.unwrap_or(Amount::from_nanos(i64::MAX));
        let mut price = seen.price(task.unit_price).unwrap().min(cap);
        if let Some(Claim { miner, fence, units }) = claim {
            let own = (miner, fence) == (holder.miner, task.fence) && miners[miner].registered;
            if !own {
                return answer.refused(ErrorCode::BadSignature);
            }
            price = units.price(task.unit_price).unwrap();
            if units > seen || price > cap {
                return answer.refused(ErrorCode::UnitsExceeded);
            }
        }
        let body = answer.granted(201)?;
        expect(Promise::Price, &amount(&body["credited"]), &price)?;
        let receipt = &body["receipt"];
        expect(Promise::Fence, &receipt["fence"], &Value::from(task.fence))?;
        expect(Promise::Price, &amount(&receipt["price"]), &price)?;
        task.paid = Some(Paid {
            wallet: call.wallet,
            price,
            output: output.to_owned(),
            receipt: receipt.clone(),
        });
        task.phase = Phase::Ended(JobState::Completed);
        expect(Promise::Price, &amount(&body["balance"]), &self.earned(call.wallet))
    }

    fn swept(&self, now: Timestamp) -> Vec<Self> {
        let mut market = self.clone();
        for kept in market.answered.values_mut() {
            kept.may_be_forgotten |= kept.at.plus_secs(KEY_SECS) < now;
        }
        let mut markets = vec![market];
        for (job, task) in &self.jobs {
            let tasks = task.swept(now);
            markets = markets
                .iter()
                .flat_map(|market| {
                    tasks.iter().map(|task| {
                        let mut market = market.clone();
                        market.jobs.insert(*job, task.clone());
                        market
                    })
                })
                .collect();
        }
        markets
    }

    /// What a wallet has been paid.
    pub fn earned(&self, wallet: usize) -> Amount {
        let paid = self.jobs.values().filter_map(|task| task.paid.as_ref());
        sum(paid.filter(|paid| paid.wallet == wallet).map(|paid| paid.price))
    }

    /// What is set aside of the prepaid client's funds.
    pub fn held_funds(&self) -> Amount {
        sum(self.jobs.values().filter(|task| !task.has_ended()).map(|task| task.hold))
    }

    /// What the prepaid client has left.
    pub fn funds(&self) -> Amount {
        let jobs = self.jobs.values().filter(|task| task.prepaid);
        let spent = sum(jobs.filter_map(|task| Some(task.paid.as_ref()?.price)));
        self.deposit.checked_sub(spent).unwrap().checked_sub(self.held_funds()).unwrap()
    }

    /// Whether this is how the job can look to its client now.
    pub fn looks(&self, job: JobId, view: &Value) -> Result<(), Broken> {
        let task = &self.jobs[&job];
        let state = match task.phase {
            Phase::Queued | Phase::Delayed(..) => JobState::Queued,
            Phase::Assigned => JobState::Assigned,
            Phase::Running => JobState::Running,
            Phase::Ended(state) => state,
        };
        expect(Promise::Ends, &view["state"], &Value::from(state.as_str()))?;
        expect(Promise::Try, &view["attempt"], &Value::from(task.attempt))?;
        if task.has_ended() {
            let reason = view["error"]["code"].as_str().map(str::to_owned);
            expect(Promise::Ends, &reason, &task.reason)?;
        }
        expect(Promise::Once, &view["receipt_id"].is_string(), &task.paid.is_some())
    }
}

fn amount(value: &Value) -> Amount {
    serde_json::from_value(value.clone()).unwrap()
}

fn sum(amounts: impl Iterator<Item = Amount>) -> Amount {
    amounts.fold(Amount::ZERO, |sum, amount| sum.checked_add(amount).unwrap())
}

/// What somebody is told who calls about another's job: with a token of a job that was leased more
/// than once, it may have been its own.
fn not_the_holder(call: &Call, task: &Task) -> ErrorCode {
    let former = call.token.is_some() && task.fence > 1;
    if former { ErrorCode::LeaseLost } else { ErrorCode::MinerMismatch }
}
