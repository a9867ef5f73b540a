//! The events of a job as they happen, across connections that break: each once, in order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use protocol::JobId;
use protocol::event::JobEvent;
use reqwest::StatusCode;
use reqwest::header::ACCEPT;
use tokio::time::{Instant, timeout};

use super::{CallError, Coordinator, Repeat, STALL, calls, checked, sse};

/// Who resumes says after which event.
const LAST_EVENT_ID: &str = "last-event-id";

/// The least pause before a stream that ended early is opened again.
const BREATH: Duration = Duration::from_millis(500);

type Pieces = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

/// The events of one job from some point on.
pub struct Events<'a> {
    coordinator: &'a Coordinator,
    job: JobId,
    after: u32,
    over: bool,
    connection: Option<(Pieces, sse::Parser)>,
    opened: Instant,
    /// Empty connections in a row: a coordinator that ends each at once must not be asked for ever.
    barren: u32,
    ready: VecDeque<JobEvent>,
}

impl std::fmt::Debug for Events<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("job", &self.job).field("after", &self.after).finish()
    }
}

impl Coordinator {
    /// The events of `job` that come after number `after`.
    pub fn events(&self, job: JobId, after: u32) -> Events<'_> {
        Events {
            coordinator: self,
            job,
            after,
            over: false,
            connection: None,
            opened: Instant::now(),
            barren: 0,
            ready: VecDeque::new(),
        }
    }
}

impl Events<'_> {
    /// The next event; `None` after the last.
    ///
    /// # Errors
    /// Where the coordinator refuses, or cannot be reached for long.
    pub async fn next(&mut self) -> Result<Option<JobEvent>, CallError> {
        self.next_within(None).await
    }

    /// The next event; `None` after the last, or where an open stream says nothing for as long as
    /// `silence`. Opening one takes what time it takes.
    ///
    /// # Errors
    /// Where the coordinator refuses, or cannot be reached for long.
    pub async fn next_within(
        &mut self,
        silence: Option<Duration>,
    ) -> Result<Option<JobEvent>, CallError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                // A repetition after a broken connection has been shown before.
                if event.seq <= self.after {
                    continue;
                }
                self.after = event.seq;
                self.barren = 0;
                self.over = event.what.is_last();
                return Ok(Some(event));
            }
            if self.over {
                return Ok(None);
            }
            if self.connection.is_none() && !self.connect().await? {
                return Ok(None);
            }
            match silence {
                Some(silence) => match timeout(silence, self.fill()).await {
                    Ok(filled) => filled?,
                    Err(_) => return Ok(None),
                },
                None => self.fill().await?,
            }
        }
    }

    /// Opens the stream after the last event seen. False where there is nothing more to come.
    async fn connect(&mut self) -> Result<bool, CallError> {
        let coordinator = self.coordinator;
        if self.barren > coordinator.patience.retries {
            return Err(CallError::Unreachable("the stream of events ends early".to_owned()));
        }
        if self.barren > 0 {
            tokio::time::sleep(BREATH * self.barren).await;
        }
        self.barren += 1;
        let call = calls::events(self.job);
        let (client, after) = (&coordinator.streams, self.after);
        let open = async || {
            let request = coordinator.request(client, &call).header(ACCEPT, "text/event-stream");
            checked(request.header(LAST_EVENT_ID, after)).await
        };
        let response = coordinator.patience.keep_trying(Repeat::Safe, open).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(false);
        }
        self.opened = Instant::now();
        self.connection = Some((Box::pin(response.bytes_stream()), sse::Parser::default()));
        Ok(true)
    }

    /// Reads a piece of the stream. One that breaks off is opened anew with the next call.
    async fn fill(&mut self) -> Result<(), CallError> {
        let Some((pieces, parser)) = &mut self.connection else { return Ok(()) };
        let Some(Ok(piece)) = pieces.next().await else {
            self.connection = None;
            // A job that says nothing for long is no fault of the connection.
            if self.opened.elapsed() >= STALL {
                self.barren = 0;
            }
            return Ok(());
        };
        let nonsense = |error: &dyn std::fmt::Display| CallError::Nonsense(error.to_string());
        for message in parser.push(&piece).map_err(|error| nonsense(&error))? {
            let event = serde_json::from_str(&message.data).map_err(|error| nonsense(&error))?;
            self.ready.push_back(event);
        }
        Ok(())
    }
}
