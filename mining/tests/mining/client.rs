//! The miner's side of a story with a pool: what it is told, what it sends.

use std::time::Duration;

use mining::pool::{self, Address, Event, Job, Pools, Settings, Solution, Timing, Verdict};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::test_pool::PATIENCE;

/// Short pauses, long patience: nothing here depends on how fast the machine is.
pub const TIMING: Timing = Timing {
    connect: PATIENCE,
    answer: PATIENCE,
    first_job: PATIENCE,
    beside: PATIENCE,
    idle: PATIENCE,
    silence: PATIENCE,
    retry: Duration::from_millis(8),
    longest_retry: Duration::from_millis(64),
    banned: Duration::from_millis(500),
    stable: PATIENCE,
    poll: Duration::from_millis(50),
    refresh: Duration::from_secs(5),
};

pub struct Client {
    pub pools: Pools,
    events: Receiver<Event>,
}

/// A pool, and a wallet there.
pub fn settings(url: &str) -> Settings {
    Settings::new(url.parse::<Address>().unwrap(), "wallet")
}

impl Client {
    pub fn of(pools: Vec<Settings>, timing: Timing) -> Self {
        let (pools, events) = pool::start(pools, timing, 1, &Handle::current()).unwrap();
        Self { pools, events }
    }

    /// Mines for the pools at these addresses.
    pub fn at(urls: &[&str]) -> Self {
        Self::of(urls.iter().map(|url| settings(url)).collect(), TIMING)
    }

    /// What it is told next; `None` once there is nothing more.
    pub async fn hear(&mut self) -> Option<Event> {
        timeout(PATIENCE, self.events.recv()).await.expect("nothing is told")
    }

    /// Waits until it is connected to this pool.
    pub async fn connected(&mut self, to: &str) {
        match self.hear().await {
            Some(Event::Connected { url }) => assert_eq!(url, to),
            other => panic!("{other:?}"),
        }
    }

    pub async fn job(&mut self) -> Job {
        match self.hear().await {
            Some(Event::Job(job)) => job,
            other => panic!("{other:?}"),
        }
    }

    /// What became of a share.
    pub async fn verdict(&mut self, of: u64) -> Verdict {
        match self.hear().await {
            Some(Event::Answered { number, verdict, .. }) if number == of => verdict,
            other => panic!("{other:?}"),
        }
    }

    /// Why the connection ended, and how long it waits.
    pub async fn disconnected(&mut self) -> (String, Duration) {
        match self.hear().await {
            Some(Event::Disconnected { reason, again_in, .. }) => (reason, again_in),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a share that is one by its looks: only a pool that hashes can tell.
    pub fn submit(&self, number: u64, job: &Job, nonce: u32) {
        let solution = Solution { number, job: job.number, nonce, hash: [0; 32] };
        self.pools.submit(solution).unwrap();
    }
}
