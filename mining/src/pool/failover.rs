//! A list of pools, the first one preferred: somebody to mine for, for as long as any of them
//! answers, and back to a better one as soon as that has work again.

use std::collections::{BTreeMap, BTreeSet};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::backoff::{Spread, pause};
use super::dialect::{Fault, Numbers, Wait};
use super::session::{Order, Session, Teller, Told};
use super::settings::{Address, Settings, Timing};
use super::transport::Transport;
use super::{Event, Solution, Verdict};
use crate::algorithm::Algorithm;

/// How many events may wait for whoever mines.
const EVENTS: usize = 256;

/// How many orders may wait for a session.
const ORDERS: usize = 256;

/// Why no pools can be started.
#[derive(Debug, thiserror::Error)]
pub enum BadPools {
    /// There is none.
    #[error("no pool is configured")]
    None,
    /// A certificate can be pinned only where there is one.
    #[error("{0}: a fingerprint needs TLS: stratum+ssl or daemon+https")]
    FingerprintWithoutTls(Address),
    /// Daemons mine RandomX only.
    #[error("{0}: a daemon is for RandomX")]
    DaemonWithoutRandomX(Address),
    /// TLS cannot be set up.
    #[error("{address}: TLS: {source}")]
    Tls {
        /// The pool.
        address: Address,
        /// Why.
        source: rustls::Error,
    },
}

/// Pools that work comes from. Dropping it ends them: what is under way is still answered, then
/// the events end.
#[derive(Debug)]
pub struct Pools {
    orders: mpsc::Sender<Order>,
}

impl Pools {
    /// Sends a share, unless it is stale. What became of it comes as [`Event::Answered`], once and
    /// whatever happens.
    ///
    /// # Errors
    /// What became of it at once, where so many wait that it is not even looked at.
    pub fn submit(&self, solution: Solution) -> Result<(), Verdict> {
        let sent = self.orders.try_send(Order::Submit(solution));
        sent.map_err(|_| Verdict::Lost("too many shares wait to be sent".to_owned()))
    }

    /// All nonces of the job of this number are tried: where its pool has others, it comes as a job
    /// once more.
    pub fn more(&self, job: u64) {
        // Where that many orders wait, the next job is near.
        let _ = self.orders.try_send(Order::More(job));
    }
}

/// Starts on `runtime` to mine for the first of `pools` that answers. `seed` spreads the pauses of
/// many miners.
///
/// # Errors
/// Settings that contradict each other.
pub fn start(
    pools: Vec<Settings>,
    timing: Timing,
    seed: u64,
    runtime: &Handle,
) -> Result<(Pools, mpsc::Receiver<Event>), BadPools> {
    let pools = pools.into_iter().map(Pool::new).collect::<Result<Vec<_>, _>>()?;
    if pools.is_empty() {
        return Err(BadPools::None);
    }
    let mut spread = Spread::new(seed);
    // Not from 0: this process may be one that was started again, in the same pool's memory.
    let extra = u64::from(spread.next());
    let (orders, taken) = mpsc::channel(ORDERS);
    let (events, told) = mpsc::channel(EVENTS);
    let (listener, heard) = mpsc::channel(EVENTS);
    let failover = Failover {
        pools,
        timing,
        spread,
        events,
        listener,
        numbers: Numbers::with_extra(extra),
        sessions: JoinSet::new(),
        running: BTreeMap::new(),
        active: None,
        candidates: BTreeSet::new(),
        begun: 0,
        not_beside: Instant::now(),
    };
    runtime.spawn(failover.run(taken, heard));
    Ok((Pools { orders }, told))
}

/// A pool of the list.
struct Pool {
    settings: Settings,
    transport: Transport,
    /// In a row.
    failures: u32,
    not_before: Instant,
    redirected: Option<Address>,
}

