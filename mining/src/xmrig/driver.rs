//! What keeps XMRig as it is wanted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::select;
use tokio::sync::watch;
use tokio::time::timeout;

use super::api::{Api, CallFailed};
use super::child::Child;
use super::own::Own;
use super::{Shared, Which, processors};
use crate::engine::{Allowance, Phase, Status};
use crate::host;
use crate::notice::{Listener, Notice};

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The same while it is being started.
const LOOK_AT_START: Duration = Duration::from_millis(200);

/// The pauses before it is started again, from the shortest to the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// For how long the API of a started one may be silent.
const SILENCE: Duration = Duration::from_secs(20);

/// How long one of our own may take to pause by itself.
const AT_ONCE: Duration = Duration::from_millis(5);

/// How long the owner's may take for that, and to get back what it had.
const SOON: Duration = Duration::from_millis(500);

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
    /// When it answered last, or was started.
    heard: Instant,
    own: Own,
    /// How many threads it has in its list.
    listed: usize,
    /// What it was last told, and has confirmed; `None`: it may be at anything.
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
        // Until it has said so itself.
        let most = match &which {
            Which::Started { program, .. } => program.threads,
            Which::Running { .. } => None,
        };
        let most = most.unwrap_or_else(|| host::for_mining().len());
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
            let next = match self.keep(&allowance).await {
                Ok(next) => {
                    self.told.clear();
                    next
                }
                Err(why) => {
                    self.trouble(why);
                    LOOK
                }
            };
            match timeout(next, self.wanted.changed()).await {
                Ok(Ok(())) | Err(_) => {}
                // Nobody allows anything any more.
                Ok(Err(_)) => break,
            }
        }
        match self.running.take() {
            Some(Running { child: Some(child), .. }) => child.end().await,
            // It was not started here: it is left as its owner had it.
            Some(running) => self.leave(running).await,
            None => {}
        }
    }

    async fn leave(&self, running: Running) {
        let Which::Running { kept, .. } = &self.which else { return };
        if let Ok(Ok(())) = timeout(SOON, running.restore()).await {
            // It may never have been written.
            let _ = std::fs::remove_file(kept);
        }
        // Otherwise the next life will.
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

    /// Makes it do what is allowed, and says after how long it is to be looked at again.
    async fn keep(&mut self, allowance: &Allowance) -> Result<Duration, String> {
        let started = matches!(self.which, Which::Started { .. });
        if allowance.give_memory_back && started {
            return self.give_back().await;
        }
        if self.running.is_none() {
            if started && allowance.threads == 0 {
                return self.rest();
            }
            if Instant::now() < self.retry.0 {
                return Ok(LOOK);
            }
            self.begin(allowance).map_err(|why| self.put_off(why))?;
        }
        let (known, mut changes) = (self.known(), self.wanted.clone());
        let Some(running) = &mut self.running else { return Ok(LOOK) };
        if let Some(why) = running.child.as_mut().and_then(Child::ended) {
            return Err(self.begin_anew(why));
        }
        let set = running.set(allowance, &self.shared, &self.which);
        let set = select! {
            biased;
            // Nothing that it is slow to answer may hold up what is wanted now.
            _ = changes.changed() => return Ok(LOOK),
            set = set => set,
        };
        match set {
            Ok(Some(status)) => {
                running.heard = Instant::now();
                // Before its first job it does not say.
                self.most = if status.threads_most > 0 { status.threads_most } else { self.most };
                self.shared.set_status(Status { threads_most: self.most, ..status });
                Ok(LOOK)
            }
            Ok(None) => {
                running.heard = Instant::now();
                self.shared.set_status(Status { phase: Phase::Paused, ..known });
                Ok(LOOK)
            }
            // It has only just been started.
            Err(Failed::Call(CallFailed::Http(_)))
                if running.child.is_some() && running.since.elapsed() < SILENCE =>
            {
                let phase = Phase::Preparing { done_permille: 0 };
                self.shared.set_status(Status { phase, ..known });
                Ok(LOOK_AT_START)
            }
            // Somebody else had its port, or it hangs; it must not hash where nobody can stop it.
            Err(error) if running.child.is_some() && running.heard.elapsed() > SILENCE => {
                Err(self.begin_anew(error.to_string()))
            }
            Err(error) => {
                running.set = None;
                Err(error.to_string())
            }
        }
    }

    /// Ends it, if it has not ended, and begins another one later.
    fn begin_anew(&mut self, why: String) -> String {
        let lived = self.running.take().map(|running| running.since.elapsed());
        self.shared.busy.store(0, Ordering::Release);
        if lived.is_some_and(|lived| lived > RETRY.1) {
            self.retry.1 = RETRY.0;
        }
        self.put_off(why)
    }

    /// Nothing to be started.
    fn rest(&self) -> Result<Duration, String> {
        self.shared.busy.store(0, Ordering::Release);
        self.shared.set_status(Status { phase: Phase::Paused, ..self.known() });
        Ok(LOOK)
    }

    async fn give_back(&mut self) -> Result<Duration, String> {
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

    fn begin(&mut self, allowance: &Allowance) -> Result<(), String> {
        let (url, token, child, own) = match &self.which {
            Which::Running { url, token, kept } => {
                (url.clone(), token.clone(), None, Own::kept(kept, url.as_str()))
            }
            Which::Started { program, token } => {
                let homes = host::for_mining();
                let processors: Vec<_> = homes.iter().copied().cycle().take(self.most).collect();
                let own = Own::started(&processors);
                // It begins by itself.
                let threads = allowance.threads.min(self.most);
                self.shared.busy.store(threads, Ordering::Release);
                let child = Child::start(program, token, &own, allowance).map_err(|error| {
                    self.shared.busy.store(0, Ordering::Release);
                    format!("{}: {error}", program.path.display())
                })?;
                (child.url.clone(), token.clone(), Some(child), own)
            }
        };
        let api = Api::new(url, token).map_err(|error| error.to_string())?;
        let (now, listed) = (Instant::now(), allowance.threads.min(self.most));
        let running = Running { api, child, since: now, heard: now, own, listed, set: None };
        self.running = Some(running);
        Ok(())
    }
}

/// Why it does not do what is allowed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Call(#[from] CallFailed),
    #[error("what your XMRig was like cannot be written down, so nothing of it is changed: {0}")]
    Keep(#[from] io::Error),
}

impl Running {
    /// Makes it do what is allowed, where it does not yet; `None`: it does nothing, and cannot tell.
    async fn set(
        &mut self,
        allowance: &Allowance,
        shared: &Shared,
        which: &Which,
    ) -> Result<Option<Status>, Failed> {
        let threads = if allowance.give_memory_back { 0 } else { allowance.threads };
        if self.child.is_none() && self.own.paused.is_none() {
            // As its owner had it.
            self.own.paused = Some(self.api.summary().await?.is_paused());
            self.keep(which)?;
        }
        if threads == 0 && self.set.as_ref().is_none_or(|set| set.threads > 0) {
            // Before anything else: somebody waits for it.
            self.pause().await?;
            shared.busy.store(0, Ordering::Release);
            self.set = Some(Allowance { threads, ..allowance.clone() });
        }
        if let Some(child) = self.child.as_mut().filter(|child| child.is_stopped()) {
            if threads == 0 {
                return Ok(None);
            }
            // It goes on where it was, until it is told.
            shared.busy.store(self.listed, Ordering::Release);
            child.stop(false);
            (self.since, self.heard, self.set) = (Instant::now(), Instant::now(), None);
        }
        let summary = self.api.summary().await?;
        let Some(algo) = summary.algo() else {
            // What it computes is known with the first job, which it gets while it is paused, too.
            return Ok(Some(summary.status(0, 0)));
        };
        let most = self.learn(algo, which).await?;
        // One that has nothing but graphics processors for it is paused and resumed all the same.
        let threads = if most == 0 { threads.min(1) } else { threads.min(most) };
        let wanted = Allowance { threads, ..allowance.clone() };
        if threads > 0 && self.set.as_ref() != Some(&wanted) {
            let paused = self.set.take().is_none_or(|set| set.threads == 0);
            shared.busy.fetch_max(threads.min(most), Ordering::AcqRel);
            self.put(algo, &wanted, which).await?;
            if paused {
                self.api.pause(false, SOON).await?;
            }
            shared.busy.store(threads.min(most), Ordering::Release);
            self.set = Some(wanted);
        }
        Ok(Some(summary.status(threads.min(most), most)))
    }

    async fn pause(&mut self) -> Result<(), CallFailed> {
        let Some(child) = &mut self.child else {
            return self.api.pause(true, SOON).await;
        };
        if child.is_stopped() || self.api.pause(true, AT_ONCE).await.is_ok() {
            return Ok(());
        }
        // It is being started, or busy with a dataset: whoever waits has no time for that.
        child.stop(true);
        Ok(())
    }

    /// How many threads it would use by itself.
    async fn learn(&mut self, algo: &str, which: &Which) -> Result<usize, Failed> {
        if self.own.list(algo).is_none() {
            let config = self.api.config().await?;
            self.own.learn(algo, &config);
            self.keep(which)?;
        }
        Ok(self.own.list(algo).map_or(0, <[_]>::len))
    }

    async fn put(&mut self, algo: &str, wanted: &Allowance, which: &Which) -> Result<(), Failed> {
        let all = self.own.list(algo).unwrap_or_default();
        if all.is_empty() {
            return Ok(());
        }
        let list = processors::chosen(all, wanted.threads, &wanted.processors);
        let mut config = self.api.config().await?;
        self.listed = list.len();
        if processors::list(&config, algo).as_ref() == Some(&list) {
            return Ok(());
        }
        processors::put(&mut config, algo, list.clone());
        // Before it has them: nobody may live to write it down later.
        self.own.give(algo, list);
        self.keep(which)?;
        Ok(self.api.set_config(&config).await?)
    }

    fn keep(&self, which: &Which) -> io::Result<()> {
        match which {
            Which::Running { kept, .. } => self.own.keep(kept),
            // It ends with the node.
            Which::Started { .. } => Ok(()),
        }
    }

    /// Gives it back what it had.
    async fn restore(&self) -> Result<(), CallFailed> {
        let Some(paused) = self.own.paused else { return Ok(()) };
        let mut config = self.api.config().await?;
        if self.own.restore(&mut config) {
            self.api.set_config(&config).await?;
        }
        // Where its owner has paused it meanwhile, it stays so.
        if paused || self.set.as_ref().is_none_or(|set| set.threads == 0) {
            self.api.pause(paused, SOON).await?;
        }
        Ok(())
    }
}
