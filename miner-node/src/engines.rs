//! The mining engine that the configuration names, started. When it may run is decided elsewhere.

use std::io;
use std::path::Path;

use mining::Engine;
use mining::native::{CannotStart, Native};
use mining::notice::Listener;
use mining::pool::Timing;
use mining::xmrig::{Program, Which, Xmrig};
use rand::{RngExt as _, rng};
use tokio::runtime::Handle;

use crate::config::mining::{BadPool, EngineKind, PriorityKind};
use crate::config::{Mining, Secret};

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum NoEngine {
    /// Nobody to mine for.
    #[error("no pool: set mining.pools")]
    NoPool,
    /// A pool that cannot be mined for.
    #[error(transparent)]
    BadPool(#[from] BadPool),
    /// No XMRig.
    #[error("no XMRig: set mining.xmrig.path or mining.xmrig.url")]
    NoXmrig,
    /// Its token cannot be read.
    #[error("mining.xmrig.token_file: {0}")]
    Token(io::Error),
    /// No thread can be started to drive it.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// It does not start.
    #[error(transparent)]
    CannotStart(#[from] CannotStart),
}

/// Starts the engine that `mining` names, with nothing allowed. `seed` spreads the pauses of many
/// miners; what has to outlast the node is kept in `state`.
///
/// # Errors
/// See [`NoEngine`].
pub fn start(
    mining: &Mining,
    listener: Listener,
    seed: u64,
    state: &Path,
    runtime: &Handle,
) -> Result<Box<dyn Engine>, NoEngine> {
    match mining.engine {
        EngineKind::Native => {
            let pools = mining.pool_settings()?;
            if pools.is_empty() {
                return Err(NoEngine::NoPool);
            }
            let (settings, timing) = (mining.native_settings(), Timing::default());
            Ok(Box::new(Native::with_pools(settings, listener, pools, timing, seed, runtime)?))
        }
        EngineKind::Xmrig => {
            let engine = Xmrig::start(xmrig(mining, state)?, listener).map_err(NoEngine::Thread)?;
            Ok(Box::new(engine))
        }
    }
}

fn xmrig(mining: &Mining, state: &Path) -> Result<Which, NoEngine> {
    let settings = &mining.xmrig;
    match (&settings.path, &settings.url, &settings.token_file) {
        (Some(path), ..) => {
            let pools = mining.pool_settings()?;
            if pools.is_empty() {
                return Err(NoEngine::NoPool);
            }
            let name = format!("aitbc-xmrig-{}", word());
            let program = Program {
                path: path.clone(),
                directory: std::env::temp_dir().join(name),
                pools,
                threads: mining.threads.map(usize::from),
                idle: mining.priority == PriorityKind::Idle,
                donate_level: settings.donate_level,
            };
            Ok(Which::Started { program, token: word() })
        }
        (None, Some(url), Some(file)) => {
            let token = Secret::read(file).map_err(NoEngine::Token)?;
            let (url, token) = (url.endpoint(""), token.expose().to_owned());
            Ok(Which::Running { url, token, kept: state.join("xmrig.json") })
        }
        _ => Err(NoEngine::NoXmrig),
    }
}

/// A word that nobody can guess.
fn word() -> String {
    hex::encode(rng().random::<[u8; 16]>())
}
