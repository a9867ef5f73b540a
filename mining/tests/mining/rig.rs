//! The least of an engine: it hashes what it is told to, and sends what it finds.

use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc;
use std::thread;

use mining::ghostrider::Plans;
use mining::hasher::{self, Source};
use mining::pool::{Event, Job, Settings, Solution, Timing, Verdict};
use mining::randomx::{Cache, Mode};
use mining::{Algorithm, Hasher, Share};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::client::Client;

/// A miner with two lanes.
pub struct Rig {
    pub client: Client,
    pub hasher: Hasher,
    found: UnboundedReceiver<hasher::Event>,
    seed: Option<[u8; 32]>,
    /// What is mined now, and the task's number.
    pub job: Option<(u64, Job)>,
    /// How many shares were sent.
    pub submitted: usize,
    /// How many of them had which verdict.
    pub verdicts: BTreeMap<&'static str, usize>,
    /// Those that have one.
    pub answered: HashSet<u64>,
    /// Those that were accepted.
    pub accepted: Vec<Solution>,
    sent: BTreeMap<u64, Solution>,
}

impl Rig {
    pub fn new(settings: Settings, timing: Timing) -> Self {
        let (sender, events) = mpsc::channel::<hasher::Event>();
        let (forward, found) = unbounded_channel();
        thread::spawn(move || events.iter().all(|event| forward.send(event).is_ok()));
        let hasher = Hasher::start(2, &sender, |_| {}).unwrap();
        hasher.set_running(2);
        Self {
            client: Client::of(vec![settings], timing),
            hasher,
            found,
            seed: None,
            job: None,
            submitted: 0,
            verdicts: BTreeMap::new(),
            answered: HashSet::new(),
            accepted: Vec::new(),
            sent: BTreeMap::new(),
        }
    }

    /// One thing that happens.
    pub async fn step(&mut self) {
        tokio::select! {
            event = self.client.hear() => self.told(event.unwrap()),
            Some(event) = self.found.recv() => match event {
                hasher::Event::Share(share) => self.send(share),
                other => panic!("{other:?}"),
            },
        }
    }

    fn told(&mut self, event: Event) {
        match event {
            Event::Connected { .. } => {}
            Event::Job(job) => {
                self.equip(&job);
                self.job = Some((self.hasher.set_work(Some(job.work.clone())), job));
            }
            Event::Answered { number, verdict, .. } => {
                assert!(self.answered.insert(number), "{number} twice");
                let solution = self.sent.remove(&number).expect("it was not submitted");
                if verdict == Verdict::Accepted {
                    self.accepted.push(solution);
                }
                *self.verdicts.entry(name(&verdict)).or_default() += 1;
            }
            Event::Disconnected { .. } => {
                self.job = None;
                self.hasher.set_work(None);
            }
        }
    }

    fn equip(&mut self, job: &Job) {
        if job.algorithm == Algorithm::GhostRider {
            if self.job.is_none() && self.seed.is_none() {
                self.seed = Some([0; 32]);
                self.hasher.set_source(Some(Source::GhostRider(Plans::tuned(2))));
            }
        } else if self.seed != job.seed {
            self.seed = job.seed;
            self.hasher.set_source(None);
            let cache = Cache::new(Mode::fastest(), &job.seed.unwrap()).unwrap();
            self.hasher.set_source(Some(Source::Light(cache)));
        }
    }

    fn send(&mut self, share: Share) {
        let Some((task, job)) = &self.job else { return };
        if share.task < *task {
            return;
        }
        self.submitted += 1;
        let Share { nonce, hash, .. } = share;
        let solution = Solution { number: self.submitted as u64, job: job.number, nonce, hash };
        self.sent.insert(solution.number, solution.clone());
        self.client.pools.submit(solution).unwrap();
    }
}

fn name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Stale => "stale",
        Verdict::Rejected(reason) => panic!("rejected: {reason}"),
        Verdict::Lost(reason) => {
            assert!(!reason.is_empty());
            "lost"
        }
    }
}
