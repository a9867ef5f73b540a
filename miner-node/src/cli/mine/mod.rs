//! `mine`: mines for a pool, without a coordinator, until stopped.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use mining::engine::{Allowance, Engine, Phase, Status};
use mining::{Algorithm, Notice};
use rand::{RngExt as _, rng};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{FAILED, Flags, USAGE, complain};
use crate::config::Mining;
use crate::config::mining::{EngineKind, PagesKind, Pool, PriorityKind};
use crate::engines;

mod lines;
mod paper;
mod signals;

use lines::Lines;
use paper::{Line, Paper};

/// How long shares that are under way at the end are waited for.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Pause between two looks at them.
const LOOK: Duration = Duration::from_millis(10);

/// How long the last lines may take, where nobody reads them.
const LAST_LINES: Duration = Duration::from_secs(1);

const NO_GPU: &str = "--gpu: this build has no GPU miner: its RandomX and GhostRider run on \
processors, where they are made to be fastest. For GPUs let it drive your own XMRig (--engine \
xmrig) with its OpenCL or CUDA backend";

/// Mines for a pool until stopped, without a coordinator. Without flags: as the section `mining` of
/// the configuration says.
#[derive(Debug, Args)]
pub(super) struct Mine {
    /// A pool, or a daemon to mine alone with: stratum+ssl://HOST:PORT, stratum+tcp://,
    /// daemon+http://, daemon+https://; may be repeated, the first that answers counts
    #[arg(short = 'o', long, value_name = "URL")]
    pool: Vec<String>,
    /// The login there, mostly a wallet
    #[arg(short, long, value_name = "LOGIN", requires = "pool")]
    user: Option<String>,
    /// A file with the password there; without it, x
    #[arg(long, value_name = "FILE", requires = "pool")]
    password_file: Option<PathBuf>,
    /// This machine's name in the pool's statistics
    #[arg(long, value_name = "NAME", requires = "pool")]
    rig_id: Option<String>,
    /// The SHA-256 of the only certificate that is believed
    #[arg(long, value_name = "HEX", requires = "pool")]
    tls_fingerprint: Option<String>,
    /// Keep an idle connection alive, whatever the pool says it understands
    #[arg(long, requires = "pool")]
    keepalive: bool,
    /// The pool is a proxy that keeps the uppermost byte of the nonce
    #[arg(long, requires = "pool")]
    nicehash: bool,
    /// What is computed where the pool's jobs do not say
    #[arg(short, long, value_name = "NAME")]
    algo: Option<Algorithm>,
    /// Threads; without it, one for each 2 MiB of last-level cache
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// On what pages the dataset lies
    #[arg(long, value_name = "KIND")]
    pages: Option<PagesKind>,
    /// Without a dataset: 256 MiB instead of 2.3 GiB, and slow
    #[arg(long)]
    light: bool,
    /// Compiled programs are never in memory that is writable and executable at once
    #[arg(long)]
    secure_jit: bool,
    /// Who goes first where there is more to do than processors
    #[arg(long, value_name = "WHO")]
    priority: Option<PriorityKind>,
    /// What mines
    #[arg(long, value_name = "NAME")]
    engine: Option<EngineKind>,
    /// Your XMRig, which mines instead of the node
    #[arg(long, value_name = "PROGRAM")]
    xmrig: Option<PathBuf>,
    /// On GPUs
    #[arg(long)]
    gpu: bool,
    /// How often the speed is told
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    print_time: u32,
    /// End after so long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,
    /// As JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Mine {
    pub(super) fn main(&self, flags: &Flags) -> ExitCode {
        if self.gpu {
            return complain(&NO_GPU, USAGE);
        }
        let loaded = match flags.load_aloud() {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        let state = loaded.config.state_dir().to_owned();
        let mining = match self.over(loaded.config.mining) {
            Ok(mining) => mining,
            Err(why) => return complain(&why, USAGE),
        };
        match self.run(&mining, &state) {
            Ok(code) => code,
            Err(error) => complain(&error, FAILED),
        }
    }

    /// The section of the configuration, with what the flags say in its place.
    fn over(&self, mut mining: Mining) -> Result<Mining, String> {
        if !self.pool.is_empty() {
            let user = self.user.clone().ok_or("--pool needs --user: the wallet that is paid")?;
            let pool = |url: &String| Pool {
                url: url.clone(),
                user: user.clone(),
                password: None,
                password_file: self.password_file.clone(),
                rig_id: self.rig_id.clone(),
                tls_fingerprint: self.tls_fingerprint.clone(),
                keepalive: self.keepalive,
                nicehash: self.nicehash,
                algo: self.algo,
            };
            mining.pools = self.pool.iter().map(pool).collect();
        }
        mining.algo = self.algo.or(mining.algo);
        mining.threads = self.threads.or(mining.threads);
        mining.pages = self.pages.unwrap_or(mining.pages);
        mining.light |= self.light;
        mining.secure_jit |= self.secure_jit;
        mining.priority = self.priority.unwrap_or(mining.priority);
        mining.engine = self.engine.unwrap_or(mining.engine);
        if let Some(path) = &self.xmrig {
            if self.engine == Some(EngineKind::Native) {
                return Err("--xmrig and --engine native exclude each other".to_owned());
            }
            // It is not started from here.
            let path = std::path::absolute(path).map_err(|error| format!("--xmrig: {error}"))?;
            mining.xmrig.path = Some(path);
            mining.xmrig.url = None;
            mining.engine = EngineKind::Xmrig;
        }
        if mining.pools.is_empty() && mining.xmrig.url.is_none() {
            return Err("nobody to mine for: --pool URL --user WALLET".to_owned());
        }
        for pool in &mining.pools {
            mining.checked(pool).map_err(|error| error.to_string())?;
        }
        Ok(mining)
    }

    fn run(&self, mining: &Mining, state: &Path) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let stop = signals::follow(runtime.handle())?;
        let (paper, lines) = (Arc::new(Paper::default()), Lines::new(self.json));
        let mut printed = paper.print(move |line| lines.line(line))?;
        let heard = Arc::clone(&paper);
        let listener = Arc::new(move |notice: &Notice| heard.put(Line::Notice(notice.clone())));
        let engine = engines::start(mining, listener, rng().random(), state, runtime.handle())?;
        // As many as it has: an XMRig says only later how many that is.
        engine.allow(&Allowance { threads: usize::MAX, ..Allowance::default() });
        let begun = Instant::now();
        let ended = runtime.block_on(self.watch(&*engine, &paper, &mut printed, stop));
        let status = runtime.block_on(settled(&*engine));
        drop(engine);
        match ended {
            // Whoever read the lines has gone.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            Err(_) => {}
            Ok(()) => {
                paper.put(Line::Summary(Box::new(status.clone()), begun.elapsed()));
                paper.end();
                // As above, or does not read them.
                let _ = runtime.block_on(async { timeout(LAST_LINES, printed).await });
            }
        }
        // Tasks that speak to pools end with the engine; nobody waits for a pool's farewell.
        runtime.shutdown_background();
        Ok(code(&status))
    }

