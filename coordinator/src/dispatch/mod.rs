//! Dispatch: jobs meet miners. One task per replica holds the miners that wait and claims for all
//! of them at once.
//!
//! A class of requirements is *ready* while it may have a queued job; only waiting miners that can
//! take a ready class cost a look at the database, so that idle miners cost nothing. What makes a
//! class ready: a submission or a requeue here ([`Dispatch::wake`]), another replica's notice of
//! one, or the poll that sees what no notice said.

mod claim;
mod deal;
pub mod leases;
pub mod log;
pub mod matching;
pub mod store;
mod takes;
pub mod why;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use deal::Left;
use matching::Needs;
use protocol::job::SlotKind;
use protocol::{Job, JobId};
use takes::{Classes, Takes};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::app::{self, Clock};
use crate::batch::MAX_ROWS;
use crate::config::Config;
use crate::controls::Switchboard;
use crate::db::{Db, DbError};
use crate::error::ApiError;
use crate::miners::Miner;
use crate::replicas::Replicas;

/// Above this many classes, those without jobs are forgotten.
const MAX_CLASSES: usize = 10_000;

/// A handle on the corridor.
#[derive(Debug, Clone)]
pub struct Dispatch {
    shared: Arc<Shared>,
    controls: Switchboard,
    replicas: Arc<Replicas>,
    asks: mpsc::Sender<Ask>,
    leases: leases::Leases,
}

/// What handles and the task share.
#[derive(Debug, Default)]
struct Shared {
    board: Mutex<Board>,
    wake: Notify,
}

/// Which classes there are, and which may have a queued job.
#[derive(Debug, Default)]
struct Board {
    classes: Classes,
    /// With the number of the wake-up that last made it ready.
    ready: HashMap<i32, u64>,
    wakes: u64,
    draining: bool,
    served: Served,
}

/// How far the queue is served: the highest rank that was handed out of each class that has more,
/// and of each kind of slot.
///
/// One level for all would let a class that only one miner takes place the newcomers of all others
/// behind everybody's backlog.
#[derive(Debug, Default)]
struct Served {
    classes: HashMap<i32, (SlotKind, i64)>,
    cpu: Option<i64>,
    gpu: Option<i64>,
}

impl Served {
    /// A job of this rank was handed out; those that left early by their priority count for nothing.
    fn reach(&mut self, class: i32, kind: SlotKind, rank: i64) {
        let level = self.classes.entry(class).or_insert((kind, rank));
        level.1 = level.1.max(rank);
        let highest = match kind {
            SlotKind::Cpu => &mut self.cpu,
            SlotKind::Gpu => &mut self.gpu,
        };
        *highest = (*highest).max(Some(rank));
    }

    /// A class has no more jobs: who comes next competes with those of other classes alone.
    fn rest(&mut self, class: i32) {
        self.classes.remove(&class);
    }

    /// Where a class stands that has more jobs.
    fn of_class(&self, class: i32) -> Option<i64> {
        self.classes.get(&class).map(|(_, rank)| *rank)
    }

    /// Where a class starts that has no jobs: in no case behind those that wait in another.
    fn of_kind(&self, kind: SlotKind) -> Option<i64> {
        let levels = self.classes.values().filter(|(of, _)| *of == kind).map(|(_, rank)| *rank);
        let highest = match kind {
            SlotKind::Cpu => self.cpu,
            SlotKind::Gpu => self.gpu,
        };
        levels.min().or(highest)
    }
}

/// A miner that asks for a job.
#[derive(Debug)]
struct Ask {
    miner: Arc<Miner>,
    /// How many more jobs it says it can take.
    slots: u32,
    /// How large they may be.
    left: Left,
    /// When it is told that there is none; `None`: after the first look.
    until: Option<Instant>,
    /// The wake-up up to which there was nothing for it; `None` before the first look. Another look
    /// is worth it when a class that it can take was woken after that, and at the next poll.
    looked_at: Option<u64>,
    reply: oneshot::Sender<Result<Option<Job>, ApiError>>,
}

