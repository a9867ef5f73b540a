//! Settlement: a proof becomes a verdict, a receipt and a credit, in one transaction; so does every
//! other ending of a job.

pub mod ending;
mod fail;
pub mod store;
pub mod verdict;
pub mod work;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
pub use fail::{cancel, expire, fail, lapse};
use protocol::proof::Credited;
use protocol::receipt::ReceiptError;
use protocol::{Amount, ErrorCode, JobId, JobState, Name, Proof, Sha256Hex, Timestamp};
use serde_json::Value;
use store::{Accepted, Ending, Refusal, Settled, Terms};
use verdict::{Case, Verdict};

use crate::accounts::idempotency::{Answer, IdempotencyKey, StoredReply};
use crate::accounts::{Binding, Caller};
use crate::app::{self, Clock};
use crate::batch::{Batcher, Corridor, Done};
use crate::config::Config;
use crate::db::{Db, DbError, Tx, storable};
use crate::dispatch::leases;
use crate::dispatch::store::{self as queue, LeaseRow};
use crate::error::ApiError;
use crate::jobs::Spec;
use crate::ledger::store::Book;
use crate::ledger::{self, Account, Pay, Transfer};
use crate::telemetry;

/// The most metrics that a proof may carry.
const MAX_METRICS: usize = 64;

/// The largest inline result, in bytes of JSON.
const MAX_RESULT_BYTES: usize = 1024 * 1024;

/// A proof to be settled.
#[derive(Debug, Clone)]
struct Row {
    caller: Caller,
    proof: Proof,
    /// The bytes that its receipt's signature covers, if it has a receipt; or what is wrong with the
    /// proof by itself.
    form: Result<Option<String>, ApiError>,
    idempotency: Option<IdempotencyKey>,
}

/// What a proof is answered, and whether it was the first.
type Outcome = Result<Answer<(Credited, bool)>, ApiError>;

/// The corridor.
#[derive(Debug)]
pub struct Settlement {
    queue: Batcher<Row, Answer<(Credited, bool)>>,
}

impl Settlement {
    /// Starts the corridor.
    pub fn start(db: Db, clock: Clock, config: Arc<Config>, attestor: SigningKey) -> Self {
        let capacity = config.limits.queue_rows;
        Self { queue: Batcher::spawn(capacity, Desk { db, clock, attestor }) }
    }

    /// Settles a proof: what it says is committed when this returns. The flag tells whether it was
    /// the first proof of the job; a repeat is answered with the same receipt.
    ///
    /// # Errors
    /// Why it is not paid.
    pub async fn prove(
        &self,
        caller: Caller,
        proof: Proof,
        idempotency: Option<IdempotencyKey>,
    ) -> Result<Answer<(Credited, bool)>, ApiError> {
        let form = check_form(&proof);
        self.queue.submit(Row { caller, proof, form, idempotency }).await
    }
}

/// What can be said of a proof by itself; the signature is checked here, outside of the
/// transaction. Inside it the fault is kept, since `why` tells of it.
fn check_form(proof: &Proof) -> Result<Option<String>, ApiError> {
    if proof.metrics.len() > MAX_METRICS {
        return Err(ApiError::field("metrics", format!("at most {MAX_METRICS} of them")));
    }
    let document = serde_json::to_string(proof).unwrap_or_default();
    // Few texts even look like that.
    let suspect = document.contains("\\u0000");
    if suspect && !storable(&serde_json::to_value(proof).unwrap_or_default()) {
        return Err(ApiError::field("result", "a text contains U+0000, which cannot be stored"));
    }
    let too_large = |result: &Value| result.to_string().len() > MAX_RESULT_BYTES;
    if document.len() > MAX_RESULT_BYTES && proof.result.as_ref().is_some_and(too_large) {
        return Err(ApiError::field("result", "at most 1 MiB; upload larger output as artifact"));
    }
    let bad = |error: ReceiptError| ApiError::new(ErrorCode::BadSignature, error.to_string());
    proof.receipt.as_ref().map(|receipt| receipt.verified().map_err(bad)).transpose()
}

