//! Mining alone, on the calls of a Monero daemon: a template at a time, a block as a share.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::{Client, redirect};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::dialect::{Fault, Malformed, Refusal, Sent, inspect};
use super::session::{Order, Session, Teller};
use super::settings::Scheme;
use super::{AGENT, Job, Solution, Verdict};
use crate::algorithm::Algorithm;
use crate::target::Target;
use crate::work::{MONERO_NONCE_AT, NonceRange, Work};

mod answer;

pub use answer::{Header, LARGEST_ANSWER, Template, Tip, submitted};

/// How many templates of the same height are remembered whose blocks may still come.
const REMEMBERED: usize = 16;

/// How many looks in a row may fail: a daemon that is busy with a block, or is started again, still
/// takes the blocks of the work that it gave.
const MOST_FAILED: u32 = 3;

/// For how long a block is handed in again: by then, somebody else has found one on average.
const PATIENCE: Duration = Duration::from_secs(120);

/// The daemon's number for: not now.
const BUSY: i64 = -9;

/// Mines for the wallet in the settings until the daemon fails, or nobody gives orders any more.
pub(super) async fn run(
    session: &Session,
    orders: &mut mpsc::Receiver<Order>,
    teller: &Teller,
) -> Fault {
    let daemon = match Daemon::new(session) {
        Ok(daemon) => daemon,
        Err(error) => return Fault::new(chain(&error)),
    };
    let now = Instant::now();
    let mut solo = Solo {
        session,
        teller,
        daemon,
        issued: VecDeque::new(),
        sent: Sent::default(),
        fetch_at: now,
        poll_at: now,
        heard: None,
        failed: 0,
    };
    loop {
        let done = tokio::select! {
            // A block that was found is worth more than news: these are asked for again.
            biased;
            order = orders.recv() => match order {
                Some(Order::Submit(solution)) => solo.submit(&solution).await,
                Some(Order::More(job)) => {
                    solo.more(job);
                    Ok(())
                }
                None => return Fault::new("another pool took over"),
            },
            news = solo.news() => match news {
                Ok(news) => solo.learn(news).await,
                Err(fault) => solo.bear(fault),
            },
        };
        if let Err(fault) = done {
            return fault;
        }
    }
}

/// What a daemon is asked for.
enum News {
    Template(Template),
    Tip(Tip),
}

struct Solo<'a> {
    session: &'a Session,
    teller: &'a Teller,
    daemon: Daemon,
    /// Jobs on top of the same block, the newest last.
    issued: VecDeque<(Job, Template)>,
    sent: Sent,
    /// When a template is due.
    fetch_at: Instant,
    /// When a look at the height is due.
    poll_at: Instant,
    /// When it last answered as it should.
    heard: Option<Instant>,
    /// How many looks have failed since.
    failed: u32,
}

/// A block that was found.
struct Found {
    block: Vec<u8>,
    nonce: u32,
    /// The hash of the block before, as the daemon writes it.
    previous: String,
    height: u64,
}