impl Pool {
    fn new(settings: Settings) -> Result<Self, BadPools> {
        let address = settings.address.clone();
        if settings.fingerprint.is_some() && !address.scheme.is_secure() {
            return Err(BadPools::FingerprintWithoutTls(address));
        }
        let other = |algorithm| algorithm != Algorithm::RandomX;
        if address.scheme.is_daemon() && settings.algorithm.is_some_and(other) {
            return Err(BadPools::DaemonWithoutRandomX(address));
        }
        let transport =
            Transport::new(&settings).map_err(|source| BadPools::Tls { address, source })?;
        let not_before = Instant::now();
        Ok(Self { settings, transport, failures: 0, not_before, redirected: None })
    }
}

/// A session that runs.
struct Running {
    /// Its place in the list.
    pool: usize,
    /// `None` once another one took over.
    orders: Option<mpsc::Sender<Order>>,
    /// When its first job came.
    active_since: Option<Instant>,
}

struct Failover {
    pools: Vec<Pool>,
    timing: Timing,
    spread: Spread,
    events: mpsc::Sender<Event>,
    listener: mpsc::Sender<(u64, Told)>,
    numbers: Numbers,
    sessions: JoinSet<()>,
    running: BTreeMap<u64, Running>,
    /// The session that has work for us.
    active: Option<u64>,
    /// Those that may have soon: all on better pools than the active one.
    candidates: BTreeSet<u64>,
    /// The number of the last session.
    begun: u64,
    /// Until when the last session has time to bring work before the next one begins beside it.
    not_beside: Instant,
}

/// Nobody listens to the events any more.
struct Gone;