/// What a batch of proofs finds in the database.
struct Files {
    rows: HashMap<JobId, LeaseRow>,
    specs: HashMap<JobId, Spec>,
    terms: HashMap<JobId, Terms>,
    uploads: HashMap<(JobId, i64), HashMap<protocol::id::RelativePath, verdict::Upload>>,
    settled: HashMap<JobId, Settled>,
    ended: HashMap<JobId, JobState>,
}

impl Files {
    async fn read(tx: &mut Tx, jobs: &BTreeSet<JobId>) -> Result<Self, DbError> {
        let rows = queue::lock(tx, jobs.iter().copied()).await?;
        let live = || rows.keys().copied();
        let gone = || jobs.iter().copied().filter(|job| !rows.contains_key(job));
        Ok(Self {
            specs: queue::specs(tx, live()).await?,
            terms: store::terms(tx, live()).await?,
            uploads: store::uploads(tx, live()).await?,
            settled: store::settled(tx, gone()).await?,
            ended: queue::outcomes(tx, gone()).await?,
            rows,
        })
    }
}

/// What came of one proof of a batch.
enum Judged {
    /// Pay it: the job, what is answered, what is stored.
    Pay(JobId, Settled),
    /// It was paid before, in this batch or an earlier one.
    Repeat(Settled),
    Replay(StoredReply),
    Refuse(ApiError),
}

/// What the corridor works with.
struct Desk {
    db: Db,
    clock: Clock,
    attestor: SigningKey,
}

impl Corridor for Desk {
    type Row = Row;
    type Out = Answer<(Credited, bool)>;
    const NAME: &'static str = "settlement";

    async fn transaction(&self, rows: &[Row]) -> Done<Self::Out> {
        let now = self.clock.now();
        let mut tx = self.db.write().await?;
        let keys: Vec<_> = rows.iter().filter_map(|row| row.idempotency.as_ref()).collect();
        let mut begun = crate::accounts::store::begin(&mut tx, &keys).await?.into_iter();
        let jobs: BTreeSet<JobId> =
            rows.iter().filter_map(|row| row.proof.id.parse().ok()).collect();
        let mut files = Files::read(&mut tx, &jobs).await?;

        let mut judged = Vec::with_capacity(rows.len());
        let mut fresh = Vec::with_capacity(rows.len());
        for row in rows {
            let stored = match &row.idempotency {
                None => Ok(None),
                Some(_) => begun.next().unwrap_or_else(|| Err(ApiError::internal())),
            };
            fresh.push(matches!(stored, Ok(None)));
            judged.push(match stored {
                Err(error) => Judged::Refuse(error),
                Ok(Some(reply)) => Judged::Replay(reply),
                Ok(None) => {
                    judge(&mut files, row, now, &self.attestor).unwrap_or_else(Judged::Refuse)
                }
            });
        }
        let outcomes = write(&mut tx, now, rows, &files, judged).await?;
        store::refuse(&mut tx, now, &refusals(rows, &outcomes)).await?;
        let replies: Vec<_> = rows
            .iter()
            .zip(&outcomes)
            .zip(fresh)
            // What a key was refused for is no reply to the request.
            .filter(|(_, fresh)| *fresh)
            .filter_map(|((row, outcome), _)| Some((row.idempotency.as_ref()?, reply(outcome)?)))
            .collect();
        crate::accounts::store::finish(&mut tx, now, &replies).await?;
        tx.commit().await?;
        for outcome in &outcomes {
            if let Ok(Answer::Fresh((credited, true))) = outcome {
                measure(&files, credited.job_id, now);
            }
        }
        Ok(outcomes)
    }
}

/// Notes how long a job that was paid waited and took.
fn measure(files: &Files, job_id: JobId, now: Timestamp) {
    let Some(holder) = files.rows.get(&job_id).and_then(|row| row.holder.as_ref()) else { return };
    let waited = holder.leased_at.since(job_id.created_at());
    telemetry::job_done(waited, now.since(holder.leased_at));
}

