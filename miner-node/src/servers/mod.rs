//! Inference servers of the owner's, on this machine or near it, and what is asked of them.
//!
//! What to ask is decided in `runners/`. A server is trusted as far as its owner trusts it and no
//! further: what it says is parsed within limits, it redirects nobody, and it sees nothing of a job
//! but what the job asks of it. No process is started here, so nothing here is sandboxed.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep_until};

use crate::sandbox::{Ending, Interrupt, Limits, Places};

mod connection;
pub mod images;
mod page;
pub mod text;

pub use connection::Connection;

/// The isolation of what a server does, as receipts state it: the owner's, not ours.
pub const ISOLATION: &str = "server";

/// Why a server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It cannot be reached, broke off, is silent or busy. It may do it later.
    #[error("inference server: {0}")]
    Gone(String),
    /// It does not have the model.
    #[error("inference server: {0}")]
    Absent(String),
    /// It understood and refused.
    #[error("inference server: {0}")]
    Refused(String),
    /// What it said is not to be understood, or not what was asked for.
    #[error("inference server: {0}")]
    Nonsense(String),
    /// A file of the node's.
    #[error("{0}")]
    Local(#[from] std::io::Error),
}

/// A request to a server, in place of a program.
#[derive(Debug, Clone)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// What it may use; of the machine's limits only time and output mean anything to a server.
    pub limits: Limits,
}

/// What can be asked.
#[derive(Debug, Clone)]
pub enum Request {
    /// Text that goes on from a prompt.
    Text(text::Generation),
    /// An image that shows what a prompt says.
    Image(images::Painting),
}

/// A request that came to an end.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// How.
    pub ending: Ending,
    /// How long it took.
    pub wall: Duration,
    /// Tokens that were generated, for text.
    pub tokens: Option<u64>,
    /// The model that did it, by the name under which it is offered.
    pub model: String,
    /// What else was measured, by the names of a proof's metrics.
    pub metrics: Map<String, Value>,
}

/// What came of the talk itself.
struct Outcome {
    ending: Ending,
    tokens: Option<u64>,
    metrics: Map<String, Value>,
}

impl Call {
    /// Asks, and leaves the answer in `places` as a program would. Whoever interrupts ends it: the
    /// connection is closed, and a server that cares stops working.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn run(&self, places: &Places, interrupt: &Interrupt) -> Result<Served, ServerError> {
        let interrupted = async || {
            tokio::select! {
                () = interrupt.kill.cancelled() => Ending::Canceled,
                () = interrupt.cancel.cancelled() => Ending::Canceled,
            }
        };
        // Waiting for others' jobs is not the job's run time, which is paid and limited.
        let _turn = tokio::select! {
            turn = self.request.turn() => turn,
            ending = interrupted() => return Ok(self.served(Outcome::of(ending), Duration::ZERO)),
        };
        let started = Instant::now();
        let over = async {
            tokio::select! {
                ending = interrupted() => ending,
                () = sleep_until(started + self.limits.wall) => Ending::TimedOut,
            }
        };
        let outcome = match &self.request {
            Request::Text(generation) => generation.run(places, &self.limits, over).await,
            Request::Image(painting) => painting.run(places, &self.limits, over).await,
        }?;
        Ok(self.served(outcome, started.elapsed()))
    }

    /// The model that is asked for, by the name under which it is offered.
    pub fn model(&self) -> &str {
        self.request.model()
    }

    fn served(&self, outcome: Outcome, wall: Duration) -> Served {
        Served {
            ending: outcome.ending,
            wall,
            tokens: outcome.tokens,
            model: self.model().to_owned(),
            metrics: outcome.metrics,
        }
    }
}

impl Outcome {
    /// Nothing but an ending.
    fn of(ending: Ending) -> Self {
        Self { ending, tokens: None, metrics: Map::new() }
    }
}

impl Request {
    /// Waits until the server is free for it, if it does one thing at a time.
    async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        match self {
            Self::Text(_) => None,
            Self::Image(painting) => Some(painting.studio.turn().await),
        }
    }

    fn model(&self) -> &str {
        match self {
            Self::Text(generation) => &generation.model,
            Self::Image(painting) => &painting.model,
        }
    }
}

/// What a stranger wrote, as one short line that can stand in a message.
fn quoted(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.trim().chars().take(200).map(plain).collect();
    if text.trim().chars().count() > 200 {
        short.push_str("..");
    }
    short
}
