//! The counter: where miners wait, and are served.
//!
//! What makes a look worth while is in the parent; how jobs are leased is in `claim`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use protocol::JobId;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::holdings::Holdings;
use super::matching::{self, Needs};
use super::takes::Takes;
use super::{Ask, Board, Shared, claim, refresh};
use crate::app::{self, Clock};
use crate::batch::MAX_ROWS;
use crate::config::Config;
use crate::controls::Switchboard;
use crate::db::Db;
use crate::error::ApiError;
use crate::replicas::Replicas;

/// How often those are looked for whose time is up.
const DISMISS_EVERY: Duration = Duration::from_millis(20);

/// The task: where miners wait.
pub(super) struct Counter {
    pub db: Db,
    pub clock: Clock,
    pub config: Arc<Config>,
    pub controls: Switchboard,
    pub shared: Arc<Shared>,
    pub replicas: Arc<Replicas>,
    pub incoming: mpsc::Receiver<Ask>,
    pub takes: Takes,
    pub holdings: Holdings,
}

impl Counter {
    /// Serves until nobody can ask any more.
    pub async fn run(mut self) {
        // Those that were looked for, and those that just came: thousands may wait for whom nothing
        // changed, and none of them costs anything when another one comes or goes.
        let (mut waiting, mut arrived): (Vec<Ask>, Vec<Ask>) = (Vec::new(), Vec::new());
        let (mut soonest, mut unfinished) = (None, false);
        let mut dismissed = Instant::now();
        // With jitter, so that replicas do not look at once.
        let poll = Duration::from_secs(u64::from(self.config.leases.look_secs.max(1)));
        let mut next_poll = Instant::now() + app::jittered(poll);
        let mut decisions = self.controls.changes();
        loop {
            let until = soonest.map_or(next_poll, |soonest: Instant| {
                soonest.max(dismissed + DISMISS_EVERY).min(next_poll)
            });
            let mut all = std::mem::take(&mut unfinished);
            tokio::select! {
                received = self.incoming.recv_many(&mut arrived, MAX_ROWS) => {
                    if received == 0 {
                        return;
                    }
                }
                () = self.shared.wake.notified() => all = true,
                Ok(()) = decisions.changed() => {
                    look_again(&mut waiting);
                    all = true;
                }
                () = tokio::time::sleep_until(until) => {}
            }
            if Instant::now() >= next_poll {
                next_poll = Instant::now() + app::jittered(poll);
                if let Err(error) = refresh(&self.db, &self.shared).await {
                    tracing::debug!(%error, "cannot look for work");
                }
                look_again(&mut waiting);
                all = true;
            }
            if all {
                waiting.append(&mut arrived);
            }
            let served = if all { &mut waiting } else { &mut arrived };
            if !self.shared.board().draining {
                unfinished = !self.serve(served).await;
            }
            let now = Instant::now();
            if all || soonest.is_some_and(|soonest| soonest <= now) {
                self.dismiss(&mut waiting, now);
                dismissed = now;
                soonest = waiting.iter().filter_map(|ask| ask.until).min();
            }
            self.dismiss(&mut arrived, now);
            soonest = arrived.iter().filter_map(|ask| ask.until).chain(soonest).min();
            waiting.append(&mut arrived);
        }
    }