/// What `why` tells of proofs that were refused: the last of each caller and job.
fn refusals(rows: &[Row], outcomes: &[Outcome]) -> Vec<Refusal> {
    let mut refusals: BTreeMap<(JobId, Option<Name>, Option<Name>), ApiError> = BTreeMap::new();
    for (row, outcome) in rows.iter().zip(outcomes) {
        let Err(error) = outcome else { continue };
        let Ok(job_id) = row.proof.id.parse() else { continue };
        let (wallet, miner_id) = match &row.caller.binding {
            Binding::Miner { wallet, miner_id } => (Some(wallet.clone()), miner_id.clone()),
            Binding::Client { .. } | Binding::Admin | Binding::Open { .. } => (None, None),
        };
        if error.status().is_client_error() {
            refusals.insert((job_id, wallet, miner_id), error.clone());
        }
    }
    let refusal = |((job_id, wallet, miner_id), error)| Refusal { job_id, wallet, miner_id, error };
    refusals.into_iter().map(refusal).collect()
}

/// The reply that a repeat under the same key will get.
fn reply(outcome: &Outcome) -> Option<StoredReply> {
    match outcome {
        Ok(Answer::Replayed(_)) => None,
        Ok(Answer::Fresh((credited, first))) => {
            let status = if *first { 201 } else { 200 };
            Some(StoredReply::of(status, &Ok::<_, ApiError>(credited)))
        }
        Err(error) => Some(StoredReply::of(0, &Err::<(), _>(error.clone()))),
    }
}

/// Judges one proof; what is paid counts as settled for the rest of the batch.
fn judge(
    files: &mut Files,
    row: &Row,
    now: Timestamp,
    attestor: &SigningKey,
) -> Result<Judged, ApiError> {
    let proof = &row.proof;
    let signed = row.form.as_ref().map_err(ApiError::clone)?;
    let job_id: JobId = proof.id.parse().map_err(|_| ApiError::job_not_found())?;
    if let Some(settled) = files.settled.get(&job_id) {
        let by = (&settled.miner_id, &settled.wallet);
        // A receipt that states no fence leaves open how often the job was leased.
        let leased_again = settled.receipt.fence.is_none_or(|fence| fence > 1);
        leases::check_caller(&row.caller, by, proof.lease_token, leased_again)?;
        if settled.output_sha == proof.output_sha {
            return Ok(Judged::Repeat(settled.clone()));
        }
        let message = "the job has a proof with another output_sha";
        return Err(ApiError::new(ErrorCode::DuplicateProof, message));
    }
    let (Some(lease), Some(spec), Some(terms)) =
        (files.rows.get(&job_id), files.specs.get(&job_id), files.terms.get(&job_id))
    else {
        return Err(leases::gone(files.ended.get(&job_id)));
    };
    let holder = leases::check(lease, &row.caller, proof.lease_token, None)?;
    let none = HashMap::new();
    let case = Case {
        row: lease,
        holder,
        spec,
        hold: terms.hold,
        uploads: files.uploads.get(&(job_id, lease.fence)).unwrap_or(&none),
        proof,
        now,
    };
    let verdict = verdict::judge(&case)?;
    let settled = settle(&case, signed.as_deref(), verdict, terms, attestor)?;
    files.settled.insert(job_id, settled.clone());
    Ok(Judged::Pay(job_id, settled))
}

/// The receipt, attested, with what it pays. `signed` are the bytes of the miner's, if it has one.
fn settle(
    case: &Case<'_>,
    signed: Option<&str>,
    verdict: Verdict,
    terms: &Terms,
    attestor: &SigningKey,
) -> Result<Settled, ApiError> {
    let now = case.now;
    let price = verdict.price;
    let fee = price.share(terms.fee_bp).unwrap_or(Amount::ZERO);
    let measured =
        terms.bonus.and_then(|bonus| verdict::metric(&case.proof.metrics, bonus.metric.as_str()));
    let bonus = terms.bonus.zip(measured);
    let bonus = bonus.map_or(Amount::ZERO, |(bonus, measured)| bonus.earned(price, measured));
    let receipt = match &case.proof.receipt {
        Some(receipt) => receipt.clone(),
        None => {
            let id = format!("rcpt-{}", app::new_job_id(now));
            let id = id.parse().map_err(|_| ApiError::internal())?;
            verdict::receipt(case, verdict, id, format!("{:032x}", app::random_u128()))
        }
    };
    let canonical = signed.map_or_else(|| receipt.canonical().into(), Cow::from);
    Ok(Settled {
        output_sha: case.proof.output_sha,
        miner_id: case.holder.miner_id.clone(),
        wallet: case.holder.wallet.clone(),
        pay: Pay { price, fee, bonus },
        measured,
        receipt_sha256: Sha256Hex::of(canonical.as_bytes()),
        receipt: receipt.attested_over(&canonical, attestor),
        transfer_id: app::new_transfer_id(now),
    })
}

