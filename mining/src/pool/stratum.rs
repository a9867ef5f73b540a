//! One connection to a pool, from the first word to the last: whatever the dialect, each question
//! is answered or the connection is held for dead, and each share has a verdict in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec, LinesCodecError};

use super::dialect::{Dialect, Fault, LONGEST_LINE, Request, Step, Submission};
use super::session::{Order, Teller};
use super::settings::Timing;
use super::{Solution, Verdict};

/// The most questions that may wait for an answer.
const MOST_ASKED: usize = 1024;

/// Speaks `dialect` over `stream` until something ends it. Where no more orders can come, the
/// shares under way are still answered.
pub async fn run<S: AsyncRead + AsyncWrite + Send + Unpin>(
    dialect: &mut dyn Dialect,
    stream: S,
    timing: Timing,
    orders: &mut mpsc::Receiver<Order>,
    teller: &Teller,
) -> Fault {
    let (reader, writer) = tokio::io::split(stream);
    let codec = || LinesCodec::new_with_max_length(LONGEST_LINE);
    let mut lines = FramedRead::new(reader, codec());
    let now = Instant::now();
    let mut talk = Talk {
        dialect,
        writer: FramedWrite::new(writer, codec()),
        timing,
        teller,
        asked: BTreeMap::new(),
        begun: now,
        heard: now,
        spoke: now,
        has_job: false,
        retiring: false,
    };
    let fault = match talk.greet().await {
        Ok(()) => talk.run(&mut lines, orders).await,
        Err(fault) => fault,
    };
    talk.settle(&fault.reason).await;
    fault
}

type Lines<S> = FramedRead<ReadHalf<S>, LinesCodec>;

/// A question that waits for its answer.
struct Asked {
    at: Instant,
    /// [`Solution::number`], where it is a share.
    share: Option<u64>,
}

struct Talk<'a, S> {
    dialect: &'a mut dyn Dialect,
    writer: FramedWrite<WriteHalf<S>, LinesCodec>,
    timing: Timing,
    teller: &'a Teller,
    asked: BTreeMap<u64, Asked>,
    begun: Instant,
    heard: Instant,
    spoke: Instant,
    has_job: bool,
    /// Somebody else mines for us by now; only answers are waited for.
    retiring: bool,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Talk<'_, S> {
    async fn greet(&mut self) -> Result<(), Fault> {
        let greeting = self.dialect.greet();
        self.say(greeting, None).await
    }

    async fn run(&mut self, lines: &mut Lines<S>, orders: &mut mpsc::Receiver<Order>) -> Fault {
        loop {
            if self.retiring && self.asked.values().all(|asked| asked.share.is_none()) {
                return Fault::new("another pool took over");
            }
            let done = tokio::select! {
                line = lines.next() => self.hear(line).await,
                order = orders.recv(), if !self.retiring => match order {
                    Some(Order::Submit(solution)) => self.submit(&solution).await,
                    Some(Order::More(job)) => self.more(job).await,
                    None => {
                        self.retiring = true;
                        Ok(())
                    }
                },
                () = sleep_until(self.next_look()) => self.look(lines).await,
            };
            if let Err(fault) = done {
                return fault;
            }
        }
    }

    async fn hear(&mut self, line: Option<Result<String, LinesCodecError>>) -> Result<(), Fault> {
        let line = match line {
            Some(Ok(line)) => line,
            Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                return Err(Fault::new(format!(
                    "the pool sent more than {LONGEST_LINE} bytes in a line"
                )));
            }
            Some(Err(LinesCodecError::Io(error))) => {
                return Err(Fault::new(format!("the connection broke: {error}")));
            }
            None => return Err(Fault::new("the pool closed the connection")),
        };
        self.heard = Instant::now();
        for step in self.dialect.hear(line.as_bytes()) {
            match step {
                Step::Send(request) => self.say(request, None).await?,
                Step::Job(job) => {
                    self.has_job = true;
                    if !self.retiring {
                        self.teller.job(job).await;
                    }
                }
                Step::Replied { id, verdict } => self.replied(id, verdict).await,
                Step::End(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    async fn replied(&mut self, id: u64, verdict: Verdict) {
        // An answer to what was not asked means nothing.
        let Some(asked) = self.asked.remove(&id) else { return };
        if let Some(number) = asked.share {
            self.teller.answered(number, verdict, asked.at.elapsed()).await;
        }
    }

    async fn submit(&mut self, solution: &Solution) -> Result<(), Fault> {
        let settled = if self.asked.len() < MOST_ASKED {
            match self.dialect.submit(solution) {
                Submission::Send(request) => return self.say(request, Some(solution.number)).await,
                Submission::Settled(verdict) => verdict,
            }
        } else {
            Verdict::Lost("too many shares wait for an answer".to_owned())
        };
        self.teller.answered(solution.number, settled, Duration::ZERO).await;
        Ok(())
    }

    async fn more(&mut self, job: u64) -> Result<(), Fault> {
        if let Some(job) = self.dialect.more(job) {
            self.teller.job(job).await;
        }
        Ok(())
    }

    async fn say(&mut self, request: Request, share: Option<u64>) -> Result<(), Fault> {
        self.spoke = Instant::now();
        if let Some(id) = request.id {
            self.asked.insert(id, Asked { at: self.spoke, share });
        }
        match timeout(self.timing.answer, self.writer.send(request.line)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Fault::new(format!("the connection broke: {error}"))),
            Err(_) => Err(Fault::new("the pool does not read what is sent")),
        }
    }

    /// When something is due that no event brings.
    fn next_look(&self) -> Instant {
        let mut next = self.heard + self.timing.silence;
        if let Some(oldest) = self.asked.values().map(|asked| asked.at).min() {
            next = next.min(oldest + self.timing.answer);
        }
        if !self.has_job {
            next = next.min(self.begun + self.timing.first_job);
        }
        next.min(self.heard.max(self.spoke) + self.timing.idle)
    }

    async fn look(&mut self, lines: &mut Lines<S>) -> Result<(), Fault> {
        // Whoever was held up himself must not blame the pool: what has come counts first.
        for _ in 0..MOST_ASKED {
            let Some(line) = lines.next().now_or_never() else { break };
            self.hear(line).await?;
        }
        let now = Instant::now();
        let late = |asked: &Asked| now >= asked.at + self.timing.answer;
        if self.asked.values().any(late) {
            return Err(Fault::new(format!("no answer within {:?}", self.timing.answer)));
        }
        if !self.has_job && now >= self.begun + self.timing.first_job {
            return Err(Fault::new(format!("no job within {:?}", self.timing.first_job)));
        }
        if now >= self.heard + self.timing.silence {
            return Err(Fault::new(format!("not a word for {:?}", self.timing.silence)));
        }
        if now >= self.heard.max(self.spoke) + self.timing.idle {
            // Whether or not there is a question to ask: the next look is not due at once.
            self.spoke = now;
            if let Some(request) = self.dialect.keep_alive() {
                return self.say(request, None).await;
            }
        }
        Ok(())
    }

    /// Nothing more will be heard: what was sent is lost.
    async fn settle(&mut self, reason: &str) {
        for asked in std::mem::take(&mut self.asked).into_values() {
            if let Some(number) = asked.share {
                let verdict = Verdict::Lost(reason.to_owned());
                self.teller.answered(number, verdict, asked.at.elapsed()).await;
            }
        }
    }
}
