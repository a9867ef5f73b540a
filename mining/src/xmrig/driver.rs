//! What keeps XMRig as it is wanted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::api::{Api, CallFailed};
use super::child::Child;
use super::{Shared, Which, processors};
use crate::engine::{Allowance, Phase, Status};
use crate::host;
use crate::notice::{Listener, Notice};

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The pauses before it is started again, from the shortest to the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// For how long its API may be silent after the start.
const START: Duration = Duration::from_secs(20);

pub(super) struct Driver {
    which: Which,
    listener: Listener,
    shared: Arc<Shared>,
    wanted: watch::Receiver<Allowance>,
    running: Option<Running>,
    /// When it may be started, and the pause after that.
    retry: (Instant, Duration),
    /// How many threads it could use, as far as that is known.
    most: usize,
    /// What was told last, so that it is told once.
    told: String,
}

/// One that is spoken to.
struct Running {
    api: Api,
    child: Option<Child>,
    since: Instant,
    /// Its own list of threads, and the algorithm that it is for.
    threads: Option<(String, Vec<Value>)>,
    /// What it was last told, and has confirmed.
    set: Option<Allowance>,
}

impl Driver {
    pub(super) fn new(
        which: Which,
        listener: Listener,
        shared: Arc<Shared>,
        wanted: watch::Receiver<Allowance>,
    ) -> Self {
        let retry = (Instant::now(), RETRY.0);
        let most = match &which {
            Which::Started { program, .. } => {
                program.threads.unwrap_or_else(|| host::for_mining().len())
            }
            Which::Running { .. } => 0,
        };
        let driver = Self {
            which,
            listener,
            shared,
            wanted,
            running: None,
            retry,
            most,
            told: String::new(),
        };
        driver.shared.set_status(driver.known());
        driver
    }

    pub(super) async fn run(mut self) {
        loop {
            let allowance = self.wanted.borrow_and_update().clone();
            match self.keep(&allowance).await {
                Ok(()) => self.told.clear(),
                Err(why) => self.trouble(why),
            }
            match timeout(LOOK, self.wanted.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                // Nobody allows anything any more.
                Ok(Err(_)) => break,
            }
        }
        match self.running.take() {
            Some(Running { child: Some(child), .. }) => child.end().await,
            // It was not started here: it is left as its owner had it.
            Some(Running { api, .. }) => drop(api.pause(false).await),
            None => {}
        }
    }

    fn trouble(&mut self, why: String) {
        let status = Status { phase: Phase::Failed { reason: why.clone() }, ..self.known() };
        self.shared.set_status(status);
        if self.told != why {
            (self.listener)(&Notice::Warning { text: why.clone() });
            self.told = why;
        }
    }

    fn known(&self) -> Status {
        Status { threads_most: self.most, ..Status::unknown("xmrig") }
    }

    async fn keep(&mut self, allowance: &Allowance) -> Result<(), String> {
        let started = matches!(self.which, Which::Started { .. });
        if allowance.give_memory_back && started {
            return self.give_back().await;
        }
        if self.running.is_none() {
            if started && allowance.threads == 0 {
                return self.rest();
            }
            if Instant::now() < self.retry.0 {
                return Ok(());
            }
            self.begin().map_err(|why| self.put_off(why))?;
        }
        let Some(running) = &mut self.running else { return Ok(()) };
        if let Some(why) = running.child.as_mut().and_then(Child::ended) {
            self.shared.busy.store(0, Ordering::Release);
            let lived = running.since.elapsed();
            self.running = None;
            if lived > RETRY.1 {
                self.retry.1 = RETRY.0;
            }
            return Err(self.put_off(why));
        }
        match running.set(allowance, &self.shared).await {
            Ok(status) => {
                // Before its first job it does not say.
                self.most = if status.threads_most > 0 { status.threads_most } else { self.most };
                self.shared.set_status(Status { threads_most: self.most, ..status });
                Ok(())
            }
            // It has only just been started.
            Err(CallFailed::Http(_))
                if running.child.is_some() && running.since.elapsed() < START =>
            {
                let phase = Phase::Preparing { done_permille: 0 };
                self.shared.set_status(Status { phase, ..self.known() });
                sleep(LOOK / 5).await;
                Ok(())
            }
            Err(error) => {
                running.set = None;
                Err(error.to_string())
            }
        }
    }

