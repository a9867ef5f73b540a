//! One try at one pool: a task that connects, speaks, and says why it ended.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::bitcoin;
use super::daemon;
use super::dialect::{Dialect as Spoken, Fault, Numbers};
use super::monero;
use super::settings::{Address, Dialect, Settings, Timing};
use super::transport::{self, Transport};
use super::{Job, Solution, Verdict};
use crate::algorithm::Algorithm;

/// What a session is told to do.
#[derive(Debug)]
pub enum Order {
    /// Send a share.
    Submit(Solution),
    /// Find nonces that were not tried yet, for the job of this number.
    More(u64),
}

/// What a session tells.
#[derive(Debug)]
pub enum Told {
    /// There is other work.
    Job(Job),
    /// What became of a share.
    Answered {
        /// [`Solution::number`].
        number: u64,
        /// What became of it.
        verdict: Verdict,
        /// How long it took.
        after: Duration,
    },
    /// It is over; nothing more comes.
    Ended(Fault),
}

/// Where a session tells it.
#[derive(Debug, Clone)]
pub struct Teller {
    /// The session's number.
    pub session: u64,
    /// Whoever listens.
    pub listener: mpsc::Sender<(u64, Told)>,
}

impl Teller {
    /// There is other work.
    pub async fn job(&self, job: Job) {
        self.tell(Told::Job(job)).await;
    }

    /// A share is settled.
    pub async fn answered(&self, number: u64, verdict: Verdict, after: Duration) {
        self.tell(Told::Answered { number, verdict, after }).await;
    }

    async fn tell(&self, told: Told) {
        // Where nobody listens any more, the session is about to be ended.
        let _ = self.listener.send((self.session, told)).await;
    }
}

/// What a session is made of.
#[derive(Debug)]
pub struct Session {
    /// The pool.
    pub settings: Settings,
    /// How long things may take.
    pub timing: Timing,
    /// How it is reached.
    pub transport: Transport,
    /// The numbers of jobs.
    pub numbers: Numbers,
    /// What tells our templates from those of others.
    pub salt: u32,
    /// Instead of the pool's own address: where it sent us.
    pub redirected: Option<Address>,
}

impl Session {
    /// Runs to its end.
    pub async fn run(self, mut orders: mpsc::Receiver<Order>, teller: Teller) {
        let fault = faultless(async {
            if self.settings.address.scheme.is_daemon() {
                daemon::run(&self, &mut orders, &teller).await
            } else {
                self.speak(&mut orders, &teller).await
            }
        })
        .await;
        // Whoever sends an order from here on gets it back; what was sent before is lost.
        orders.close();
        while let Some(order) = orders.recv().await {
            if let Order::Submit(solution) = order {
                let verdict = Verdict::Lost(fault.reason.clone());
                teller.answered(solution.number, verdict, Duration::ZERO).await;
            }
        }
        teller.tell(Told::Ended(fault)).await;
    }

    async fn speak(&self, orders: &mut mpsc::Receiver<Order>, teller: &Teller) -> Fault {
        let address = self.redirected.as_ref().unwrap_or(&self.settings.address);
        let connecting = timeout(self.timing.connect, transport::connect(&self.transport, address));
        let stream = tokio::select! {
            stream = connecting => match stream {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return Fault::new(error.to_string()),
                Err(_) => {
                    return Fault::new(format!("no connection within {:?}", self.timing.connect));
                }
            },
            // Orders come only where there is a job: these are the end of them.
            _ = orders.recv() => return Fault::new("another pool took over"),
        };
        let mut dialect: Box<dyn Spoken> = match self.settings.dialect() {
            Dialect::Monero => {
                Box::new(monero::Session::new(self.settings.clone(), self.numbers.clone()))
            }
            Dialect::Bitcoin => {
                let algorithm = self.settings.algorithm.unwrap_or(Algorithm::GhostRider);
                let settings = self.settings.clone();
                Box::new(bitcoin::Session::new(settings, algorithm, self.numbers.clone()))
            }
        };
        super::stratum::run(&mut *dialect, stream, self.timing, orders, teller).await
    }
}

/// A panic ends one session, not mining: what pools send is no reason to trust our own parsers.
async fn faultless(session: impl Future<Output = Fault>) -> Fault {
    let ended = AssertUnwindSafe(session).catch_unwind().await;
    // Its own words are in the log.
    ended.unwrap_or_else(|_| Fault::new("a fault in this program"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_the_end_of_one_session() {
        let fault = faultless(async { panic!("a pool that found a way") }).await;
        assert_eq!(fault.reason, "a fault in this program");
        assert_eq!(faultless(async { Fault::new("told") }).await.reason, "told");
    }
}
