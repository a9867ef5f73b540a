//! The command line: what can be asked of the program, and which exit code answers. The work is
//! done elsewhere; small commands have a file here.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{
    self, ConfigError, Environment, Loaded, LogFormat, LogLevel, Places, sources::Flag,
};

use crate::runners::{builtin, wasm};
use crate::sandbox::door;

mod allowlist_command;
mod config_command;
mod ctl;
mod keygen;
mod mine;
mod owner;
mod pow;
mod probe;
mod receipt;
mod run;
mod top;
mod why;

/// The work could not be done.
pub const FAILED: u8 = 1;

/// The command line or the configuration is wrong; clap uses the same code.
pub const USAGE: u8 = 2;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or all is well
  1  it did not work, or a check failed
  2  the command line or the configuration is wrong
  3  of doctor: the node works, but something should be looked at

Configuration, later ones win: built-in defaults, /etc/aitbc/miner.yaml, /etc/aitbc/miner.conf,
environment (COORD_URL, API_KEY, .., AITBC_HEARTBEAT__INTERVAL_S, ..), flags. The API key has no
flag, because other users can see flags: use API_KEY, API_KEY_FILE or a systemd credential.";

/// Earns with this machine: takes jobs from a coordinator, runs them sandboxed, proves them.
#[derive(Debug, Parser)]
#[command(name = "miner-node", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Default, Args)]
struct Flags {
    /// Read this instead of the files in /etc/aitbc (.yaml or .yml: YAML, else miner.conf);
    /// may be repeated
    #[arg(long, value_name = "FILE", global = true)]
    config: Vec<PathBuf>,
    /// The coordinator's address
    #[arg(
        long,
        value_name = "URL",
        alias = "central-server",
        visible_alias = "central-server",
        global = true
    )]
    coord_url: Option<String>,
    /// The node's stable label
    #[arg(long, value_name = "ID", visible_alias = "miner-id", global = true)]
    node_id: Option<String>,
    /// The wallet that is credited
    #[arg(long, value_name = "WALLET", global = true)]
    wallet: Option<String>,
    /// Where jobs and the node's state live
    #[arg(long, value_name = "DIR", global = true)]
    work_dir: Option<String>,
    /// Use of GPUs: auto, gpu, cpu
    #[arg(long, value_name = "MODE", global = true)]
    accel_mode: Option<String>,
    /// Tell about the node at this address of this machine, too: 127.0.0.1:9480, unix:/path
    #[arg(long, value_name = "ADDRESS", visible_alias = "health-addr", global = true)]
    listen: Option<String>,
    /// The least important log lines that are written
    #[arg(long, value_name = "LEVEL", global = true)]
    log_level: Option<LogLevel>,
    /// The form of log lines
    #[arg(long, value_name = "FORM", global = true)]
    log_format: Option<LogFormat>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Work until stopped
    Run(run::Run),
    /// Show what this machine has and what it would offer
    Probe {
        /// As JSON (also where standard output is no terminal)
        #[arg(long)]
        json: bool,
    },
    /// Look for what is wrong, and say how to mend it
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Watch a running node: slots, jobs, mining, earnings
    Top(top::Top),
    /// Say why a running node mines, or does not, and takes jobs, or does not
    Why(why::Why),
    /// Show or change a running node's rules: pause, resume, set cpu_pct=50
    Ctl(ctl::Ctl),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(config_command::Config),
    /// Look into what jobs may start
    #[command(subcommand)]
    Allowlist(allowlist_command::AllowlistCommand),
    /// Make a signing key
    Keygen(keygen::Keygen),
    /// Work with receipts
    #[command(subcommand)]
    Receipt(receipt::Receipt),
    /// Mine for a pool until stopped, without a coordinator
    Mine(mine::Mine),
    /// Compute proof-of-work hashes
    #[command(subcommand)]
    Pow(pow::Pow),
    /// Open the way out of a job; started by the node itself, inside the sandbox
    #[command(name = door::SUBCOMMAND, hide = true)]
    Door {
        /// The job's program
        program: PathBuf,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Do built-in work; started by the node itself, inside the sandbox
    #[command(name = builtin::SUBCOMMAND, hide = true)]
    Builtin {
        /// What to do
        workload: String,
    },
    /// Run a WebAssembly module; started by the node itself, inside the sandbox
    #[command(name = wasm::SUBCOMMAND, hide = true)]
    Wasm {
        /// The most that it may burn
        #[arg(long)]
        fuel: u64,
        /// The most memory that it may have, in bytes
        #[arg(long)]
        memory_bytes: u64,
    },
}

