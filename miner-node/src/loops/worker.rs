//! Asks for work whenever there is room for it, and sees every job to its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use protocol::{FailureCode, Job};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use super::{Outcome, Stop, drain};
use crate::attempt::Attempt;
use crate::coordinator::{Backoff, Free, Remedy, jittered};
use crate::leases::StopReason;
use crate::node::Node;
use crate::outbox::Settled;
use crate::sharing::Gate;
use crate::slots::Place;

/// Pause after a refusal that only the owner can put right.
const OWNER_PAUSE: Duration = Duration::from_secs(60);

/// Pause before the next look at a disk that is full.
const SPACE_PAUSE: Duration = Duration::from_secs(10);

/// First and longest pause while no job can be begun.
const STUMBLE_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_STUMBLE_PAUSE: Duration = Duration::from_secs(300);

/// Takes jobs until `stop` (or one has ended, with `once`), then sees those that run to their end.
pub async fn run(node: Arc<Node>, crew: TaskTracker, once: bool, stop: Stop) -> Outcome {
    let (ended, mut ends) = mpsc::channel(1);
    let mut worker = Worker {
        node,
        crew,
        ended,
        backoff: Backoff::standard(),
        stumbles: Arc::default(),
        paused_for: 0,
    };
    let mut outcome = Outcome::Good;
    loop {
        let taken = tokio::select! {
            taken = worker.tick() => taken,
            () = stop.drain.cancelled() => break,
        };
        if once && taken {
            let settled = tokio::select! {
                settled = ends.recv() => settled.flatten(),
                () = stop.drain.cancelled() => None,
            };
            if settled != Some(Settled::Credited) {
                outcome = Outcome::JobFailed;
            }
            break;
        }
    }
    worker.finish(&stop).await;
    outcome
}

/// Asks for work.
pub struct Worker {
    node: Arc<Node>,
    crew: TaskTracker,
    ended: mpsc::Sender<Option<Settled>>,
    backoff: Backoff,
    /// How many jobs in a row could not even be begun.
    stumbles: Arc<AtomicU32>,
    /// For how many of them there was a pause already.
    paused_for: u32,
}

impl Worker {
    /// Asks once, as soon as the node may work and has room; starts the job if there is one, else
    /// makes the pause that is due. Says whether there was one.
    pub async fn tick(&mut self) -> bool {
        let mut standing = self.node.standing.subscribe();
        // Runners may come later, with a server of the owner's: then the node registers again.
        let offers = || !self.node.capabilities().runners.is_empty();
        // Both wait for ever at worst: until the coordinator is there, until a job has ended.
        let may_work = standing.wait_for(|standing| standing.may_work() && offers()).await.is_ok();
        // The owner's rules, or mining's turn.
        self.node.sharing.opened().await;
        let Some(place) = self.node.slots.place().await.filter(|_| may_work) else {
            return std::future::pending().await;
        };
        // A place may be hours in coming: what was so before need not be so any more.
        if !self.node.standing.borrow().may_work() || !self.is_open() || !self.has_room().await {
            return false;
        }
        if let Some(pause) = self.reason_to_pause() {
            sleep(jittered(pause, 10, self.node.random_u32())).await;
            return false;
        }
        match self.ask().await {
            // It was on its way when the owner said no.
            Some(job) if self.node.sharing.gate() == Gate::Closed => {
                let node = Arc::clone(&self.node);
                self.crew.spawn(async move { node.give_back(&job).await });
                false
            }
            Some(job) => {
                self.start(job, place);
                true
            }
            None => false,
        }
    }

    fn is_open(&self) -> bool {
        self.node.sharing.gate() == Gate::Open
    }

    /// Whether a job that asks for nothing in particular could begin now; where not, it waits a
    /// moment.
    async fn has_room(&self) -> bool {
        let node = &self.node;
        // A disk that is full is told of with the other reasons to pause.
        let Some(why) = node.lack_of_room().filter(|_| node.lack_of_space().is_none()) else {
            return true;
        };
        if node.leases.count() == 0 {
            node.complain_of_space(&why);
        }
        node.capacity.moment().await;
        false
    }

    /// Who cannot do a job must not ask for one: it would only be lost to its client.
    fn reason_to_pause(&mut self) -> Option<Duration> {
        if let Some(why) = self.node.lack_of_space() {
            self.node.complain_of_space(&why);
            return Some(SPACE_PAUSE);
        }
        // One job is tried after each pause; if it can be begun, the count starts anew.
        let stumbles = self.stumbles.load(Ordering::Relaxed);
        let due = stumbles != self.paused_for && stumbles > 0;
        self.paused_for = stumbles;
        due.then(|| (STUMBLE_PAUSE * (1 << stumbles.min(6))).min(LONGEST_STUMBLE_PAUSE))
    }

