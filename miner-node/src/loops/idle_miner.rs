//! Looks at the machine, and has mined what the owner's rules allow. Jobs do not wait for it: what
//! their arrival and end mean is decided in `sharing`, at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::clock;
use crate::facts::Observer;
use crate::sharing::Sharing;

/// Pause between two looks: who sits down at the machine has it back within that.
const PAUSE: Duration = Duration::from_secs(1);

/// The same while nothing can be mined: then only what is shown follows from it.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// Looks until `end`: now and then, and at once where the owner changed something.
pub async fn run(sharing: Arc<Sharing>, mut observer: Observer, end: CancellationToken) {
    loop {
        observer = match tick(&sharing, observer).await {
            Ok(observer) => observer,
            Err(error) => {
                error!(event = "idle_miner", "the machine cannot be looked at: {error}");
                return;
            }
        };
        let pause = if sharing.engine().is_some() { PAUSE } else { LONG_PAUSE };
        tokio::select! {
            () = sleep(pause) => {}
            () = sharing.wake.notified() => {}
            () = end.cancelled() => return,
        }
    }
}

/// Looks once, and decides.
///
/// # Errors
/// Where looking panicked.
pub async fn tick(
    sharing: &Arc<Sharing>,
    mut observer: Observer,
) -> Result<Observer, tokio::task::JoinError> {
    let sharing = Arc::clone(sharing);
    let look = move || {
        let facts = observer.look(clock::now(), sharing.at_ms());
        sharing.look(facts);
        observer
    };
    tokio::task::spawn_blocking(look).await
}
