//! Whoever follows a job waits here. One task per replica reads for all of them at once: a job's
//! followers cost the database nothing until it has something new.
//!
//! What says that it has: a commit of this process ([`Commits`](crate::db::Commits)), another
//! replica's notice, or a look that sees what neither said. A follower asks again once it has passed
//! on what it got, so a slow one holds nobody up and nothing is stored up for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::JobId;
use protocol::event::JobEvent;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::store;
use crate::accounts;
use crate::app::{self, Clock};
use crate::config::Config;
use crate::db::{Changes, Db, DbError, Engine};
use crate::error::ApiError;
use crate::replicas::Replicas;

/// For how many followers it is read at once: bounds the memory, 128 KiB for each.
const READ: usize = 64;

/// About how many followers is asked at once whether there is something for them.
const ASK: usize = 4096;

/// How often keys are looked at, and the other replicas told that jobs are still followed.
const UPKEEP: Duration = Duration::from_secs(3);

/// For how long the other replicas are told that a job is followed, in seconds.
const ANNOUNCED_SECS: i64 = 60;

/// After how long they are told again.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(20);

/// A handle on the task.
#[derive(Debug, Clone)]
pub struct Follow {
    asks: mpsc::Sender<Ask>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    more: Notify,
}

/// What the task was told and has not seen to yet.
#[derive(Debug, Default)]
struct Heard {
    jobs: HashSet<JobId>,
    /// Something may have been missed.
    all: bool,
    keys: bool,
    draining: bool,
}

/// A follower that wants what comes next.
#[derive(Debug)]
struct Ask {
    job: JobId,
    after: u32,
    key_id: String,
    reply: oneshot::Sender<Next>,
}

/// What comes next for a follower.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Events, at least one.
    Events(Vec<JobEvent>),
    /// Nothing more from here: the key was revoked, or the coordinator goes down.
    Over,
}

impl Follow {
    /// Starts the task.
    pub fn start(db: Db, clock: Clock, config: &Config, replicas: Arc<Replicas>) -> Self {
        let shared = Arc::new(Shared::default());
        let (asks, incoming) = mpsc::channel(config.limits.event_streams.max(1));
        let look = Duration::from_secs(u64::from(config.leases.look_secs.max(1)));
        let desk = Desk {
            db,
            clock,
            replicas,
            shared: Arc::clone(&shared),
            waiting: HashMap::new(),
            dirty: HashSet::new(),
            announced: HashMap::new(),
        };
        tokio::spawn(desk.run(incoming, look));
        Self { asks, shared }
    }

    /// What comes after the event `after` of a job, waiting for it.
    ///
    /// # Errors
    /// Where too many follow.
    pub async fn next(&self, job: JobId, after: u32, key_id: &str) -> Result<Next, ApiError> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask { job, after, key_id: key_id.to_owned(), reply };
        self.asks.send(ask).await.map_err(|_| ApiError::overloaded())?;
        answer.await.map_err(|_| ApiError::overloaded())
    }

    /// Another replica says that jobs have new events; `None`: some may.
    pub fn heard(&self, jobs: Option<Vec<JobId>>) {
        self.tell(|heard| match jobs {
            Some(jobs) => heard.jobs.extend(jobs),
            None => heard.all = true,
        });
    }

    /// A key was revoked: who follows with it shall not go on.
    pub fn look_at_keys(&self) {
        self.tell(|heard| heard.keys = true);
    }

    /// Ends all streams, now and from now on: the coordinator is shutting down.
    pub fn drain(&self) {
        self.tell(|heard| heard.draining = true);
    }

    fn tell(&self, what: impl FnOnce(&mut Heard)) {
        what(&mut self.shared.heard());
        self.shared.more.notify_one();
    }
}

impl Shared {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task.
struct Desk {
    db: Db,
    clock: Clock,
    replicas: Arc<Replicas>,
    shared: Arc<Shared>,
    waiting: HashMap<JobId, Vec<Ask>>,
    /// Jobs that may have something for those who wait for it.
    dirty: HashSet<JobId>,
    /// Jobs of which the other replicas know that they are followed here, and since when.
    announced: HashMap<JobId, Instant>,
}

impl Desk {
    async fn run(mut self, mut incoming: mpsc::Receiver<Ask>, look: Duration) {
        let db = self.db.clone();
        let shared = Arc::clone(&self.shared);
        // With jitter, so that replicas do not look at once.
        let mut next_look = Instant::now() + app::jittered(look);
        let mut next_upkeep = Instant::now() + UPKEEP;
        let mut asks = Vec::new();
        loop {
            tokio::select! {
                received = incoming.recv_many(&mut asks, ASK) => {
                    if received == 0 {
                        return;
                    }
                }
                changes = db.commits().next() => self.changed(changes),
                () = shared.more.notified() => {}
                () = tokio::time::sleep_until(next_look.min(next_upkeep)) => {}
            }
            for ask in asks.drain(..) {
                self.dirty.insert(ask.job);
                self.waiting.entry(ask.job).or_default().push(ask);
            }
            let mut look_now = false;
            if Instant::now() >= next_look {
                next_look = Instant::now() + app::jittered(look);
                look_now = true;
            }
            let upkeep = Instant::now() >= next_upkeep;
            if upkeep {
                next_upkeep = Instant::now() + UPKEEP;
            }
            if let Err(error) = self.serve(look_now, upkeep).await {
                tracing::debug!(%error, "cannot read what is followed, trying again");
            }
        }
    }

