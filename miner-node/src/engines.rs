//! The mining engine that the configuration names, started. When it may run is decided elsewhere.

use mining::Engine;
use mining::native::{CannotStart, Native};
use mining::notice::Listener;
use mining::pool::Timing;
use tokio::runtime::Handle;

use crate::config::Mining;
use crate::config::mining::{BadPool, EngineKind};

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum NoEngine {
    /// Nobody to mine for.
    #[error("no pool: set mining.pools")]
    NoPool,
    /// A pool that cannot be mined for.
    #[error(transparent)]
    BadPool(#[from] BadPool),
    /// What is named is not there yet.
    #[error("this build has no engine xmrig")]
    NotBuilt,
    /// It does not start.
    #[error(transparent)]
    CannotStart(#[from] CannotStart),
}

/// Starts the engine that `mining` names, with nothing allowed. `seed` spreads the pauses of many
/// miners.
///
/// # Errors
/// See [`NoEngine`].
pub fn start(
    mining: &Mining,
    listener: Listener,
    seed: u64,
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
        EngineKind::Xmrig => Err(NoEngine::NotBuilt),
    }
}