impl Flags {
    fn places(&self) -> Places {
        let given: [(&'static str, &'static str, Option<String>); 8] = [
            ("coordinator.base_url", "--coord-url", self.coord_url.clone()),
            ("node_id", "--node-id", self.node_id.clone()),
            ("wallet", "--wallet", self.wallet.clone()),
            ("workspace.root", "--work-dir", self.work_dir.clone()),
            ("accel_mode", "--accel-mode", self.accel_mode.clone()),
            ("listen.address", "--listen", self.listen.clone()),
            ("logging.level", "--log-level", self.log_level.map(word)),
            ("logging.format", "--log-format", self.log_format.map(word)),
        ];
        let set = |(path, flag, value): (&'static str, &'static str, Option<String>)| {
            Some::<Flag>((path, flag, value?))
        };
        Places {
            files: (!self.config.is_empty()).then(|| self.config.clone()),
            flags: given.into_iter().filter_map(set).collect(),
        }
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        config::load(&self.places(), &Environment::of_process())
    }

    /// Loads the configuration for a command that answers on standard output: what is odd about it
    /// goes to standard error.
    fn load_aloud(&self) -> Result<Loaded, ExitCode> {
        let loaded = self.load().map_err(|error| complain(&error, USAGE))?;
        for warning in &loaded.warnings {
            eprintln!("[WARN] {warning}");
        }
        Ok(loaded)
    }
}

/// The word by which a choice is known, on the command line as in files.
fn word(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Says what is wrong and gives the exit code for it.
fn complain(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("miner-node: {error}");
    ExitCode::from(code)
}

/// Writes a command's answer to standard output. A reader that has seen enough (`| head`) is no
/// fault.
pub(crate) fn answer(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => complain(&error, FAILED),
        _ => ExitCode::SUCCESS,
    }
}

/// Does what the command line of this process asks for.
pub fn main() -> ExitCode {
    let Cli { flags, command } = Cli::parse();
    // Refused only where a provider is installed already, which is then the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match command {
        Command::Run(run) => run.main(&flags),
        Command::Probe { json } => probe::main(&flags, json),
        Command::Doctor { json } => crate::doctor::main(flags.load(), json),
        Command::Top(top) => top.main(&flags),
        Command::Why(why) => why.main(&flags),
        Command::Ctl(ctl) => ctl.main(&flags),
        Command::Config(command) => command.main(&flags),
        Command::Allowlist(command) => command.main(&flags),
        Command::Keygen(keygen) => keygen.main(&flags),
        Command::Receipt(receipt) => receipt.main(),
        Command::Mine(mine) => mine.main(&flags),
        Command::Pow(command) => command.main(),
        Command::Door { program, arguments } => complain(&door::open(&program, &arguments), FAILED),
        Command::Builtin { workload } => match builtin::perform(&workload) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error, FAILED),
        },
        Command::Wasm { fuel, memory_bytes } => wasm::perform(fuel, memory_bytes),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_and_their_aliases_set_keys() {
        let cli = Cli::try_parse_from([
            "miner-node",
            "--log-level",
            "debug",
            "config",
            "show",
            "--miner-id",
            "x",
            "--central-server",
            "localhost:50051",
            "--wallet",
            "w",
            "--log-format",
            "json",
        ])
        .unwrap();
        let environment = Environment { is_root: true, ..Environment::default() };
        let places = Places { files: Some(Vec::new()), ..cli.flags.places() };
        let config = config::load(&places, &environment).unwrap().config;
        assert_eq!(config.node_id.unwrap().as_str(), "x");
        assert_eq!(config.wallet.unwrap().as_str(), "w");
        assert_eq!(config.coordinator.base_url.to_string(), "http://localhost:50051");
        assert_eq!(
            (config.logging.level, config.logging.format),
            (LogLevel::Debug, LogFormat::Json)
        );
    }

    #[test]
    fn what_follows_the_door_is_the_jobs() {
        for own in [["--help", "x"], ["--config", "x"], ["--", "x"], ["-V", "--"]] {
            let line = ["miner-node", door::SUBCOMMAND, "--", "/usr/bin/env"].into_iter();
            let cli = Cli::try_parse_from(line.chain(own)).unwrap();
            let Command::Door { program, arguments } = cli.command else { panic!("{own:?}") };
            assert_eq!(program, PathBuf::from("/usr/bin/env"));
            assert_eq!(arguments, own);
            assert!(cli.flags.config.is_empty());
        }
    }

    #[test]
    fn a_level_that_is_none_is_a_usage_error() {
        let error =
            Cli::try_parse_from(["miner-node", "--log-level", "loud", "doctor"]).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(USAGE));
    }
}