    fn changed(&mut self, changes: Changes) {
        if changes.missed {
            self.shared.heard().all = true;
        }
        self.dirty.extend(changes.jobs.iter().filter(|job| self.waiting.contains_key(job)));
        self.replicas.tell_jobs(changes.elsewhere);
    }

    async fn serve(&mut self, look: bool, upkeep: bool) -> Result<(), DbError> {
        let heard = {
            let mut heard = self.shared.heard();
            let draining = heard.draining;
            std::mem::replace(&mut *heard, Heard { draining, ..Heard::default() })
        };
        if heard.draining {
            let over = self.waiting.drain().flat_map(|(_, asks)| asks);
            over.for_each(|ask| drop(ask.reply.send(Next::Over)));
            self.dirty.clear();
            return Ok(());
        }
        self.dirty.extend(heard.jobs.iter().filter(|job| self.waiting.contains_key(job)));
        if upkeep || heard.keys {
            self.dismiss_revoked().await?;
        }
        if upkeep {
            self.announce_again().await?;
        }
        if look || heard.all {
            self.look().await?;
        }
        while !self.dirty.is_empty() {
            self.read().await?;
        }
        Ok(())
    }

    /// Finds the jobs of which nobody said that they have something new.
    async fn look(&mut self) -> Result<(), DbError> {
        self.waiting.retain(|_, asks| {
            asks.retain(|ask| !ask.reply.is_closed());
            !asks.is_empty()
        });
        let from: Vec<store::From> =
            self.waiting.values().flatten().map(|ask| (ask.job, ask.after)).collect();
        for from in from.chunks(ASK) {
            let mut tx = self.db.read().await?;
            self.dirty.extend(store::with_news(&mut tx, from).await?);
        }
        Ok(())
    }

    /// Reads for all who wait for a dirty job, and answers those for whom there is something.
    async fn read(&mut self) -> Result<(), DbError> {
        let dirty = std::mem::take(&mut self.dirty);
        let mut asks: Vec<Ask> =
            dirty.iter().filter_map(|job| self.waiting.remove(job)).flatten().collect();
        asks.retain(|ask| !ask.reply.is_closed());
        let mut idle = Vec::new();
        while !asks.is_empty() {
            let batch = asks.split_off(asks.len().saturating_sub(READ));
            let from: Vec<store::From> = batch.iter().map(|ask| (ask.job, ask.after)).collect();
            let found = match self.find(&from).await {
                Ok(found) => found,
                Err(error) => {
                    // They wait for the next look.
                    idle.extend(asks.into_iter().chain(batch));
                    self.shared.heard().all = true;
                    self.put_back(idle);
                    return Err(error);
                }
            };
            for (ask, events) in batch.into_iter().zip(found) {
                if events.is_empty() {
                    idle.push(ask);
                } else {
                    drop(ask.reply.send(Next::Events(events)));
                }
            }
        }
        let new = self.put_back(idle);
        self.announce(new).await
    }

    async fn find(&self, from: &[store::From]) -> Result<Vec<Vec<JobEvent>>, DbError> {
        store::read(&mut self.db.read().await?, from).await
    }

    /// Lets them wait; returns the jobs that the other replicas have not heard of.
    fn put_back(&mut self, asks: Vec<Ask>) -> HashSet<JobId> {
        let mut new = HashSet::new();
        for ask in asks {
            if !self.announced.contains_key(&ask.job) {
                new.insert(ask.job);
            }
            self.waiting.entry(ask.job).or_default().push(ask);
        }
        new
    }

    /// Tells the other replicas, then has another look: what they did before they knew, they do not
    /// tell.
    async fn announce(&mut self, jobs: HashSet<JobId>) -> Result<(), DbError> {
        if jobs.is_empty() || self.db.engine() == Engine::Sqlite {
            return Ok(());
        }
        let list: Vec<JobId> = jobs.iter().copied().collect();
        let mut tx = self.db.write().await?;
        let until = self.clock.now().plus_secs(ANNOUNCED_SECS);
        store::announce(&mut tx, &list, until).await?;
        tx.commit().await?;
        let now = Instant::now();
        self.announced.extend(list.into_iter().map(|job| (job, now)));
        self.dirty.extend(jobs);
        Ok(())
    }

    async fn announce_again(&mut self) -> Result<(), DbError> {
        let now = Instant::now();
        self.announced.retain(|_, since| now.duration_since(*since) < ANNOUNCE_AGAIN);
        let due = self.waiting.keys().filter(|job| !self.announced.contains_key(job));
        let due: HashSet<JobId> = due.copied().collect();
        self.announce(due).await
    }

    /// Ends the streams of keys that were revoked.
    async fn dismiss_revoked(&mut self) -> Result<(), DbError> {
        let keys: HashSet<&str> =
            self.waiting.values().flatten().map(|ask| ask.key_id.as_str()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let revoked =
            accounts::store::revoked_among(&mut self.db.read().await?, keys.into_iter()).await?;
        if revoked.is_empty() {
            return Ok(());
        }
        for asks in self.waiting.values_mut() {
            let (over, stay) = asks.drain(..).partition(|ask: &Ask| revoked.contains(&ask.key_id));
            *asks = stay;
            let over: Vec<Ask> = over;
            over.into_iter().for_each(|ask| drop(ask.reply.send(Next::Over)));
        }
        Ok(())
    }
}
