//! `coordinator serve`: everything from an empty data directory to a clean end.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use protocol::signing;
use sqlx::migrate::MigrateError;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::app::{self, App, Clock, Parts, SharedApp};
use crate::artifacts::Artifacts;
use crate::artifacts::place::{self, PlaceError};
use crate::attestor::{self, KeyError};
use crate::auth::Auth;
use crate::config::Config;
use crate::db::{Db, DbError, UrlError};
use crate::health::{Front, SharedFront};
use crate::retention::Retention;
use crate::serve::Server;
use crate::stats::totals::Totals;
use crate::sweeper::Sweeper;
use crate::{accounts, router, stats, systemd, telemetry};

/// How long requests at work may take to end after the first signal.
const GRACE: Duration = Duration::from_secs(20);

/// First and longest wait between two tries to reach the database.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Why the service did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory, the port or the certificate cannot be used.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The database URL cannot be used.
    #[error("{0}")]
    Url(#[from] UrlError),
    /// The key that attests receipts cannot be used.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// The store of files cannot be used, or is not the database's.
    #[error("{0}")]
    Place(#[from] PlaceError),
    /// The database holds another schema than this build's.
    #[error("schema: {0}")]
    Schema(MigrateError),
    /// A second signal came before all requests had ended.
    #[error("ended by a second signal")]
    Interrupted,
}

/// Serves until a signal ends it.
///
/// # Errors
/// Where it cannot start, or could not end in peace.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    make_private(&config.data_dir)?;
    let attestor = attestor::open(&config.data_dir, app::random_bytes())?;
    let artifacts = place::open(&config)?;
    artifacts.probe().await?;
    let db = Db::open(&config.database_url(), config.max_connections())?;
    let key_id = signing::key_id(&attestor.verifying_key());
    let front = Front::new(db.clone(), Clock::System, key_id);
    if config.is_plain_and_public() {
        tracing::warn!("plain HTTP on a public address: keys are safe only behind a TLS proxy");
    }
    let mut signals = Signals::new()?;
    let server = Server::start(&config.listen, router::front_of(front.clone()))?;
    announce(&server.url());
    // It serves what it can while the database is away, and says so: no reason to start it again.
    systemd::ready();
    let _alive = AbortOnDropHandle::new(tokio::spawn(systemd::keep_alive()));
    let stop = CancellationToken::new();
    let house = Opening { config, db: db.clone(), artifacts, attestor };
    let mut life = tokio::spawn(live(house, front.clone(), stop.clone()));
    let ended = tokio::select! {
        () = signals.next() => None,
        ended = &mut life => Some(ended),
    };
    if let Some(ended) = ended {
        return ended.unwrap_or_else(|error| Err(io::Error::other(error).into()));
    }
    tracing::info!("going down: no new requests, those at work may end");
    front.drain();
    systemd::stopping(GRACE * 2);
    tokio::select! {
        stopped = server.stop(GRACE) => stopped?,
        () = signals.next() => return Err(ServeError::Interrupted),
    }
    stop.cancel();
    // The sweeper's last act is to store what the miners last said.
    drop(life.await);
    db.close().await;
    tracing::info!("down");
    Ok(())
}

/// The one line on standard output: scripts wait for it.
fn announce(url: &str) {
    use std::io::Write as _;
    let mut out = io::stdout().lock();
    drop(writeln!(out, "listening on {url}").and_then(|()| out.flush()));
    tracing::info!(url, version = env!("CARGO_PKG_VERSION"), "listening");
}

/// A directory that nobody else can look into; one that is there keeps its mode.
///
/// # Errors
/// Where it cannot be made.
pub fn make_private(dir: &Path) -> io::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))
}

struct Opening {
    config: Config,
    db: Db,
    artifacts: Artifacts,
    attestor: SigningKey,
}

/// Opens the house as soon as the database lets it, then keeps it until `stop`.
async fn live(
    house: Opening,
    front: SharedFront,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let opened = tokio::select! {
        opened = open(house) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    let router = router::house(&opened);
    front.open(opened.clone(), router);
    tracing::info!("open: the database is there and its schema current");
    warn_of_free_credits(&opened).await;
    tokio::select! {
        () = Sweeper::new(&opened).run(&opened, stop) => {}
        () = Retention::new(&opened).run(&opened) => {}
        () = upkeep(&opened) => {}
        () = opened.controls.follow(&opened.db) => {}
    }
    Ok(())
}

/// Strangers who get hold of a key could have work of their own paid without end.
async fn warn_of_free_credits(app: &App) {
    let capped = app.controls.in_force().daily_cap().is_some();
    if app.config.listen.host.is_loopback() || capped {
        return;
    }
    match issues(&app.db).await {
        Ok(true) => tracing::warn!(
            "a public address, clients that are paid by issuance, and no daily_cap: \
             see `coordinator controls`"
        ),
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, "clients were not counted"),
    }
}

async fn issues(db: &Db) -> Result<bool, DbError> {
    accounts::store::has_issuance(&mut db.read().await?).await
}

/// Keeps the metrics of what is stored; by the clock, so that nobody who reads them costs a query.
async fn upkeep(app: &App) {
    let mut ticks = tokio::time::interval(telemetry::UPKEEP);
    let mut totals = Totals::default();
    loop {
        ticks.tick().await;
        telemetry::metrics().run_upkeep();
        match count_live(&app.db).await {
            Ok(jobs) => telemetry::live_jobs(&jobs),
            Err(error) => tracing::debug!(%error, "live jobs were not counted"),
        }
        match totals.look(&app.db, app.now()).await {
            Ok(through) => telemetry::totals(&through),
            Err(error) => tracing::debug!(%error, "what went through was not counted"),
        }
        telemetry::miners_online(app.presence.online(app.now()).len());
    }
}

async fn count_live(db: &Db) -> Result<BTreeMap<String, u64>, DbError> {
    stats::store::live_counts(&mut db.read().await?).await
}

async fn open(house: Opening) -> Result<SharedApp, ServeError> {
    let mut wait = RETRY.0;
    loop {
        let error = match house.try_once().await {
            Ok(app) => return Ok(app),
            Err(NotYet::Schema(error)) if is_final(&error) => {
                return Err(ServeError::Schema(error));
            }
            Err(NotYet::Place(error @ (PlaceError::Foreign { .. } | PlaceError::Taken { .. }))) => {
                return Err(error.into());
            }
            Err(error) => error,
        };
        tracing::warn!(%error, retry_ms = wait.as_millis(), "the database is not there yet");
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("{0}")]
    Schema(#[from] MigrateError),
    #[error("{0}")]
    Db(#[from] DbError),
    #[error("{0}")]
    Place(#[from] PlaceError),
}

impl Opening {
    async fn try_once(&self) -> Result<SharedApp, NotYet> {
        self.db.migrate().await?;
        self.artifacts.check_mark(&self.db, Clock::System.now()).await?;
        let parts = Parts {
            config: self.config.clone(),
            db: self.db.clone(),
            clock: Clock::System,
            auth: Auth::keys(),
            artifacts: self.artifacts.clone(),
            attestor: self.attestor.clone(),
        };
        Ok(App::start(parts).await?)
    }
}

/// Whether no waiting helps: the schema is a newer build's, or another's.
const fn is_final(error: &MigrateError) -> bool {
    !matches!(error, MigrateError::Execute(_) | MigrateError::ExecuteMigration(..))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
