//! The thread that takes what pools and lanes tell: jobs become work, hashes become shares, answers
//! are counted. What the lanes hash with is [`super::supply`]'s part.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::board::Pool;
use super::forge::Need;
use super::inbox::{Inbox, Newest};
use super::supply::Supply;
use super::{Common, Message, Outlet, Settings};
use crate::algorithm::Algorithm;
use crate::engine::{Hashrate, Phase};
use crate::hasher::{self, Share};
use crate::notice::{Listener, Notice, Outcome};
use crate::pool::{Event, Job, Solution, Verdict};
use crate::shares::Book;
use crate::stats::{Meter, Pace};
use crate::work::BadWork;

/// How often the hashes are counted when nothing else happens.
const TICK: Duration = Duration::from_secs(1);

/// How long shares under way are waited for at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

pub(super) struct Driver {
    pub(super) common: Arc<Common>,
    pub(super) listener: Listener,
    pub(super) supply: Supply,
    outlet: Box<dyn Outlet>,
    newest: Newest,
    job: Option<Current>,
    /// Why there is none.
    idle: String,
    pool: Option<Pool>,
    failures: u64,
    book: Book,
    meter: Meter,
    pace: Pace,
    begun: Instant,
    /// The processors to which no lane can be bound.
    refuse: Vec<usize>,
    /// How many lanes have ended.
    fallen: usize,
    /// Why there is a lane without a scratchpad.
    lack: Option<String>,
}

/// What is hashed now.
struct Current {
    job: Job,
    need: Need,
    /// The first of the lanes' tasks on it: shares of those before are stale.
    first_task: u64,
    exhausted: bool,
}

impl Driver {
    pub(super) fn new(
        common: Arc<Common>,
        settings: Settings,
        listener: Listener,
        inbox: Inbox,
        outlet: Box<dyn Outlet>,
    ) -> Self {
        let Inbox { to: inbox, newest } = inbox;
        let supply = Supply::new(Arc::clone(&common), settings, Arc::clone(&listener), inbox);
        Self {
            common,
            listener,
            supply,
            outlet,
            newest,
            job: None,
            idle: "no pool has given work yet".to_owned(),
            pool: None,
            failures: 0,
            book: Book::default(),
            meter: Meter::default(),
            pace: Pace::default(),
            begun: Instant::now(),
            refuse: Vec::new(),
            fallen: 0,
            lack: None,
        }
    }

    pub(super) fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            match inbox.recv_timeout(self.supply.patience().min(TICK)) {
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return self.end(inbox),
                Ok(Message::Pool(event)) => self.hear(event),
                Ok(Message::Job) => {
                    if let Some(job) = self.newest.take() {
                        self.take_up(job);
                    }
                }
                Ok(Message::Lane(hasher::Event::Share(share))) => self.send(share),
                Ok(Message::Lane(hasher::Event::Exhausted { task })) => self.exhausted(task),
                Ok(Message::Lane(hasher::Event::OutOfMemory(error))) => {
                    self.lack(error.to_string());
                }
                Ok(Message::Lane(hasher::Event::BadWork { task, why })) => self.refuse(task, &why),
                Ok(Message::Forged(forged)) => self.supply.take_in(*forged),
                Ok(Message::Allowed) => self.reseat(),
                // Processors come back, too.
                Err(RecvTimeoutError::Timeout) if !self.refuse.is_empty() => self.reseat(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.count_fallen();
            let needs = self.job.as_ref().map(|current| (current.need, current.job.next_seed));
            self.supply.advance(needs);
            self.show();
        }
    }

    /// Waits a moment for the last answers.
    fn end(&mut self, inbox: &Receiver<Message>) {
        let begun = Instant::now();
        while let Some(number) = self.book.under_way() {
            match inbox.recv_timeout(LAST_ANSWERS.saturating_sub(begun.elapsed())) {
                Ok(Message::Pool(event @ Event::Answered { .. })) => self.hear(event),
                Ok(_) => {}
                Err(_) => {
                    let why = "mining ended before the pool answered".to_owned();
                    self.settle(number, Verdict::Lost(why), None);
                }
            }
        }
    }

    fn tell(&self, notice: &Notice) {
        (self.listener)(notice);
    }

    fn reseat(&mut self) {
        let pin = |lane: usize, processor| self.common.threads[lane].pin(processor);
        let refuse = self.common.reseat(pin);
        let new: Vec<_> = refuse.iter().filter(|number| !self.refuse.contains(number)).collect();
        if !new.is_empty() {
            let text = format!("threads cannot be bound to the processors {new:?}");
            self.tell(&Notice::Warning { text });
        }
        self.refuse = refuse;
    }

    /// A lane has no scratchpad: the others go on.
    fn lack(&mut self, why: String) {
        // Each lane tells it.
        if self.lack.as_ref() != Some(&why) {
            self.tell(&Notice::Warning { text: why.clone() });
            self.lack = Some(why);
        }
    }