impl Board {
    fn make_ready(&mut self, classes: &[i32]) {
        self.wakes += 1;
        for class in classes {
            self.ready.insert(*class, self.wakes);
        }
    }
}

impl Shared {
    /// Makes classes ready if all of them are known here.
    fn wake_known(&self, classes: &[i32]) -> bool {
        let mut board = self.board();
        let known = classes.iter().all(|class| board.classes.contains(*class));
        if known {
            board.make_ready(classes);
        }
        known
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dispatch {
    /// Starts the corridor.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn start(
        db: Db,
        clock: Clock,
        config: Arc<Config>,
        controls: Switchboard,
        replicas: Arc<Replicas>,
    ) -> Result<Self, DbError> {
        let shared = Arc::new(Shared::default());
        refresh(&db, &shared).await?;
        let (asks, incoming) = mpsc::channel(config.limits.long_polls.max(1));
        let leases = leases::Leases::start(db.clone(), clock.clone(), &config);
        let counter = Counter {
            db: db.clone(),
            clock,
            config,
            controls: controls.clone(),
            shared: Arc::clone(&shared),
            incoming,
            takes: Takes::default(),
        };
        tokio::spawn(counter.run());
        Ok(Self { shared, controls, replicas, asks, leases })
    }

    /// The next job for a miner that has so many `slots` and so much `left`, waiting for one up to
    /// `wait`; `None` where there is none.
    ///
    /// # Errors
    /// Where the database is away, or too many miners wait.
    pub async fn next(
        &self,
        miner: Arc<Miner>,
        slots: u32,
        left: Left,
        wait: Duration,
    ) -> Result<Option<Job>, ApiError> {
        if slots == 0 || matching::barred(&miner, &self.controls.in_force()).is_some() {
            return Ok(None);
        }
        let (reply, answer) = oneshot::channel();
        let until = (!wait.is_zero()).then(|| Instant::now() + wait);
        let ask = Ask { miner, slots, left, until, looked_at: None, reply };
        self.asks.try_send(ask).map_err(|_| ApiError::overloaded())?;
        answer.await.map_err(|_| ApiError::overloaded())?
    }

    /// Leases that are held: acknowledged, renewed, reported on.
    pub const fn leases(&self) -> &leases::Leases {
        &self.leases
    }

    /// Classes have a queued job: committed, so that whoever looks finds it.
    pub fn wake(&self, classes: impl IntoIterator<Item = i32>) {
        let classes: Vec<i32> = classes.into_iter().collect();
        if classes.is_empty() {
            return;
        }
        let mut board = self.shared.board();
        board.make_ready(&classes);
        drop(board);
        self.shared.wake.notify_one();
        self.replicas.tell_classes(classes);
    }

    /// Another replica says that classes have a queued job; `None`: some may.
    pub async fn heard(&self, db: &Db, classes: Option<&[i32]>) {
        let known = classes.is_some_and(|classes| self.shared.wake_known(classes));
        if !known && let Err(error) = refresh(db, &self.shared).await {
            tracing::debug!(%error, "cannot look for work");
        }
        self.shared.wake.notify_one();
    }

    /// How far a class is served; `None` where that is not known here, or it has no jobs.
    pub fn served(&self, class: i32) -> Option<i64> {
        self.shared.board().served.of_class(class)
    }

    /// Where a class that has no jobs starts; `None` where nothing was handed out.
    pub fn served_kind(&self, kind: SlotKind) -> Option<i64> {
        self.shared.board().served.of_kind(kind)
    }

    /// Classes that did not exist before.
    pub fn learn(&self, classes: impl IntoIterator<Item = (i32, Needs)>) {
        let mut board = self.shared.board();
        for (class, needs) in classes {
            board.classes.insert(class, needs);
        }
    }

    /// Tells every waiting miner, now and from now on, that there is nothing: the coordinator is
    /// shutting down.
    pub fn drain(&self) {
        self.shared.board().draining = true;
        self.shared.wake.notify_one();
    }
}

/// Looks what other replicas did: queued jobs, and the classes of these.
async fn refresh(db: &Db, shared: &Shared) -> Result<(), DbError> {
    let mut tx = db.read().await?;
    let mut ready = store::ready_classes(&mut tx).await?;
    ready.sort_unstable();
    let unknown: Vec<i32> = {
        let mut board = shared.board();
        if board.classes.len() > MAX_CLASSES {
            board.classes.clear();
            board.ready.clear();
            board.served.classes.clear();
        }
        ready.iter().copied().filter(|class| !board.classes.contains(*class)).collect()
    };
    let classes = store::classes(&mut tx, unknown).await?;
    let held = store::held_ranks(&mut tx).await?;
    drop(tx);
    let mut board = shared.board();
    for (class, kind, rank) in held {
        board.served.reach(class, kind, rank);
    }
    board.served.classes.retain(|class, _| ready.binary_search(class).is_ok());
    for (class, needs) in classes {
        board.classes.insert(class, needs);
    }
    let unready: Vec<i32> =
        ready.into_iter().filter(|class| !board.ready.contains_key(class)).collect();
    board.make_ready(&unready);
    Ok(())
}

/// The task: where miners wait.
struct Counter {
    db: Db,
    clock: Clock,
    config: Arc<Config>,
    controls: Switchboard,
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Ask>,
    takes: Takes,
}

impl Counter {
    async fn run(mut self) {
        let mut waiting: Vec<Ask> = Vec::new();
        // With jitter, so that replicas do not look at once.
        let poll = Duration::from_secs(u64::from(self.config.leases.look_secs.max(1)));
        let mut next_poll = Instant::now() + app::jittered(poll);
        let mut decisions = self.controls.changes();
        loop {
            let until = waiting.iter().filter_map(|ask| ask.until).min();
            let until = until.map_or(next_poll, |until| until.min(next_poll));
            tokio::select! {
                received = self.incoming.recv_many(&mut waiting, MAX_ROWS) => {
                    if received == 0 {
                        return;
                    }
                }
                () = self.shared.wake.notified() => {}
                Ok(()) = decisions.changed() => look_again(&mut waiting),
                () = tokio::time::sleep_until(until) => {}
            }
            if Instant::now() >= next_poll {
                next_poll = Instant::now() + app::jittered(poll);
                if let Err(error) = refresh(&self.db, &self.shared).await {
                    tracing::debug!(%error, "cannot look for work");
                }
                look_again(&mut waiting);
            }
            if !self.shared.board().draining {
                self.serve(&mut waiting).await;
            }
            self.dismiss(&mut waiting);
        }
    }

