//! The mock's binary: its command line.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use coordinator::config::{LogFormat, LogLevel, Logging};
use coordinator::{app, systemd, telemetry};
use mock_coordinator::{Faults, Options, Script, script};
use protocol::Name;

/// How long requests at work may take to end, and some time more.
const LAST_ACTS: Duration = Duration::from_secs(10);

/// A coordinator for local development: in memory, open to everybody, job after job.
#[derive(Debug, Parser)]
#[command(name = "mock-coordinator", version, about)]
struct Cli {
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The wallet that is credited where a miner names none
    #[arg(long, default_value = "wallet_demo")]
    wallet: Name,
    /// Jobs and faults (YAML), see etc/mock.yaml
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Submit no jobs of its own
    #[arg(long)]
    no_jobs: bool,
    /// Every reply later by this much
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency_ms: u64,
    /// Share of calls that get a 503, 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = rate)]
    fault_rate: f64,
    /// Repeats the faults of another run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Least level that is logged
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,
    /// Form of the log lines
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    // It fails only where a provider is installed already, and then there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let cli = Cli::parse();
    telemetry::log_to_stderr(&Logging { level: cli.log_level, format: cli.log_format });
    let script = match cli.script.as_deref().map(script::read) {
        None => Script::default(),
        Some(Ok(script)) => script,
        Some(Err(error)) => return complain(&error, 2),
    };
    match run(cli, script).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), 1),
    }
}

fn complain(error: &str, code: u8) -> ExitCode {
    drop(writeln!(io::stderr(), "mock-coordinator: {error}"));
    ExitCode::from(code)
}

async fn run(cli: Cli, script: Script) -> Result<(), mock_coordinator::MockError> {
    let seed = cli.seed.unwrap_or_else(|| u64::from_le_bytes(app::random_bytes()));
    let mut faults =
        Faults::scripted(script.faults.clone()).with_latency(Duration::from_millis(cli.latency_ms));
    if cli.fault_rate > 0.0 {
        tracing::info!(seed, rate = cli.fault_rate, "faults at random; --seed repeats them");
        faults = faults.with_chance(cli.fault_rate, seed);
    }
    let options = Options {
        host: cli.host,
        port: cli.port,
        wallet: cli.wallet,
        faults,
        feed: (!cli.no_jobs).then_some(script),
        ..Options::default()
    };
    let mut stop = stopped()?;
    let mock = mock_coordinator::start(options).await?;
    let mut out = io::stdout();
    writeln!(out, "listening on {}", mock.url()).and_then(|()| out.flush())?;
    systemd::ready();
    tokio::spawn(systemd::keep_alive());
    stop.recv().await;
    systemd::stopping(LAST_ACTS);
    mock.stop().await
}

/// The first signal that ends the process.
fn stopped() -> io::Result<tokio::sync::mpsc::Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (tell, told) = tokio::sync::mpsc::channel(1);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, tell) = (signal(kind)?, tell.clone());
        tokio::spawn(async move {
            signals.recv().await;
            tell.send(()).await.ok();
        });
    }
    Ok(told)
}