    /// Claims for whoever can take a ready class, until nothing more can be dealt; `false`: some
    /// may still get something.
    async fn serve(&mut self, waiting: &mut Vec<Ask>) -> bool {
        // Lost races are tried again at once, but not for ever.
        let mut fruitless = 0;
        while fruitless < 3 {
            waiting.retain(|ask| !ask.reply.is_closed());
            let in_force = self.controls.in_force();
            if !in_force.hands_out() {
                return true;
            }
            self.study(waiting);
            let ready = self.ready();
            let takes = &self.takes;
            let wants = |ask: &mut Ask| {
                matching::barred(&ask.miner, &in_force).is_none() && ask.wants_a_look(&ready, takes)
            };
            let asks: Vec<Ask> = waiting.extract_if(.., wants).take(MAX_ROWS).collect();
            if asks.is_empty() {
                return true;
            }
            let mut desk = claim::Desk {
                db: &self.db,
                clock: &self.clock,
                config: &self.config,
                takes: &self.takes,
                holdings: &mut self.holdings,
            };
            match desk.claim(&ready, &asks).await {
                Ok(mut claimed) => {
                    fruitless = if claimed.raced { fruitless + 1 } else { 0 };
                    self.shared.board().take_note(&claimed);
                    let short = std::mem::take(&mut claimed.short);
                    let unheard = answer(asks, claimed, &ready, waiting);
                    self.take_back(unheard).await;
                    // Nobody waits for this look; those who were answered go first.
                    yield_now().await;
                    match claim::exhausted(&self.db, &ready, short).await {
                        Ok(exhausted) => self.rest(&ready, &exhausted),
                        Err(error) => tracing::debug!(%error, "cannot see what is left"),
                    }
                }
                Err(error) => {
                    // Another server may have taken over, and know less than this one said.
                    self.holdings.forget();
                    let error = ApiError::from(error);
                    for ask in asks {
                        drop(ask.reply.send(Err(error.clone())));
                    }
                }
            }
        }
        false
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
                let jobs = classes.iter().map(|class| (*class, i64::MIN));
                self.shared.board().make_ready(jobs);
                self.replicas.tell_classes(classes);
                // For those, too, who are not being looked for now.
                self.shared.wake.notify_one();
            }
            // They lapse unacknowledged.
            Err(error) => tracing::debug!(%error, "leases that nobody heard of"),
        }
    }

    fn ready(&self) -> Ready {
        let mut board = self.shared.board();
        let Board { classes, ready, floors, wakes, .. } = &mut *board;
        let open = |(class, wake): (&i32, &u64)| {
            let needs = Arc::clone(classes.get(*class)?);
            Some((*class, Open { wake: *wake, needs, from: floors.begin(*class) }))
        };
        Ready { classes: ready.iter().filter_map(open).collect(), wakes: *wakes }
    }

    /// Classes turned out to have no more jobs; unless they were woken in the meantime.
    fn rest(&self, ready: &Ready, exhausted: &BTreeSet<i32>) {
        let mut board = self.shared.board();
        for class in exhausted {
            if let Some(open) = ready.classes.get(class) {
                board.rest(*class, open.wake);
            }
        }
    }

    /// Answers those whose time is up.
    fn dismiss(&self, waiting: &mut Vec<Ask>, now: Instant) {
        let draining = self.shared.board().draining;
        let over = |ask: &mut Ask| draining || ask.until.is_none_or(|until| until <= now);
        for ask in waiting.extract_if(.., over) {
            drop(ask.reply.send(Ok(None)));
        }
    }
}

/// Whatever was found for those who wait may be different now.
fn look_again(waiting: &mut [Ask]) {
    waiting.iter_mut().for_each(|ask| ask.looked_at = ask.looked_at.map(|_| 0));
}

/// A class that may have a queued job.
pub(super) struct Open {
    /// The number of the wake-up that last made it ready.
    wake: u64,
    /// What its jobs need.
    pub needs: Arc<Needs>,
    /// The rank below which none of its jobs waits.
    pub from: i64,
}

/// The ready classes at one moment, with their wake-ups.
pub(super) struct Ready {
    pub classes: HashMap<i32, Open>,
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
        let woken = |(class, open): (&i32, &Open)| {
            open.wake > looked_at
                && takes.can_take(&self.miner, *class)
                && self.left.holds(&open.needs)
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
            if ask.reply.send(Ok(Some(Box::new(job)))).is_err() {
                unheard.extend(lease);
            }
        } else {
            ask.looked_at = Some(if claimed.raced { 0 } else { ready.wakes });
            waiting.push(ask);
        }
    }
    unheard
}