impl Solo<'_> {
    /// Waits for what is due next, and asks for it.
    async fn news(&self) -> Result<News, Fault> {
        sleep_until(self.fetch_at.min(self.poll_at)).await;
        if Instant::now() < self.fetch_at {
            let body = self.daemon.get("/getheight").await?;
            return Ok(News::Tip(Tip::parse(&body)?));
        }
        let mut extra_nonce = self.session.salt.to_le_bytes().to_vec();
        extra_nonce.extend(self.session.numbers.take().to_le_bytes());
        let params = json!({
            "wallet_address": self.session.settings.user,
            // Templates of the same second are the same ones otherwise, for each who asks.
            "extra_nonce": hex::encode(extra_nonce),
        });
        let body = self.daemon.call("get_block_template", &params).await?;
        let template = Template::parse(&body)?;
        Ok(News::Template(template.map_err(|refusal| refusal.fault("the daemon says"))?))
    }

    async fn learn(&mut self, news: News) -> Result<(), Fault> {
        (self.heard, self.failed) = (Some(Instant::now()), 0);
        match news {
            News::Template(template) => self.take(template).await,
            News::Tip(tip) => {
                self.look_at(&tip);
                Ok(())
            }
        }
    }

    /// A look that fails is no reason to drop the work that is under way, unless nothing else comes.
    fn bear(&mut self, fault: Fault) -> Result<(), Fault> {
        let (now, timing) = (Instant::now(), self.session.timing);
        self.failed += 1;
        let is_gone = self.heard.is_none_or(|heard| now >= heard + timing.answer);
        if is_gone || self.failed > MOST_FAILED {
            return Err(fault);
        }
        let again = now + timing.poll;
        (self.poll_at, self.fetch_at) = (self.poll_at.max(again), self.fetch_at.max(again));
        Ok(())
    }

    async fn take(&mut self, template: Template) -> Result<(), Fault> {
        let now = Instant::now();
        self.fetch_at = now + self.session.timing.refresh;
        self.poll_at = now + self.session.timing.poll;
        let target = Target::of_difficulty(template.difficulty);
        let blob = template.hashing_blob.clone();
        let work = Work::new(blob, MONERO_NONCE_AT, NonceRange::ALL, target)
            .map_err(|error| Malformed::new("template", &error))?;
        let job = Job {
            number: self.session.numbers.take(),
            id: template.height.to_string(),
            algorithm: Algorithm::RandomX,
            seed: Some(template.seed),
            next_seed: template.next_seed,
            height: Some(template.height),
            work,
            extra_nonce: Vec::new(),
        };
        let same = |(_, before): &(Job, Template)| before.previous == template.previous;
        if !self.issued.back().is_some_and(same) {
            self.issued.clear();
        }
        self.issued.push_back((job.clone(), template));
        if self.issued.len() > REMEMBERED {
            self.issued.pop_front();
        }
        self.teller.job(job).await;
        Ok(())
    }

    fn look_at(&mut self, tip: &Tip) {
        let now = Instant::now();
        self.poll_at = now + self.session.timing.poll;
        let previous = self.issued.back().map(|(_, template)| hex::encode(template.previous));
        if previous.as_ref() != Some(&tip.hash) {
            self.fetch_at = now;
        }
    }

    fn more(&mut self, job: u64) {
        if self.issued.back().is_some_and(|(newest, _)| newest.number == job) {
            self.fetch_at = Instant::now();
        }
    }

    async fn submit(&mut self, solution: &Solution) -> Result<(), Fault> {
        let began = Instant::now();
        let handed_in = match self.found(solution) {
            Ok(found) => self.hand_in(&found).await,
            Err(verdict) => Ok(verdict),
        };
        if matches!(handed_in, Ok(Verdict::Accepted)) {
            // There is another block to build on. A second one beside it would be taken, too, and
            // be worth nothing.
            self.issued.clear();
            self.fetch_at = Instant::now();
        }
        let (verdict, done) = match handed_in {
            Ok(verdict) => (verdict, Ok(())),
            Err(fault) => (Verdict::Lost(fault.reason.clone()), Err(fault)),
        };
        self.teller.answered(solution.number, verdict, began.elapsed()).await;
        done
    }

    fn found(&mut self, solution: &Solution) -> Result<Found, Verdict> {
        let issued = self.issued.iter().find(|(job, _)| job.number == solution.job);
        let (job, template) = issued.ok_or(Verdict::Stale)?;
        inspect(job, solution, &mut self.sent)?;
        Ok(Found {
            block: template.with_nonce(solution.nonce),
            nonce: solution.nonce,
            previous: hex::encode(template.previous),
            height: template.height,
        })
    }

    /// Hands a block in until it is taken, refused, or another one has its place: it is worth too
    /// much to be lost to a call that fails.
    async fn hand_in(&self, found: &Found) -> Result<Verdict, Fault> {
        let began = Instant::now();
        let longest = self.session.timing.poll;
        let mut pause = longest / 8;
        let mut unsure = false;
        loop {
            let outcome = self.daemon.submit(&found.block).await;
            match &outcome {
                Ok(Ok(())) => return Ok(Verdict::Accepted),
                Ok(Err(refusal)) if !unsure => return Ok(refusal.verdict()),
                _ => {}
            }
            // A call may have come through without its answer, and a block is taken only once.
            unsure = true;
            match (self.daemon.block_at(found.height).await, outcome) {
                (Ok(Ok(block)), _) if block.is(found) => return Ok(Verdict::Accepted),
                (Ok(Ok(_)), _) => return Ok(Verdict::Stale),
                (Ok(Err(_)), Ok(Err(refusal))) => return Ok(refusal.verdict()),
                (_, Err(fault)) if began.elapsed() >= PATIENCE => return Err(fault),
                _ => sleep(pause).await,
            }
            pause = longest.min(pause * 2);
        }
    }
}