impl Failover {
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut heard: mpsc::Receiver<(u64, Told)>,
    ) {
        let mut ending = false;
        while !(ending && self.running.is_empty()) {
            let next = if ending { None } else { self.next_try(Instant::now()) };
            let (pool, at) = next.unzip();
            let done = tokio::select! {
                order = orders.recv(), if !ending => match order {
                    Some(order) => self.obey(order).await,
                    None => {
                        ending = true;
                        self.running.values_mut().for_each(|running| running.orders = None);
                        Ok(())
                    }
                },
                Some((session, told)) = heard.recv() => self.hear(session, told).await,
                () = sleep_until(at.unwrap_or_else(Instant::now)), if at.is_some() => {
                    self.begin(pool.unwrap_or_default());
                    Ok(())
                }
            };
            if let Err(Gone) = done {
                return;
            }
        }
    }

    /// The pool to try next, and when: any that is better than the one we have. A pool that takes
    /// its time, or only takes the login, keeps nobody from the next one for long.
    fn next_try(&self, now: Instant) -> Option<(usize, Instant)> {
        let have = self.active.and_then(|session| self.running.get(&session));
        let better = self.pools.iter().take(have.map_or(usize::MAX, |running| running.pool));
        let earliest = if self.candidates.is_empty() { now } else { self.not_beside.max(now) };
        // Of those that are due, the first of the list; else the one that is due first.
        better
            .enumerate()
            .filter(|(place, _)| !self.is_tried(*place))
            .map(|(place, pool)| (place, pool.not_before.max(earliest)))
            .min_by_key(|(place, at)| (*at, *place))
    }

    /// Whether the pool at `place` may have work soon.
    fn is_tried(&self, place: usize) -> bool {
        let of = |session| self.running.get(session);
        self.candidates.iter().filter_map(of).any(|running| running.pool == place)
    }

    fn begin(&mut self, place: usize) {
        let Some(pool) = self.pools.get_mut(place) else { return };
        self.begun += 1;
        let teller = Teller { session: self.begun, listener: self.listener.clone() };
        let (sender, orders) = mpsc::channel(ORDERS);
        let session = Session {
            settings: pool.settings.clone(),
            timing: self.timing,
            transport: pool.transport.clone(),
            numbers: self.numbers.clone(),
            salt: self.spread.next(),
            redirected: pool.redirected.take(),
        };
        self.sessions.spawn(session.run(orders, teller));
        // Those that have ended are of no more interest.
        while self.sessions.try_join_next().is_some() {}
        let running = Running { pool: place, orders: Some(sender), active_since: None };
        self.running.insert(self.begun, running);
        self.candidates.insert(self.begun);
        self.not_beside = Instant::now() + self.timing.beside;
    }

    async fn obey(&mut self, order: Order) -> Result<(), Gone> {
        let active = self.active.and_then(|session| self.running.get(&session));
        let refused = match active.and_then(|running| running.orders.as_ref()) {
            Some(orders) => match orders.try_send(order) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(order)) => (order, "the pool is too slow"),
                Err(mpsc::error::TrySendError::Closed(order)) => (order, "the connection ended"),
            },
            None => (order, "no pool is connected"),
        };
        let (Order::Submit(solution), reason) = refused else { return Ok(()) };
        let verdict = Verdict::Lost(reason.to_owned());
        self.tell(Event::Answered { number: solution.number, verdict, after: Default::default() })
            .await
    }

    async fn hear(&mut self, session: u64, told: Told) -> Result<(), Gone> {
        match told {
            Told::Answered { number, verdict, after } => {
                self.tell(Event::Answered { number, verdict, after }).await
            }
            Told::Job(job) => {
                if self.candidates.contains(&session) {
                    self.promote(session).await?;
                }
                match self.active == Some(session) {
                    true => self.tell(Event::Job(job)).await,
                    false => Ok(()),
                }
            }
            Told::Ended(fault) => self.end(session, fault).await,
        }
    }

    /// A candidate has work: the one before it only answers what is under way, and of the other
    /// candidates those stay that are better still.
    async fn promote(&mut self, session: u64) -> Result<(), Gone> {
        let before = self.active.replace(session);
        let place = self.running.get(&session).map(|running| running.pool);
        let worse = |of: &u64| self.running.get(of).map(|running| running.pool) > place;
        let mut left: Vec<_> = self.candidates.iter().copied().filter(worse).collect();
        left.extend(before);
        for other in left {
            self.candidates.remove(&other);
            if let Some(running) = self.running.get_mut(&other) {
                running.orders = None;
            }
        }
        self.candidates.remove(&session);
        let Some(running) = self.running.get_mut(&session) else { return Ok(()) };
        running.active_since = Some(Instant::now());
        let Some(pool) = self.pools.get(running.pool) else { return Ok(()) };
        self.tell(Event::Connected { url: pool.settings.address.to_string() }).await
    }

    async fn end(&mut self, session: u64, fault: Fault) -> Result<(), Gone> {
        let Some(running) = self.running.remove(&session) else { return Ok(()) };
        self.candidates.remove(&session);
        let was_active = self.active == Some(session);
        if was_active {
            self.active = None;
        }
        let now = Instant::now();
        if running.orders.is_some() {
            self.postpone(&running, &fault.wait, now);
        }
        // While another pool has work for us, a try that failed is nobody's business.
        if self.active.is_some() || running.orders.is_none() {
            return Ok(());
        }
        let Some(pool) = self.pools.get(running.pool) else { return Ok(()) };
        let url = pool.settings.address.to_string();
        let again_in = match self.next_try(now) {
            Some((_, at)) => at - now,
            None => Default::default(),
        };
        self.tell(Event::Disconnected { url, reason: fault.reason, again_in }).await
    }

    /// When the pool of a session that ended is tried again.
    fn postpone(&mut self, ended: &Running, wait: &Wait, now: Instant) {
        let Some(pool) = self.pools.get_mut(ended.pool) else { return };
        let stood = ended.active_since.is_some_and(|since| now - since >= self.timing.stable);
        pool.failures = if stood { 1 } else { pool.failures.saturating_add(1) };
        let timing = self.timing;
        let usual = pause(pool.failures, timing.retry, timing.longest_retry, self.spread.next());
        pool.not_before = now
            + match wait {
                Wait::Usual => usual,
                Wait::Banned => usual.max(timing.banned),
                Wait::Redirected { address, after } => {
                    pool.redirected = Some(address.clone());
                    // Else a pool could have us run in circles.
                    if pool.failures > 1 { usual.max(*after) } else { *after }
                }
            };
    }

    async fn tell(&self, event: Event) -> Result<(), Gone> {
        self.events.send(event).await.map_err(|_| Gone)
    }
}