/// Books, ends and stores what is paid, and puts the answers together.
async fn write(
    tx: &mut Tx,
    now: Timestamp,
    rows: &[Row],
    files: &Files,
    judged: Vec<Judged>,
) -> Result<Vec<Outcome>, DbError> {
    let mut accounts = BTreeSet::new();
    for judged in &judged {
        match judged {
            Judged::Pay(job_id, settled) => {
                let transfer = credit(files, *job_id, settled);
                let named = transfer.into_iter().flat_map(|transfer| transfer.entries);
                accounts.extend(named.map(|(account, _)| account));
            }
            Judged::Repeat(settled) => {
                accounts.insert(Account::Wallet(settled.wallet.clone()));
            }
            Judged::Replay(_) | Judged::Refuse(_) => {}
        }
    }
    let mut book = Book::open(tx, now, accounts).await?;
    let mut accepted = Vec::new();
    let mut endings = Vec::new();
    let mut outcomes = Vec::with_capacity(judged.len());
    for (row, judged) in rows.iter().zip(judged) {
        outcomes.push(match judged {
            Judged::Refuse(error) => Err(error),
            Judged::Replay(reply) => Ok(Answer::Replayed(reply)),
            Judged::Repeat(settled) => {
                Ok(Answer::Fresh((credited(&row.proof, &settled, &book), false)))
            }
            Judged::Pay(job_id, settled) => {
                let lease = files.rows.get(&job_id).cloned();
                let Some(lease) = lease.filter(|_| pay(&mut book, files, job_id, &settled)) else {
                    let price = settled.pay.price;
                    tracing::error!(%job_id, %price, "a credit cannot be booked");
                    let message = "the credit leaves the range of the books";
                    outcomes.push(Err(ApiError::field("receipt.units", message)));
                    continue;
                };
                let answer = credited(&row.proof, &settled, &book);
                accepted.push(Accepted {
                    proof: &row.proof,
                    job_id,
                    fence: lease.fence,
                    miner_no: lease.holder.as_ref().map_or(0, |holder| holder.miner_no),
                    settled: settled.clone(),
                });
                endings.push(Ending {
                    row: lease,
                    outcome: JobState::Completed,
                    error: None,
                    remains: store::Remains::default(),
                    receipt_id: Some(settled.receipt.receipt_id),
                });
                Ok(Answer::Fresh((answer, true)))
            }
        });
    }
    book.write(tx, now).await?;
    store::accept(tx, now, &accepted).await?;
    store::end(tx, now, &endings).await?;
    work::store::count(tx, now, &endings, &[]).await?;
    Ok(outcomes)
}

/// Books the credit of a job; `false` where it cannot be booked.
fn pay(book: &mut Book, files: &Files, job_id: JobId, settled: &Settled) -> bool {
    credit(files, job_id, settled).is_some_and(|transfer| book.book(transfer).is_ok())
}

/// What pays a job; `None` where it cannot be paid.
fn credit(files: &Files, job_id: JobId, settled: &Settled) -> Option<Transfer> {
    let Terms { client, hold, .. } = files.terms.get(&job_id)?;
    let id = settled.transfer_id;
    let mut transfer = ledger::credit(id, client, &settled.wallet, settled.pay, *hold)?;
    transfer.receipt_id = Some(settled.receipt.receipt_id.clone());
    Some(transfer.for_job(job_id))
}

fn credited(proof: &Proof, settled: &Settled, book: &Book) -> Credited {
    let balance = book.balance(&Account::Wallet(settled.wallet.clone()));
    Credited {
        status: "accepted".to_owned(),
        job_id: proof.id.parse().unwrap_or(JobId::from_u128(0)),
        receipt: settled.receipt.clone(),
        credited: settled.pay.to_wallet().unwrap_or(Amount::ZERO),
        fee: settled.pay.fee.non_zero(),
        bonus: settled.pay.bonus.non_zero(),
        balance: balance.unwrap_or(Amount::ZERO),
        transfer_id: settled.transfer_id.to_string(),
    }
}
