//! Plays a history: turns its steps into requests, sends them, and holds the answers against the
//! model.

use futures_util::future::join_all;
use protocol::{Amount, FailureCode, Job, JobId, LeaseToken, Timestamp, Units};
use serde_json::{Value, json};
use uuid::Uuid;

use super::bench::Bench;
use super::market::{Ask, Asked, Call, Claim, Market};
use super::promises::{Answer, Broken, Promise, broken};
use super::steps::{Act, By, Evidence, Step};
use super::task::{Miner, Terms};
use crate::support::{Request, TestMiner};

/// What the prepaid client pays in.
const DEPOSIT: &str = "5";

/// With more of them, the model would leave too much open to mean anything.
const MOST_MARKETS: usize = 256;

/// A request, as often as it is sent.
#[derive(Clone)]
struct Sent {
    /// Of the caller.
    key: String,
    path: String,
    /// `None`: a GET.
    body: Option<Value>,
    asked: Asked,
}

pub struct Play<'a> {
    bench: &'a Bench,
    /// The one that is paid by issuance, and the one that pays in first.
    clients: [String; 2],
    names: [String; 4],
    miners: Vec<TestMiner<'a>>,
    /// Name and key.
    wallets: Vec<(String, String)>,
    /// What the market may be by now.
    markets: Vec<Market>,
    jobs: Vec<JobId>,
    leases: Vec<(usize, Job)>,
    sent: Vec<Sent>,
}