    /// What ended that should not have.
    fn count_fallen(&mut self) {
        let (fallen, of) = (self.common.hasher.fallen(), self.common.hasher.lanes());
        if fallen > self.fallen {
            self.fallen = fallen;
            let text = format!("{fallen} of {of} threads have ended by a fault in this program");
            self.tell(&Notice::Warning { text });
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Connected { url } => {
                self.tell(&Notice::Connected { pool: url.clone() });
                self.pool = Some(Pool {
                    url,
                    since: Instant::now(),
                    difficulty: 0,
                    height: None,
                    ping: None,
                    failures: self.failures,
                });
                "the pool has given no work yet".clone_into(&mut self.idle);
            }
            Event::Job(job) => self.take_up(job),
            Event::Answered { number, verdict, after } => {
                self.settle(number, verdict, Some(after));
            }
            Event::Disconnected { url, reason, again_in } => {
                self.failures += 1;
                self.drop_job(format!("no pool: {reason}"));
                self.pool = None;
                let again_in_secs = again_in.as_secs();
                self.tell(&Notice::Disconnected { pool: url, reason, again_in_secs });
            }
        }
    }

    fn take_up(&mut self, job: Job) {
        let need = match (job.algorithm, job.seed) {
            (Algorithm::RandomX, Some(seed)) => Need::RandomX(seed),
            (Algorithm::RandomX, None) => {
                return self.drop_job("the pool's job has no seed".to_owned());
            }
            (Algorithm::GhostRider, _) => Need::GhostRider,
        };
        // Before the work: what the lanes have is for other hashes, perhaps.
        self.supply.prepare_for(need);
        let first_task = self.common.hasher.set_work(Some(job.work.clone()));
        let difficulty = job.work.target.difficulty();
        if let Some(pool) = &mut self.pool {
            (pool.difficulty, pool.height) = (difficulty, job.height);
        }
        let pool = self.pool.as_ref().map_or_else(String::new, |pool| pool.url.clone());
        let (algorithm, height) = (job.algorithm, job.height);
        self.tell(&Notice::Job { pool, difficulty, algorithm, height });
        self.job = Some(Current { job, need, first_task, exhausted: false });
    }

    fn drop_job(&mut self, why: String) {
        self.job = None;
        self.idle = why;
        self.common.hasher.set_work(None);
    }

    fn send(&mut self, share: Share) {
        let current = self.job.as_ref().filter(|current| share.task >= current.first_task);
        let Some(current) = current else {
            self.book.stale();
            return;
        };
        let number = self.book.send(current.job.work.target.difficulty());
        let (nonce, hash) = (share.nonce, share.hash);
        let solution = Solution { number, job: current.job.number, nonce, hash };
        if let Err(verdict) = self.outlet.submit(solution) {
            self.settle(number, verdict, None);
        }
    }

    fn exhausted(&mut self, task: u64) {
        // Each lane tells it.
        let current = self.job.as_mut().filter(|current| task >= current.first_task);
        if let Some(current) = current.filter(|current| !current.exhausted) {
            current.exhausted = true;
            self.outlet.exhausted(current.job.number);
        }
    }

    fn refuse(&mut self, task: u64, why: &BadWork) {
        if self.job.as_ref().is_some_and(|current| task >= current.first_task) {
            self.drop_job(format!("the pool's job cannot be hashed: {why}"));
        }
    }

    /// `after` is how long the pool took, where it was the pool that answered.
    fn settle(&mut self, number: u64, verdict: Verdict, after: Option<Duration>) {
        let Some(difficulty) = self.book.settle(number, &verdict) else { return };
        if let Some(pool) = self.pool.as_mut().filter(|_| !matches!(verdict, Verdict::Lost(_))) {
            pool.ping = after.or(pool.ping);
        }
        let counted = self.book.counted();
        let (accepted, refused) =
            (counted.accepted, counted.rejected + counted.stale + counted.lost);
        let (verdict, reason) = match verdict {
            Verdict::Accepted => (Outcome::Accepted, None),
            Verdict::Rejected(reason) => (Outcome::Rejected, Some(reason)),
            Verdict::Stale => (Outcome::Stale, None),
            Verdict::Lost(reason) => (Outcome::Lost, Some(reason)),
        };
        let after = after.unwrap_or_default();
        let took_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.tell(&Notice::Share { verdict, accepted, refused, difficulty, reason, took_ms });
    }

    fn show(&mut self) {
        let (now, hasher) = (self.begun.elapsed(), &self.common.hasher);
        self.meter.record(now, hasher.hashes());
        let idle = if self.fallen == hasher.lanes() {
            Some(super::ENDED)
        } else {
            self.lack.as_deref().filter(|_| hasher.is_lacking())
        };
        let phase = match (self.supply.phase(), &self.job) {
            (_, Some(_)) if let Some(reason) = idle => Phase::Failed { reason: reason.to_owned() },
            (failed @ Phase::Failed { .. }, _) => failed,
            (_, None) => Phase::Waiting { reason: self.idle.clone() },
            (phase, Some(_)) => phase,
        };
        let hashing = if phase == Phase::Mining { hasher.lanes() - hasher.parked() } else { 0 };
        let rates = self.meter.rates();
        self.pace.record(now, rates.ten_secs, hashing);
        let mut board = self.common.board();
        board.algorithm = self.job.as_ref().map(|current| current.job.algorithm);
        board.phase = phase;
        board.hashrate = Hashrate { of_thread: self.pace.of_thread(), ..rates };
        board.shares.clone_from(self.book.counted());
        board.pool.clone_from(&self.pool);
        self.supply.show(&mut board);
    }
}
