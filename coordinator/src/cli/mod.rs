//! The command line of the operator.

mod controls;
mod keys;
mod payouts;
mod receipt;

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::config::{self, Config, ConfigError, DatabaseUrl, LogFormat, LogLevel, Overrides};
use crate::db::Db;
use crate::{ledger, router, service, telemetry};

/// Coordinates jobs, miners, receipts and credits.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version, about)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Settings {
    /// Settings file (YAML); /etc/aitbc/coordinator.yaml if that exists
    #[arg(long, global = true, value_name = "FILE", env = "COORDINATOR_CONFIG")]
    config: Option<PathBuf>,
    /// postgres://USER@HOST/NAME or sqlite:FILE
    #[arg(long, global = true, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<DatabaseUrl>,
    /// Where keys, artifacts and the SQLite file live
    #[arg(long, global = true, value_name = "DIR", env = "COORDINATOR_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, global = true, value_name = "IP", env = "COORDINATOR_HOST")]
    host: Option<IpAddr>,
    /// Port to listen on; 0 takes a free one
    #[arg(long, global = true, env = "COORDINATOR_PORT")]
    port: Option<u16>,
    /// Certificate chain (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "COORDINATOR_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "COORDINATOR_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Least level that is logged
    #[arg(long, global = true, value_name = "LEVEL", env = "COORDINATOR_LOG_LEVEL")]
    log_level: Option<LogLevel>,
    /// Form of the log lines
    #[arg(long, global = true, value_name = "FORMAT", env = "COORDINATOR_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Serve,
    /// Bring the database's schema up to date
    Migrate,
    /// Look at the settings
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Show or change what is decided while the service runs
    #[command(subcommand)]
    Controls(controls::Command),
    /// Export what wallets are owed, and mark it as paid
    #[command(subcommand)]
    Payouts(payouts::Command),
    /// Look into the ledger
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Look at receipts
    #[command(subcommand)]
    Receipt(receipt::Command),
    /// Print the OpenAPI document of the service (JSON)
    Openapi,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the settings can be used
    Check,
    /// Print the settings in force, without passwords (JSON, which is YAML, too)
    Show,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Recompute every balance from its entries; exit code 1 if a rule is broken
    Audit,
}

/// Why a command ended without success.
enum Failure {
    /// The settings cannot be used: exit code 2.
    Config(ConfigError),
    /// It was tried and did not work: exit code 1.
    Failed(String),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

/// Runs a command to its exit code: 0 done, 1 failed, 2 wrong usage or settings.
pub async fn run(cli: Cli) -> ExitCode {
    match cli.execute().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(error)) => complain(&error, 2),
        Err(Failure::Failed(error)) => complain(&error, 1),
    }
}

fn complain(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    drop(writeln!(io::stderr(), "coordinator: {error}"));
    ExitCode::from(code)
}

/// A line on standard output; nobody is left to tell where that is closed.
fn say(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    say(&serde_json::to_string_pretty(value).map_err(failed)?);
    Ok(())
}

/// The text of a file of at most `most` bytes; `-` is standard input.
fn read(file: &Path, most: u64) -> Result<String, Failure> {
    use std::io::Read as _;
    let named = |error: io::Error| failed(format!("{}: {error}", file.display()));
    let mut text = String::new();
    let source: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(named)?)
    };
    source.take(most).read_to_string(&mut text).map_err(named)?;
    Ok(text)
}

impl Cli {
    async fn execute(self) -> Result<(), Failure> {
        let json = self.settings.json;
        let settings = self.settings;
        match self.command {
            // Checked offline: no settings are asked for.
            Command::Receipt(command) => command.run(json),
            Command::Openapi => say_json(&router::document()),
            Command::Serve => service::serve(settings.load()?).await.map_err(failed),
            Command::Migrate => {
                database(&settings.load()?).await?.close().await;
                say("the schema is current");
                Ok(())
            }
            Command::Config(ConfigCommand::Check) => {
                settings.load()?;
                say("the settings are in order");
                Ok(())
            }
            Command::Config(ConfigCommand::Show) => say_json(&settings.load()?),
            Command::Keys(command) => {
                let db = database(&settings.load()?).await?;
                command.run(&db, json).await?;
                db.close().await;
                Ok(())
            }
            Command::Controls(command) => {
                let db = database(&settings.load()?).await?;
                command.run(&db).await?;
                db.close().await;
                Ok(())
            }
            Command::Payouts(command) => {
                let config = settings.load()?;
                let db = database(&config).await?;
                command.run(&db, &config, json).await?;
                db.close().await;
                Ok(())
            }
            Command::Ledger(LedgerCommand::Audit) => audit(&settings.load()?, json).await,
        }
    }
}

impl Settings {
    /// The settings in force; what is logged from here on follows them.
    fn load(self) -> Result<Config, ConfigError> {
        let overrides = Overrides {
            database_url: self.database_url,
            data_dir: self.data_dir,
            host: self.host,
            port: self.port,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            log_level: self.log_level,
            log_format: self.log_format,
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
        };
        let config = config::load(self.config.as_deref(), overrides)?;
        telemetry::log_to_stderr(&config.logging);
        Ok(config)
    }
}

/// The database, with a current schema.
async fn database(config: &Config) -> Result<Db, Failure> {
    if config.database.url.is_none() {
        service::make_private(&config.data_dir).map_err(failed)?;
    }
    let db = Db::open(&config.database_url(), config.max_connections()).map_err(failed)?;
    db.migrate().await.map_err(failed)?;
    Ok(db)
}

async fn audit(config: &Config, json: bool) -> Result<(), Failure> {
    let db = database(config).await?;
    let mut tx = db.read().await.map_err(failed)?;
    let audit = ledger::store::audit(&mut tx).await.map_err(failed)?;
    drop(tx);
    db.close().await;
    if json {
        say_json(&audit)?;
    } else {
        say(&format!(
            "{} transfers, {} entries, {} receipts, {} AITBC credited",
            audit.transfers, audit.entries, audit.receipts, audit.credited
        ));
    }
    if audit.faults.is_empty() {
        if !json {
            say("clean");
        }
        return Ok(());
    }
    let broken =
        audit.faults.iter().map(|fault| format!("{} rows break: {}", fault.rows, fault.rule));
    Err(failed(broken.collect::<Vec<_>>().join("\n")))
}
