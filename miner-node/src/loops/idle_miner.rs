//! Looks at the machine, and has mined what the owner's rules allow. Jobs do not wait for it: what
//! their arrival and end mean is decided in `sharing`, at once.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::clock;
use crate::facts::Observer;
use crate::sharing::Sharing;

/// Pause between two looks: who sits down at the machine has it back within that.
const PAUSE: Duration = Duration::from_secs(1);

/// The same while nothing can be mined: then only what is shown follows from it.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// After how long a look that does not come back is not waited for any more: something of the
/// machine hangs, and what was seen before says nothing of now.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// Looks until `end`: now and then, and at once where the owner changed something.
pub async fn run(sharing: Arc<Sharing>, mut observer: Observer, end: CancellationToken) {
    loop {
        let looked = tokio::select! {
            looked = watched(&sharing, observer) => looked,
            // A look that hangs must not hold up the end.
            () = end.cancelled() => return,
        };
        observer = match looked {
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

/// One look, and nothing is mined while it does not come back.
async fn watched(sharing: &Arc<Sharing>, observer: Observer) -> Result<Observer, JoinError> {
    let began = Instant::now();
    let mut look = pin!(tick(sharing, observer));
    loop {
        tokio::select! {
            looked = look.as_mut() => return looked,
            () = sleep(LONGEST_LOOK) => {
                let unseen = began.elapsed();
                let secs = unseen.as_secs();
                warn!(event = "look_hangs", "no look at the machine came back for {secs} s");
                sharing.overlook(unseen);
            }
        }
    }
}

/// Looks once, and decides.
///
/// # Errors
/// Where looking panicked.
pub async fn tick(sharing: &Arc<Sharing>, mut observer: Observer) -> Result<Observer, JoinError> {
    let sharing = Arc::clone(sharing);
    let look = move || {
        let facts = observer.look(clock::now(), sharing.at_ms());
        sharing.look(facts);
        observer
    };
    tokio::task::spawn_blocking(look).await
}

#[cfg(test)]
mod tests {
    use mining::policy::{Rule, Rules};
    use rustix::fs::{CWD, Mode, mkfifoat};
    use tokio::task::yield_now;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_mined_while_a_look_hangs_and_the_end_comes_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let meminfo = root.path().join("proc/meminfo");
        std::fs::create_dir(root.path().join("proc")).unwrap();
        // Who reads it waits for somebody who writes.
        mkfifoat(CWD, &meminfo, Mode::RUSR | Mode::WUSR).unwrap();
        let kept = root.path().join("controls.json");
        let sharing = Arc::new(Sharing::new(&Rules::default(), kept, &[0, 1], &[], 1));
        let observer = Observer::at(root.path(), vec![0, 1]);
        let end = CancellationToken::new();
        let looking = tokio::spawn(run(Arc::clone(&sharing), observer, end.clone()));
        for _ in 0..3 {
            yield_now().await;
            advance(LONGEST_LOOK).await;
        }
        yield_now().await;
        let decision = sharing.standing().decision;
        end.cancel();
        let ended = looking.await;
        // The thread that looks goes on, or the runtime would wait for it for ever.
        std::fs::write(&meminfo, "MemAvailable: 8388608 kB\n").unwrap();
        ended.unwrap();
        let decision = decision.expect("nothing was decided");
        assert_eq!((decision.cpu.rule, decision.threads), (Rule::Unseen, 0), "{decision:?}");
    }
}