    async fn ask(&mut self) -> Option<Job> {
        let node = &self.node;
        // After a cut, results go first: a job whose lease has lapsed would be handed out again, and
        // the finished result would count for nothing.
        if !node.outbox.reconnect().await {
            sleep(self.backoff.pause(None, node.random_u32())).await;
            return None;
        }
        if !self.is_open() {
            return None;
        }
        let poll = &node.config.poll;
        let wait = Duration::from_secs(poll.wait_s.min(30).into());
        let wait = node.sharing.longest_question().map_or(wait, |longest| wait.min(longest));
        let asked = Instant::now();
        // The place in hand is free as well.
        let slots = node.slots.free().saturating_add(1);
        let left = node.capacity.left(node.free_mb());
        let free = Free { slots, room: left };
        let answer = tokio::select! {
            biased;
            answer = node.coordinator.next(&node.identity.node_id, free, wait) => answer,
            // The coordinator sees that nobody waits for the answer, and leases nothing.
            () = node.sharing.closed() => return None,
        };
        let pause = match answer {
            Ok(Some(job)) => {
                self.backoff.reset();
                return Some(job);
            }
            Ok(None) => {
                self.backoff.reset();
                // A coordinator that does not hold the question is asked at the owner's pace.
                let held = !wait.is_zero() && asked.elapsed() * 2 >= wait;
                let interval = Duration::from_secs(poll.interval_s.into());
                if held { Duration::ZERO } else { jittered(interval, 10, node.random_u32()) }
            }
            Err(error) => {
                let least = match error.remedy() {
                    Remedy::Owner => {
                        node.complain(&error);
                        Some(OWNER_PAUSE)
                    }
                    Remedy::Register => {
                        node.standing.send_modify(|standing| standing.registered = false);
                        node.heartbeat_wake.notify_one();
                        None
                    }
                    Remedy::Retry(least) => least,
                    Remedy::Drop | Remedy::Lower(_) | Remedy::GiveUp => None,
                };
                warn!(event = "poll_failed", "asking for work failed: {error}");
                self.backoff.pause(least, node.random_u32())
            }
        };
        sleep(pause).await;
        None
    }

    fn start(&self, job: Job, place: Place) {
        let (node, ended) = (Arc::clone(&self.node), self.ended.clone());
        let stumbles = Arc::clone(&self.stumbles);
        // First of all: until this returns, mining threads have the job's processors.
        let claim = node.sharing.claim(&job);
        let (held, older) = node.leases.take(&job);
        // Entered before the next question is asked, which says how much is left.
        let booking = node.capacity.enter(node.footprint(&job));
        node.heartbeat_wake.notify_one();
        self.crew.spawn(async move {
            let id = job.id;
            if let Some(older) = older {
                // Two attempts at one job must not share its directory.
                older.over.cancelled().await;
            }
            let settled = match Attempt::begin(&node, job, Arc::clone(&held), claim, booking) {
                Ok(attempt) => {
                    stumbles.store(0, Ordering::Relaxed);
                    attempt.run().await
                }
                Err(error) => {
                    stumbles.fetch_add(1, Ordering::Relaxed);
                    error!(event = "no_directory", job_id = %id, "job directory: {error}");
                    let why = format!("node: job directory: {error}");
                    let settled = node.report_not_begun(id, held.token, FailureCode::Internal, why);
                    held.over.cancel();
                    Some(settled)
                }
            };
            // The report is on its way by itself: the next job need not wait for it.
            drop(place);
            let settled = match settled {
                Some(settled) => settled.await.ok(),
                None => None,
            };
            // Only `--once` listens.
            let _ = ended.try_send(settled);
        });
    }

    /// Sees what runs to its end: in peace, politely asked, or at once.
    async fn finish(&self, stop: &Stop) {
        let node = &self.node;
        drain(node);
        self.crew.close();
        let grace = Duration::from_secs(node.config.shutdown.grace_s.into());
        let in_peace = async {
            tokio::select! {
                ended = timeout(grace, self.idle()) => ended.is_ok(),
                () = stop.now.cancelled() => false,
            }
        };
        if in_peace.await {
            return;
        }
        node.leases.stop_all(StopReason::Shutdown, stop.now.is_cancelled());
        tokio::select! {
            () = self.idle() => return,
            () = stop.now.cancelled() => {}
        }
        node.leases.stop_all(StopReason::Shutdown, true);
        self.idle().await;
    }

    /// Waits until no job runs. Reports may still be on their way.
    async fn idle(&self) {
        self.node.slots.all_free().await;
    }
}
