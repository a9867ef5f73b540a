//! The native engine and real pools: what they tell goes to the driver, its shares go to them.

use std::io;

use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{Inbox, Native, Outlet, Settings};
use crate::notice::Listener;
use crate::pool::{self, BadPools, Event, Pools, Solution, Timing, Verdict};

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// What is said about the pools contradicts itself.
    #[error(transparent)]
    Pools(#[from] BadPools),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl Outlet for Pools {
    fn submit(&self, solution: Solution) -> Result<(), Verdict> {
        Self::submit(self, solution)
    }

    fn exhausted(&self, job: u64) {
        self.more(job);
    }
}

impl Native {
    /// Starts to mine for the first of `pools` that answers, speaking to them on `runtime`. `seed`
    /// spreads the pauses of many miners. It begins with nothing allowed.
    ///
    /// # Errors
    /// See [`CannotStart`].
    pub fn with_pools(
        settings: Settings,
        listener: Listener,
        pools: Vec<pool::Settings>,
        timing: Timing,
        seed: u64,
        runtime: &Handle,
    ) -> Result<Self, CannotStart> {
        let (pools, told) = pool::start(pools, timing, seed, runtime)?;
        let connect = |inbox| {
            runtime.spawn(pass_on(told, inbox));
            pools
        };
        Ok(Self::start(settings, listener, connect)?)
    }
}

async fn pass_on(mut told: mpsc::Receiver<Event>, inbox: Inbox) {
    while let Some(event) = told.recv().await {
        inbox.tell(event);
    }
}