impl Header {
    fn is(&self, found: &Found) -> bool {
        self.nonce == found.nonce && self.prev_hash == found.previous
    }
}

/// The calls.
struct Daemon {
    client: Client,
    base: String,
}

impl Daemon {
    fn new(session: &Session) -> Result<Self, reqwest::Error> {
        let address = &session.settings.address;
        let client = Client::builder()
            .user_agent(AGENT)
            .connect_timeout(session.timing.connect)
            .timeout(session.timing.answer)
            // The wallet's address is for this daemon.
            .redirect(redirect::Policy::none());
        let (scheme, client) = match &session.transport.tls {
            Some(tls) => ("https", client.tls_backend_preconfigured(ClientConfig::clone(tls))),
            None => {
                // A proxy would read along, even on the way to this very machine.
                let client = client.no_proxy();
                (
                    "http",
                    match no_tls() {
                        Some(tls) => client.tls_backend_preconfigured(tls),
                        None => client,
                    },
                )
            }
        };
        debug_assert_eq!(scheme == "https", address.scheme == Scheme::DaemonHttps);
        Ok(Self { client: client.build()?, base: format!("{scheme}://{}", address.authority()) })
    }

    /// Hands a block in; inside: that it is no good.
    async fn submit(&self, block: &[u8]) -> Result<Result<(), Refusal>, Fault> {
        let body = self.call("submit_block", &json!([hex::encode(block)])).await?;
        match submitted(&body)? {
            Err(refusal) if refusal.code == Some(BUSY) => Err(refusal.fault("the daemon says")),
            answer => Ok(answer),
        }
    }

    /// The block of that height; inside: that there is none yet.
    async fn block_at(&self, height: u64) -> Result<Result<Header, Refusal>, Fault> {
        let params = json!({"height": height});
        let body = self.call("get_block_header_by_height", &params).await?;
        match Header::parse(&body)? {
            Err(refusal) if refusal.code == Some(BUSY) => Err(refusal.fault("the daemon says")),
            answer => Ok(answer),
        }
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, Fault> {
        Self::read(self.client.get(format!("{}{path}", self.base))).await
    }

    async fn call(&self, method: &str, params: &Value) -> Result<Vec<u8>, Fault> {
        let call = json!({"jsonrpc": "2.0", "id": "0", "method": method, "params": params});
        Self::read(self.client.post(format!("{}/json_rpc", self.base)).json(&call)).await
    }

    async fn read(request: reqwest::RequestBuilder) -> Result<Vec<u8>, Fault> {
        let failed = |error: reqwest::Error| Fault::new(chain(&error));
        let mut response = request.send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(Fault::new(format!("the daemon answers with {}", response.status())));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > LARGEST_ANSWER {
                return Err(Fault::new(format!(
                    "the daemon answers with more than {LARGEST_ANSWER} bytes"
                )));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

/// TLS that is never used: without it, a client would ask for the process's own.
fn no_tls() -> Option<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(ring::default_provider().into());
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    Some(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// An error with its causes: reqwest's own says only that there was one.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    super::dialect::told(&texts.join(": "))
}