impl<'a> Play<'a> {
    /// Everybody is new, and nobody has done anything.
    pub async fn begin(bench: &'a Bench, number: u32) -> Self {
        let app = &bench.app;
        bench.set_right();
        let prepaid = format!("prepaid{number}");
        let clients = [
            app.client(&format!("issued{number}")).await.key,
            app.prepaid_client(&prepaid).await.key,
        ];
        app.deposit(&prepaid, DEPOSIT, &format!("deposit-{number}")).await;
        // Two miners of one wallet, one of another, and the seed's script, which never registers.
        let names = ["a", "b", "c", "s"].map(|name| format!("{name}{number}"));
        let mut miners = Vec::new();
        let mut wallets: Vec<(String, String)> = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let miner = match i {
                1 => TestMiner::new(app, name, wallets[0].1.clone()),
                _ => app.miner(name).await,
            };
            if i != 1 {
                wallets.push((miner.wallet(), miner.key.clone()));
            }
            let wallet = wallets.last().unwrap().0.clone();
            if i == 3 {
                miner.heartbeat(json!({})).await.expect(200);
            } else {
                let changes = json!({"concurrency": 2, "wallet": wallet});
                miner.register_with(changes).await.expect(201);
            }
            miners.push(miner);
        }
        let miner = |wallet, registered, concurrency| Miner { wallet, registered, concurrency };
        let models =
            vec![miner(0, true, 2), miner(0, true, 2), miner(1, true, 2), miner(2, false, 1)];
        let market = Market::new(models, bench.replicas(), DEPOSIT.parse().unwrap());
        Self {
            bench,
            clients,
            names,
            miners,
            wallets,
            markets: vec![market],
            jobs: Vec::new(),
            leases: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Takes a step.
    pub async fn take(&mut self, step: &Step) -> Result<(), Broken> {
        let sends: Vec<(usize, Sent)> = match step {
            Step::Wait(secs) => {
                self.bench.wait(*secs);
                return Ok(());
            }
            Step::Set(replica, off_millis) => {
                self.bench.set_off(*replica, *off_millis);
                return Ok(());
            }
            Step::One(replica, act) => {
                self.request(act).map(|sent| (*replica, sent)).into_iter().collect()
            }
            Step::Both((a, one), (b, other)) => {
                let (one, other) = (self.request(one), self.request(other));
                [one.map(|sent| (*a, sent)), other.map(|sent| (*b, sent))]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Step::Twice(a, b, act) => match self.request(act) {
                Some(sent) => vec![(*a, sent.clone()), (*b, sent)],
                None => Vec::new(),
            },
        };
        self.send(&sends).await
    }

    /// Sends requests at once; their answers must fit the model in some order.
    async fn send(&mut self, sends: &[(usize, Sent)]) -> Result<(), Broken> {
        let answers =
            join_all(sends.iter().map(|(replica, sent)| self.answer(*replica, sent))).await;
        let mut answered: Vec<Answered<'_>> = sends
            .iter()
            .zip(&answers)
            .map(|((replica, sent), answer)| (&sent.asked, answer, self.bench.now(*replica)))
            .collect();
        let mut outcome = judge(&self.markets, &answered);
        if answered.len() > 1 {
            answered.reverse();
            match (judge(&self.markets, &answered), &mut outcome) {
                (Ok(other), Ok(markets)) => markets.extend(other),
                (other @ Ok(_), Err(_)) => outcome = other,
                (Err(_), _) => {}
            }
        }
        self.markets = outcome?;
        for ((_, sent), answer) in sends.iter().zip(&answers) {
            self.remember(sent, answer);
        }
        let swept = sends.iter().any(|(_, sent)| matches!(sent.asked.ask, Ask::Sweep));
        let mut touched: Vec<JobId> = match swept {
            true => self.live(),
            false => sends.iter().filter_map(|(_, sent)| job_of(&sent.asked.ask)).collect(),
        };
        touched.dedup();
        for job in touched {
            self.look(job).await?;
        }
        Ok(())
    }

    async fn answer(&self, replica: usize, sent: &Sent) -> Answer {
        if matches!(sent.asked.ask, Ask::Sweep) {
            self.bench.sweep(replica).await;
            return Answer { status: 200, replayed: false, body: Value::Null };
        }
        let request = match &sent.body {
            None => Request::get(&sent.path),
            Some(body) => Request::post(&sent.path, body),
        };
        let request = match sent.asked.key {
            None => request,
            Some(key) => request.header("idempotency-key", &key.to_string()),
        };
        let reply = request.key(&sent.key).send_to(self.bench.router(replica)).await;
        Answer {
            status: reply.status.as_u16(),
            replayed: reply.headers.contains_key("idempotent-replayed"),
            body: if reply.bytes.is_empty() { Value::Null } else { reply.json() },
        }
    }

    fn remember(&mut self, sent: &Sent, answer: &Answer) {
        match sent.asked.ask {
            Ask::Submit { .. } if answer.status == 201 => {
                let job = serde_json::from_value(answer.body["job_id"].clone()).unwrap();
                if !self.jobs.contains(&job) {
                    self.jobs.push(job);
                }
            }
            Ask::Claim { miner } if answer.status == 200 => {
                let job: Job = serde_json::from_value(answer.body.clone()).unwrap();
                if !self.leases.iter().any(|(_, known)| known.lease.token == job.lease.token) {
                    self.leases.push((miner, job));
                }
            }
            _ => {}
        }
        self.sent.push(sent.clone());
    }

    /// The job as its client sees it; what it cannot be is given up.
    async fn look(&mut self, job: JobId) -> Result<(), Broken> {
        let key = &self.clients[usize::from(self.markets[0].jobs[&job].prepaid)];
        // Whichever replica: there is one truth.
        let replica = self.sent.len() % 2;
        let request = Request::get(&format!("/v1/jobs/{job}")).key(key);
        let view = request.send_to(self.bench.router(replica)).await.expect(200).json();
        let mut why = None;
        self.markets.retain(|market| match market.looks(job, &view) {
            Ok(()) => true,
            Err(broken) => {
                why = Some(broken);
                false
            }
        });
        match why {
            Some(broken) if self.markets.is_empty() => Err(broken),
            _ => Ok(()),
        }
    }

    /// The request of an act; `None` where there is nothing to act on.
    fn request(&self, act: &Act) -> Option<Sent> {
        match *act {
            Act::Sweep => Some(self.sweep()),
            Act::Submit { prepaid, terms, keyed } => Some(self.submit(prepaid, terms, keyed)),
            Act::Claim { miner } => Some(self.claim(miner, 0)),
            Act::Cancel { job, foreign, keyed } => self.cancel(job, foreign, keyed),
            Act::Ack { lease, by, keyed } => {
                let (_, call) = self.call(lease, by)?;
                let path = format!("/v1/miner/jobs/{}/ack", call.job);
                let body = json!({"lease_token": call.token});
                Some(self.by(call.wallet, &path, body, Ask::Ack { call }, keyed))
            }
            Act::Renew { lease, by } => {
                let (miner, call) = self.call(lease, by)?;
                Some(self.renew(miner, call))
            }
            Act::Fail { lease, by, code, keyed } => {
                let (_, call) = self.call(lease, by)?;
                let code = [
                    FailureCode::Exit,
                    FailureCode::Deny,
                    FailureCode::Crash,
                    FailureCode::Canceled,
                ][code];
                let path = format!("/v1/miner/jobs/{}/fail", call.job);
                let body = json!({"lease_token": call.token, "error_code": code.as_str()});
                Some(self.by(call.wallet, &path, body, Ask::Fail { call, code }, keyed))
            }
            Act::Prove { lease, by, output, evidence, keyed } => {
                let (miner, call) = self.call(lease, by)?;
                let output = if output { "something else" } else { "done" };
                Some(self.prove(lease, (miner, call), output, evidence, keyed))
            }
            Act::Again { sent } => {
                let last = self.sent.len().checked_sub(1)?;
                Some(self.sent[last - sent % self.sent.len()].clone())
            }
        }
    }

    fn sweep(&self) -> Sent {
        let asked = Asked { ask: Ask::Sweep, key: None };
        Sent { key: String::new(), path: String::new(), body: None, asked }
    }

    fn submit(&self, prepaid: bool, terms: usize, keyed: bool) -> Sent {
        let price = |text: &str| Some(text.parse::<Amount>().unwrap());
        let (runtime_secs, ttl_secs, max_attempts, max_price) = [
            (600, 900, 3, price("0.01")),
            (60, 60, 2, None),
            (600, 900, 3, None),
            (60, 2000, 1, price("0")),
            (600, 120, 4, price("2")),
        ][terms];
        let terms = Terms { runtime_secs, ttl_secs, max_attempts, max_price };
        let body = json!({
            "workload": "torch_bench", "ttl_seconds": ttl_secs, "max_attempts": max_attempts,
            "limits": {"max_runtime_s": runtime_secs}, "constraints": {"max_price": max_price},
        });
        Sent {
            key: self.clients[usize::from(prepaid)].clone(),
            path: "/v1/jobs".to_owned(),
            body: Some(body),
            asked: Asked { ask: Ask::Submit { prepaid, terms }, key: key(keyed) },
        }
    }

    fn cancel(&self, job: usize, foreign: bool, keyed: bool) -> Option<Sent> {
        let last = self.jobs.len().checked_sub(1)?;
        let job = self.jobs[last - job % self.jobs.len()];
        let prepaid = self.markets[0].jobs[&job].prepaid != foreign;
        Some(Sent {
            key: self.clients[usize::from(prepaid)].clone(),
            path: format!("/v1/jobs/{job}/cancel"),
            body: Some(json!({})),
            asked: Asked { ask: Ask::Cancel { prepaid, job }, key: key(keyed) },
        })
    }

    fn claim(&self, miner: usize, wait: u32) -> Sent {
        let name = &self.names[miner];
        Sent {
            key: self.miners[miner].key.clone(),
            path: format!("/v1/miner/next?miner={name}&slots=2&wait={wait}"),
            body: None,
            asked: Asked { ask: Ask::Claim { miner }, key: None },
        }
    }

    fn renew(&self, miner: usize, call: Call) -> Sent {
        let (wallet, key) = self.wallets[call.wallet].clone();
        let registered = self.markets[0].miners[miner].registered;
        // A thief speaks for a miner of its own.
        let miners = &self.markets[0].miners;
        let speaker = if miners[miner].wallet == call.wallet {
            miner
        } else {
            miners.iter().position(|miner| miner.wallet == call.wallet).unwrap()
        };
        let named = match call.token {
            Some(token) if registered => json!({"id": call.job, "lease_token": token}),
            _ => json!(call.job),
        };
        let body = json!({
            "miner_id": self.names[speaker], "wallet": wallet, "mode": "cpu", "gpu": 0,
            "active_jobs": [named],
        });
        let call = Call { token: call.token.filter(|_| registered), ..call };
        let asked = Asked { ask: Ask::Renew { miner: speaker, call }, key: None };
        Sent { key, path: "/v1/miner/heartbeat".to_owned(), body: Some(body), asked }
    }

    fn prove(
        &self,
        lease: usize,
        (miner, call): (usize, Call),
        output: &str,
        evidence: Evidence,
        keyed: bool,
    ) -> Sent {
        let (_, job) = self.lease(lease).unwrap();
        let signer = &self.miners[miner];
        let mut proof = signer.proof(job, output);
        proof.lease_token = call.token;
        let (signed, units) = match evidence {
            Evidence::Nothing => (None, 0),
            Evidence::Signed(units) => (Some(job), units),
            Evidence::SignedBefore(units) => {
                let own = |(by, other): &&(usize, Job)| *by == miner && other.id == job.id;
                (self.leases.iter().find(own).map(|(_, job)| job), units)
            }
        };
        let claim = signed.map(|signed| {
            let mut receipt = signer.receipt(signed, &proof, &units.to_string());
            let wallet = self.markets[0].miners[miner].wallet;
            receipt.wallet = self.wallets[wallet].0.parse().unwrap();
            proof.receipt = Some(receipt.signed(&signer.signer));
            Claim { miner, fence: signed.lease.fence, units: Units::from_whole(units).unwrap() }
        });
        let ask = Ask::Prove { call, output: output.to_owned(), claim };
        self.by(call.wallet, "/v1/miner/proof", serde_json::to_value(proof).unwrap(), ask, keyed)
    }

    fn by(&self, wallet: usize, path: &str, body: Value, ask: Ask, keyed: bool) -> Sent {
        Sent {
            key: self.wallets[wallet].1.clone(),
            path: path.to_owned(),
            body: Some(body),
            asked: Asked { ask, key: key(keyed) },
        }
    }

    fn lease(&self, back: usize) -> Option<&(usize, Job)> {
        let last = self.leases.len().checked_sub(1)?;
        self.leases.get(last - back % self.leases.len())
    }

    /// A call about a lease, and the miner whose lease it is or was.
    fn call(&self, lease: usize, by: By) -> Option<(usize, Call)> {
        let (miner, job) = self.lease(lease)?;
        let Miner { wallet, registered, .. } = self.markets[0].miners[*miner];
        let own: Option<LeaseToken> = registered.then_some(job.lease.token);
        let (wallet, token) = match by {
            By::Holder => (wallet, own),
            By::Tokenless => (wallet, None),
            By::Thief => ((wallet + 1) % self.wallets.len(), own),
        };
        Some((*miner, Call { job: job.id, wallet, token }))
    }

    fn live(&self) -> Vec<JobId> {
        // What has ended in every market stays so, and each call about it checks that.
        let ended = |job: &JobId| self.markets.iter().all(|market| market.jobs[job].has_ended());
        let changed = |job: &JobId| !ended(job) || self.markets.len() > 1;
        self.jobs.iter().copied().filter(changed).collect()
    }

    /// Whatever there is to do is done, the rest is given the time to end; then everything that was
    /// promised must hold.
    pub async fn end(mut self) -> Result<(), Broken> {
        for miner in 0..3 {
            self.work(miner).await?;
        }
        for round in 0..16 {
            if self.jobs.iter().all(|job| self.markets.iter().all(|m| m.jobs[job].has_ended())) {
                break;
            }
            self.bench.wait(1500);
            // Whichever replica: what one leaves, the other must do.
            let replica = round % self.bench.replicas();
            self.send(&[(replica, self.sweep())]).await?;
        }
        for job in self.jobs.clone() {
            self.look(job).await?;
            if !self.markets[0].jobs[&job].has_ended() {
                return broken(Promise::Ends, format!("{job} goes on for ever"));
            }
            self.bench.check_records(&self.markets[0], job).await?;
        }
        let market = &self.markets[0];
        let client = self.names[0].replacen('a', "prepaid", 1);
        let mut accounts: Vec<(String, Amount)> = (0..self.wallets.len())
            .map(|wallet| (format!("wallet:{}", self.wallets[wallet].0), market.earned(wallet)))
            .collect();
        accounts.push((format!("client:{client}"), market.funds()));
        accounts.push((format!("hold:{client}"), market.held_funds()));
        self.bench.check_books(&accounts).await
    }

    /// A miner that waits gets what is there for it, wherever it was submitted, and is paid.
    async fn work(&mut self, miner: usize) -> Result<(), Broken> {
        let replica = self.sent.len() % 2;
        let now = self.bench.now(replica);
        if self.markets.iter().any(|market| market.can_claim(miner, now).next().is_none()) {
            return Ok(());
        }
        let leases = self.leases.len();
        self.send(&[(replica, self.claim(miner, 20))]).await?;
        if self.leases.len() == leases {
            return broken(Promise::Served, format!("miner {miner} waited for nothing"));
        }
        let (miner, call) = self.call(0, By::Holder).unwrap();
        let proof = self.prove(0, (miner, call), "done", Evidence::Nothing, false);
        self.send(&[(replica, proof)]).await
    }
}

/// What was asked, what was answered, and when, by the clock of who answered.
type Answered<'a> = (&'a Asked, &'a Answer, Timestamp);

/// The markets that there may be after these answers, in this order.
fn judge(markets: &[Market], answered: &[Answered<'_>]) -> Result<Vec<Market>, Broken> {
    let racing = answered.len() > 1;
    let mut markets = markets.to_vec();
    for (asked, answer, now) in answered {
        let mut next: Vec<Market> = Vec::new();
        let mut why = None;
        for market in &markets {
            match market.after(asked, answer, *now, racing) {
                Ok(after) => {
                    for market in after {
                        if !next.contains(&market) {
                            next.push(market);
                        }
                    }
                }
                Err(broken) => why = why.or(Some(broken)),
            }
        }
        assert!(next.len() <= MOST_MARKETS, "too much is left open");
        match why {
            Some(broken) if next.is_empty() => return Err(broken),
            _ => markets = next,
        }
    }
    Ok(markets)
}

fn job_of(ask: &Ask) -> Option<JobId> {
    match ask {
        Ask::Submit { .. } | Ask::Claim { .. } | Ask::Sweep => None,
        Ask::Cancel { job, .. } => Some(*job),
        Ask::Ack { call } | Ask::Renew { call, .. } => Some(call.job),
        Ask::Fail { call, .. } | Ask::Prove { call, .. } => Some(call.job),
    }
}

fn key(keyed: bool) -> Option<Uuid> {
    let random = coordinator::app::random_u128();
    keyed.then(|| {
        uuid::Builder::from_u128(random)
            .with_version(uuid::Version::Random)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid()
    })
}
