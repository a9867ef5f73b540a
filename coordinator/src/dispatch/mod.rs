//! Dispatch: jobs meet miners. One task per replica holds the miners that wait and claims for all
//! of them at once.
//!
//! A class of requirements is *ready* while it may have a queued job; only waiting miners that can
//! take a ready class cost a look at the database, so that idle miners cost nothing. What makes a
//! class ready: a submission or a requeue here ([`Dispatch::wake`]), another replica's notice of
//! one, or the poll that sees what no notice said.

mod claim;
mod counter;
mod deal;
mod floors;
mod holdings;
pub mod leases;
pub mod log;
pub mod matching;
pub mod store;
mod takes;
pub mod why;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claim::Claimed;
use counter::Counter;
pub use deal::Left;
use floors::Floors;
use holdings::Holdings;
use matching::Needs;
use protocol::Job;
use protocol::job::SlotKind;
use takes::{Classes, Takes};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::app::Clock;
use crate::config::Config;
use crate::controls::Switchboard;
use crate::db::{Db, DbError};
use crate::error::ApiError;
use crate::miners::Miner;
use crate::replicas::Replicas;

/// Above this many classes, those without jobs are forgotten.
const MAX_CLASSES: usize = 10_000;

/// How often it is looked how far other replicas have served the queue, and whether all classes that
/// are taken for ready have jobs.
const ALL_EVERY: Duration = Duration::from_secs(10);

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
    floors: Floors,
    draining: bool,
    served: Served,
    /// When everything was last looked at.
    looked_at: Option<Instant>,
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
    /// Boxed: whoever waits would carry the room for a job.
    reply: oneshot::Sender<Result<Option<Box<Job>>, ApiError>>,
}

impl Board {
    /// Jobs wait, of these classes and ranks; [`i64::MIN`] where the rank is not known.
    fn make_ready(&mut self, jobs: impl IntoIterator<Item = (i32, i64)>) {
        self.wakes += 1;
        for (class, rank) in jobs {
            self.ready.insert(class, self.wakes);
            self.floors.woke(class, rank);
        }
    }

    /// What a claim showed: how far the queue is served, and where the next one begins.
    fn take_note(&mut self, claimed: &Claimed) {
        for (class, kind, rank) in &claimed.ranks {
            self.served.reach(*class, *kind, *rank);
        }
        for (class, rank) in &claimed.foremost {
            self.floors.found(*class, *rank);
        }
    }

    /// A class turned out to have no more jobs; unless it was woken since.
    fn rest(&mut self, class: i32, looked_at: u64) {
        if self.ready.get(&class) == Some(&looked_at) {
            self.ready.remove(&class);
            self.served.rest(class);
            self.floors.rest(class);
        }
    }

    /// Forgets all classes, so that those that have jobs are looked for anew.
    fn forget(&mut self) {
        self.classes.clear();
        self.ready.clear();
        self.served.classes.clear();
        self.floors = Floors::default();
        self.looked_at = None;
    }

    /// Whether it is time to look at everything.
    fn looks_at_all(&mut self) -> bool {
        let now = Instant::now();
        let due = self.looked_at.is_none_or(|at| now.duration_since(at) >= ALL_EVERY);
        if due {
            self.looked_at = Some(now);
        }
        due
    }
}

impl Shared {
    /// Makes those of some classes ready that are known here; whether all are.
    fn wake_known(&self, classes: &[i32]) -> bool {
        let mut board = self.board();
        let (known, unknown): (Vec<i32>, Vec<i32>) =
            classes.iter().partition(|class| board.classes.contains(**class));
        board.make_ready(known.into_iter().map(|class| (class, i64::MIN)));
        unknown.is_empty()
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
            replicas: Arc::clone(&replicas),
            takes: Takes::default(),
            holdings: Holdings::default(),
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
        let job = answer.await.map_err(|_| ApiError::overloaded())??;
        Ok(job.map(|job| *job))
    }

    /// Leases that are held: acknowledged, renewed, reported on.
    pub const fn leases(&self) -> &leases::Leases {
        &self.leases
    }

    /// Jobs are queued, of these classes and ranks: committed, so that whoever looks finds them.
    pub fn wake(&self, jobs: impl IntoIterator<Item = (i32, i64)>) {
        let jobs: Vec<(i32, i64)> = jobs.into_iter().collect();
        if jobs.is_empty() {
            return;
        }
        self.shared.board().make_ready(jobs.iter().copied());
        self.shared.wake.notify_one();
        self.replicas.tell_classes(jobs.into_iter().map(|(class, _)| class));
    }

    /// Another replica says that classes have a queued job; `None`: some may.
    pub async fn heard(&self, db: &Db, classes: Option<&[i32]>) {
        if classes.is_none() {
            self.shared.board().floors.forget();
        }
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

/// Looks what other replicas did: queued jobs, and the classes of these. What is known to be ready is
/// looked at now and then only.
async fn refresh(db: &Db, shared: &Shared) -> Result<(), DbError> {
    let (known, at_all) = {
        let mut board = shared.board();
        if board.classes.len() > MAX_CLASSES {
            board.forget();
        }
        (board.ready.clone(), board.looks_at_all())
    };
    let besides: Vec<i32> = if at_all { Vec::new() } else { known.keys().copied().collect() };
    let mut tx = db.read().await?;
    let ready: HashSet<i32> = store::ready_classes(&mut tx, &besides).await?.into_iter().collect();
    let unknown: Vec<i32> = {
        let board = shared.board();
        ready.iter().copied().filter(|class| !board.classes.contains(*class)).collect()
    };
    let classes = store::classes(&mut tx, unknown).await?;
    let held = if at_all { store::held_ranks(&mut tx).await? } else { Vec::new() };
    drop(tx);
    let mut board = shared.board();
    for (class, needs) in classes {
        board.classes.insert(class, needs);
    }
    let unready: Vec<i32> =
        ready.iter().copied().filter(|class| !board.ready.contains_key(class)).collect();
    board.make_ready(unready.into_iter().map(|class| (class, i64::MIN)));
    if at_all {
        for (class, kind, rank) in held {
            board.served.reach(class, kind, rank);
        }
        for (class, wake) in known.into_iter().filter(|(class, _)| !ready.contains(class)) {
            board.rest(class, wake);
        }
        let Board { served, ready, .. } = &mut *board;
        served.classes.retain(|class, _| ready.contains_key(class));
    }
    Ok(())
}
