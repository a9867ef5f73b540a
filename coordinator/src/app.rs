//! The running coordinator: everything that a handler can reach, and the one source of time and
//! of randomness.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ed25519_dalek::SigningKey;
use protocol::{JobId, LeaseToken, Timestamp};
use rand::RngExt as _;

use crate::artifacts::Artifacts;
use crate::auth::Auth;
use crate::config::Config;
use crate::controls::Switchboard;
use crate::db::Db;
use crate::dispatch::Dispatch;
use crate::events::follow::Follow;
use crate::intake::Intake;
use crate::miners::Presence;
use crate::replicas::{self, Replicas};
use crate::settlement::Settlement;

/// The running coordinator.
#[derive(Debug)]
pub struct App {
    /// Settings.
    pub config: Arc<Config>,
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Who calls, and how often they may.
    pub auth: Auth,
    /// Files of jobs.
    pub artifacts: Artifacts,
    /// What this replica knows of the miners.
    pub presence: Arc<Presence>,
    /// What the operator decided.
    pub controls: Switchboard,
    /// Requests become jobs.
    pub intake: Intake,
    /// Jobs meet miners.
    pub dispatch: Dispatch,
    /// Proofs become credits.
    pub settlement: Settlement,
    /// Whoever follows jobs.
    pub follow: Follow,
    /// Attests receipts.
    pub attestor: SigningKey,
}

/// How handlers share the app.
pub type SharedApp = Arc<App>;

impl App {
    /// Starts the corridors on a database whose schema is current.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub async fn start(parts: Parts) -> Result<SharedApp, crate::db::DbError> {
        let Parts { config, db, clock, auth, artifacts, attestor } = parts;
        let config = Arc::new(config);
        let presence = Arc::new(Presence::new(db.clone(), clock.clone(), config.leases.clone()));
        presence.refresh().await?;
        let controls = Switchboard::start(&db).await?;
        let others = Arc::new(Replicas::default());
        let dispatch = Dispatch::start(
            db.clone(),
            clock.clone(),
            Arc::clone(&config),
            controls.clone(),
            Arc::clone(&others),
        )
        .await?;
        let follow = Follow::start(db.clone(), clock.clone(), &config, Arc::clone(&others));
        replicas::start(&db, others, dispatch.clone(), follow.clone());
        let intake = Intake::start(
            db.clone(),
            clock.clone(),
            Arc::clone(&config),
            controls.clone(),
            dispatch.clone(),
        );
        let settlement =
            Settlement::start(db.clone(), clock.clone(), Arc::clone(&config), attestor.clone());
        Ok(Arc::new(Self {
            config,
            db,
            clock,
            auth,
            artifacts,
            presence,
            controls,
            intake,
            dispatch,
            settlement,
            follow,
            attestor,
        }))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// What an [`App`] is started from.
#[derive(Debug)]
pub struct Parts {
    /// Settings.
    pub config: Config,
    /// The database.
    pub db: Db,
    /// The time.
    pub clock: Clock,
    /// Who calls.
    pub auth: Auth,
    /// Files of jobs.
    pub artifacts: Artifacts,
    /// Attests receipts.
    pub attestor: SigningKey,
}

/// The time: the machine's, or one that a test moves.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The machine's.
    System,
    /// Stands still until it is moved.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.micros())))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the one place that asks for the time")]
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            Self::Manual(micros) => Timestamp::from_micros(micros.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock; the machine's cannot be moved and stays.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(micros) = self {
            micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(0), Ordering::SeqCst);
        }
    }

    /// Sets a manual clock back, as somebody may do with a machine's; the machine's own stays.
    pub fn set_back(&self, by: Duration) {
        if let Self::Manual(micros) = self {
            micros.fetch_sub(i64::try_from(by.as_micros()).unwrap_or(0), Ordering::SeqCst);
        }
    }
}

/// 128 random bits.
pub fn random_u128() -> u128 {
    rand::rng().random()
}

/// Random bytes, for secrets and ids.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill(&mut bytes[..]);
    bytes
}

/// `duration` give or take 10 %, so that what began together does not come back together.
pub fn jittered(duration: Duration) -> Duration {
    let percent = u32::try_from(random_u128() % 21).unwrap_or(0) + 90;
    duration * percent / 100
}

/// A fresh job id.
pub fn new_job_id(now: Timestamp) -> JobId {
    JobId::from_parts(now, random_u128())
}

/// A fresh lease token.
pub fn new_lease_token() -> LeaseToken {
    LeaseToken::from_u128(random_u128())
}

/// A fresh transfer id: sorts by time, and those of one process and one microsecond in the order in
/// which they were made.
pub fn new_transfer_id(now: Timestamp) -> uuid::Uuid {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let moment = u64::try_from(now.micros()).unwrap_or(0);
    let count = MADE.fetch_add(1, Ordering::Relaxed) & 0xffff;
    let random = random_u128() & 0xffff_ffff_ffff;
    uuid::Uuid::from_u128(u128::from(moment) << 64 | u128::from(count) << 48 | random)
}

/// The id before which lie all transfers that were made before `since`.
pub fn first_transfer_id(since: Timestamp) -> uuid::Uuid {
    uuid::Uuid::from_u128(u128::from(u64::try_from(since.micros()).unwrap_or(0)) << 64)
}