    /// Claims for whoever can take a ready class, until nothing more can be dealt.
    async fn serve(&mut self, waiting: &mut Vec<Ask>) {
        // Lost races are tried again at once, but not for ever.
        let mut fruitless = 0;
        while fruitless < 3 {
            waiting.retain(|ask| !ask.reply.is_closed());
            let in_force = self.controls.in_force();
            if !in_force.hands_out() {
                return;
            }
            self.study(waiting);
            let ready = self.ready();
            let mut asks = Vec::new();
            let mut i = 0;
            while i < waiting.len() && asks.len() < MAX_ROWS {
                let ask = &waiting[i];
                let barred = matching::barred(&ask.miner, &in_force).is_some();
                if !barred && ask.wants_a_look(&ready, &self.takes) {
                    asks.push(waiting.remove(i));
                } else {
                    i += 1;
                }
            }
            if asks.is_empty() {
                return;
            }
            let desk = claim::Desk {
                db: &self.db,
                clock: &self.clock,
                config: &self.config,
                takes: &self.takes,
            };
            match desk.claim(&ready, &asks).await {
                Ok(claimed) => {
                    fruitless = if claimed.raced { fruitless + 1 } else { 0 };
                    for (class, kind, rank) in &claimed.ranks {
                        self.shared.board().served.reach(*class, *kind, *rank);
                    }
                    self.rest(&ready, &claimed.exhausted);
                    let unheard = answer(asks, claimed, &ready, waiting);
                    self.take_back(unheard).await;
                }
                Err(error) => {
                    let error = ApiError::from(error);
                    for ask in asks {
                        drop(ask.reply.send(Err(error.clone())));
                    }
                }
            }
        }
    }