    /// Tells what happens until it shall end.
    async fn watch(
        &self,
        engine: &dyn Engine,
        paper: &Paper,
        printed: &mut oneshot::Receiver<io::Result<()>>,
        mut stop: oneshot::Receiver<()>,
    ) -> io::Result<()> {
        let mut speed = interval(Duration::from_secs(self.print_time.into()));
        speed.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is at once.
        speed.tick().await;
        let end = self.seconds.map(|secs| Duration::from_secs(secs.into()));
        let end = sleep(end.unwrap_or(Duration::from_secs(u32::MAX.into())));
        tokio::pin!(end);
        loop {
            tokio::select! {
                _ = &mut stop => return Ok(()),
                () = &mut end => return Ok(()),
                // It ends by itself only where it cannot print.
                printed = &mut *printed => return printed.unwrap_or(Ok(())),
                _ = speed.tick() => paper.put(Line::Speed(Box::new(engine.status()))),
            }
        }
    }
}

/// How it stands once it mines no more, and the answers to its last shares have come, or are late.
async fn settled(engine: &dyn Engine) -> Status {
    engine.allow(&Allowance::default());
    let answered = async {
        while engine.status().shares.under_way > 0 {
            sleep(LOOK).await;
        }
    };
    // Then they are told as what they are: not answered.
    let _ = timeout(LAST_ANSWERS, answered).await;
    engine.status()
}

/// Good where it has mined, or would have.
fn code(status: &Status) -> ExitCode {
    match status.phase {
        Phase::Failed { .. } => ExitCode::from(FAILED),
        _ if status.hashes == 0 => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    fn mine(line: &str) -> Mine {
        let line = ["miner-node", "mine"].into_iter().chain(line.split_whitespace());
        let Command::Mine(mine) = Cli::try_parse_from(line).unwrap().command else { panic!() };
        mine
    }

    #[test]
    fn flags_come_before_the_configuration() {
        let of_config = Mining { threads: Some(8), light: true, ..Mining::default() };
        let line =
            "-o stratum+tcp://p.example:1 -o stratum+ssl://q.example:2 -u W --threads 2 -a rx/0";
        let mining = mine(line).over(of_config.clone()).unwrap();
        assert_eq!((mining.threads, mining.light, mining.pools.len()), (Some(2), true, 2));
        assert_eq!(mining.pools[1].algo, Some(Algorithm::RandomX));
        let mut with_pool = of_config;
        with_pool.pools.clone_from(&mining.pools);
        assert_eq!(mine("").over(with_pool).unwrap().threads, Some(8));
    }

    #[test]
    fn what_is_missing_is_said() {
        let error = |line: &str| mine(line).over(Mining::default()).unwrap_err();
        assert!(error("").contains("--pool"));
        assert!(error("-o stratum+tcp://p.example:1").contains("--user"));
        assert!(error("-o p.example -u W").contains("p.example"));
        let print = "-o stratum+tcp://p.example:1 -u W --tls-fingerprint ab";
        assert!(error(print).contains("64 hexadecimal digits"));
        let both = "-o stratum+tcp://p.example:1 -u W --xmrig /x --engine native";
        assert!(error(both).contains("exclude each other"));
        let unchecked = "-o stratum+ssl://p.example:1 -u W --xmrig /x";
        assert!(error(unchecked).contains("tls_fingerprint"));
    }

    #[test]
    fn an_xmrig_that_is_named_is_what_mines_wherever_it_is() {
        let line = "-o stratum+tcp://p.example:1 -u W --xmrig build/xmrig";
        let mining = mine(line).over(Mining::default()).unwrap();
        assert_eq!(mining.engine, EngineKind::Xmrig);
        let path = std::env::current_dir().unwrap().join("build/xmrig");
        assert_eq!(mining.xmrig.path, Some(path));
    }
}