    /// Nothing to be started.
    fn rest(&self) -> Result<(), String> {
        self.shared.busy.store(0, Ordering::Release);
        self.shared.set_status(Status { phase: Phase::Paused, ..self.known() });
        Ok(())
    }

    async fn give_back(&mut self) -> Result<(), String> {
        if let Some(Running { child: Some(child), .. }) = self.running.take() {
            child.end().await;
            (self.listener)(&Notice::GivenBack);
        }
        self.rest()
    }

    /// Says when the next try begins.
    fn put_off(&mut self, why: String) -> String {
        let pause = self.retry.1;
        self.retry = (Instant::now() + pause, (pause * 2).min(RETRY.1));
        format!("{why}; again in {} s", pause.as_secs())
    }

    fn begin(&mut self) -> Result<(), String> {
        let (url, token, child) = match &self.which {
            Which::Running { url, token } => (url.clone(), token.clone(), None),
            Which::Started { program, token } => {
                let child = Child::start(program, token)
                    .map_err(|error| format!("{}: {error}", program.path.display()))?;
                // It begins by itself.
                self.shared.busy.store(self.most, Ordering::Release);
                (child.url.clone(), token.clone(), Some(child))
            }
        };
        let api = Api::new(url, token).map_err(|error| error.to_string())?;
        let since = Instant::now();
        self.running = Some(Running { api, child, since, threads: None, set: None });
        Ok(())
    }
}

impl Running {
    /// Makes it do what is allowed, where it does not yet.
    async fn set(&mut self, allowance: &Allowance, shared: &Shared) -> Result<Status, CallFailed> {
        let threads = if allowance.give_memory_back { 0 } else { allowance.threads };
        if threads == 0 && self.set.as_ref().is_none_or(|set| set.threads > 0) {
            // Before anything else: somebody waits for it.
            self.api.pause(true).await?;
            shared.busy.store(0, Ordering::Release);
            self.set = Some(Allowance { threads, ..allowance.clone() });
        }
        let summary = self.api.summary().await?;
        let most = self.learn(summary.algo()).await?;
        let wanted = Allowance { threads: threads.min(most), ..allowance.clone() };
        if wanted.threads > 0 && self.set.as_ref() != Some(&wanted) {
            self.put(&wanted).await?;
            if self.set.as_ref().is_none_or(|set| set.threads == 0) {
                self.api.pause(false).await?;
            }
            shared.busy.store(wanted.threads, Ordering::Release);
            self.set = Some(wanted.clone());
        }
        Ok(summary.status(wanted.threads, most))
    }

    /// How many threads it would use by itself.
    async fn learn(&mut self, algo: Option<&str>) -> Result<usize, CallFailed> {
        // What it computes is known with the first job.
        let Some(algo) = algo else { return Ok(0) };
        if self.threads.as_ref().is_none_or(|(of, _)| of != algo) {
            let config = self.api.config().await?;
            let list = processors::list(&config, algo).unwrap_or_default();
            self.threads = Some((algo.to_owned(), list));
        }
        Ok(self.threads.as_ref().map_or(0, |(_, list)| list.len()))
    }

    async fn put(&self, wanted: &Allowance) -> Result<(), CallFailed> {
        let Some((algo, all)) = &self.threads else { return Ok(()) };
        let list = processors::chosen(all, wanted.threads, &wanted.processors);
        let mut config = self.api.config().await?;
        if processors::list(&config, algo).as_ref() == Some(&list) {
            return Ok(());
        }
        processors::put(&mut config, algo, list);
        self.api.set_config(&config).await
    }
}