    /// Works out what those who wait can take.
    fn study(&mut self, waiting: &[Ask]) {
        let board = self.shared.board();
        for ask in waiting {
            self.takes.study(&ask.miner, &board.classes);
        }
        drop(board);
        self.takes.tidy(|| waiting.iter().map(|ask| ask.miner.no).collect());
    }

    /// Queues jobs again whose miners hung up before they were told.
    async fn take_back(&self, unheard: Vec<(i32, JobId, i64)>) {
        if unheard.is_empty() {
            return;
        }
        let leases: Vec<(JobId, i64)> =
            unheard.iter().map(|(_, job_id, fence)| (*job_id, *fence)).collect();
        match claim::take_back(&self.db, self.clock.now(), &leases).await {
            Ok(()) => {
                let classes: Vec<i32> = unheard.into_iter().map(|(class, ..)| class).collect();
                self.shared.board().make_ready(&classes);
            }
            // They lapse unacknowledged.
            Err(error) => tracing::debug!(%error, "leases that nobody heard of"),
        }
    }

    fn ready(&self) -> Ready {
        let board = self.shared.board();
        let classes = board
            .ready
            .iter()
            .filter_map(|(class, wake)| {
                Some((*class, (*wake, Arc::clone(board.classes.get(*class)?))))
            })
            .collect();
        Ready { classes, wakes: board.wakes }
    }

    /// Classes turned out to have no more jobs; unless they were woken in the meantime.
    fn rest(&self, ready: &Ready, exhausted: &BTreeSet<i32>) {
        let mut board = self.shared.board();
        for class in exhausted {
            let looked_at = ready.classes.get(class).map(|(wake, _)| *wake);
            if board.ready.get(class).copied() == looked_at {
                board.ready.remove(class);
                board.served.rest(*class);
            }
        }
    }

    /// Answers those whose time is up.
    fn dismiss(&self, waiting: &mut Vec<Ask>) {
        let draining = self.shared.board().draining;
        let now = Instant::now();
        let (done, on): (Vec<_>, Vec<_>) = std::mem::take(waiting)
            .into_iter()
            .partition(|ask| draining || ask.until.is_none_or(|until| until <= now));
        *waiting = on;
        for ask in done {
            drop(ask.reply.send(Ok(None)));
        }
    }
}

/// Whatever was found for those who wait may be different now.
fn look_again(waiting: &mut [Ask]) {
    waiting.iter_mut().for_each(|ask| ask.looked_at = ask.looked_at.map(|_| 0));
}

/// The ready classes at one moment, with their wake-ups.
struct Ready {
    classes: HashMap<i32, (u64, Arc<Needs>)>,
    /// The number of the last wake-up.
    wakes: u64,
}

impl Ask {
    fn wants_a_look(&self, ready: &Ready, takes: &Takes) -> bool {
        // Who never registered may hold an unfinished job, which it gets again.
        if self.looked_at.is_none() && !self.miner.registered {
            return true;
        }
        let looked_at = self.looked_at.unwrap_or(0);
        let woken = |(class, (wake, needs)): (&i32, &(u64, Arc<Needs>))| {
            *wake > looked_at && takes.can_take(&self.miner, *class) && self.left.holds(needs)
        };
        ready.classes.iter().any(woken)
    }
}

/// Hands out what was claimed; the others go on waiting. Returns the leases of those who hung up
/// between the look and the answer: class, job and fence.
fn answer(
    asks: Vec<Ask>,
    mut claimed: claim::Claimed,
    ready: &Ready,
    waiting: &mut Vec<Ask>,
) -> Vec<(i32, JobId, i64)> {
    let mut unheard = Vec::new();
    for (i, mut ask) in asks.into_iter().enumerate() {
        if let Some((class, job)) = claimed.jobs.remove(&i) {
            let lease = class.map(|class| (class, job.id, job.lease.fence));
            if ask.reply.send(Ok(Some(job))).is_err() {
                unheard.extend(lease);
            }
        } else {
            ask.looked_at = Some(if claimed.raced { 0 } else { ready.wakes });
            waiting.push(ask);
        }
    }
    unheard
}
