//! The command line: what can be typed. What it does is in `commands`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::commands::{
    config, controls, deposit, fleet, health, job, jobs, keys, miners, operator, payouts, receipt,
    submit, wallet,
};
use crate::coordinator::{BaseUrl, Patience};
use crate::ending::{self, Ending, Failure};
use crate::output::Output;
use crate::profile::Choice;
use crate::session::Session;

const ABOUT_KEYS: &str = "\
Which coordinator and key count: flags, then the environment (AITBC_URL, AITBC_KEY_FILE, AITBC_KEY,
AITBC_PROFILE, AITBC_CONFIG), then the profile in ~/.config/aitbc/config.yaml. The key has no flag,
because other users can see flags. A profile's key goes only to the profile's own url.";

/// Submit jobs to a compute market and get their results; for operators: run it
#[derive(Debug, Parser)]
#[command(
    name = "aitbc",
    version,
    after_help = after_help(),
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

fn after_help() -> String {
    format!("{}\n{ABOUT_KEYS}", ending::table())
}

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "For every command")]
struct Flags {
    /// Which profile of the profile file
    #[arg(long, value_name = "NAME", env = "AITBC_PROFILE", hide_env_values = true, global = true)]
    profile: Option<String>,
    /// The profile file
    #[arg(long, value_name = "FILE", env = "AITBC_CONFIG", hide_env_values = true, global = true)]
    config: Option<PathBuf>,
    /// The coordinator's address
    #[arg(long, value_name = "URL", env = "AITBC_URL", hide_env_values = true, global = true)]
    url: Option<BaseUrl>,
    /// A file that holds the API key
    #[arg(
        long,
        value_name = "FILE",
        env = "AITBC_KEY_FILE",
        hide_env_values = true,
        global = true
    )]
    key_file: Option<PathBuf>,
    /// Print the coordinator's JSON: one line, or with --all one line for each item
    #[arg(long, global = true)]
    json: bool,
    /// How often a call that may work later is repeated
    #[arg(long, value_name = "N", default_value_t = 4, global = true)]
    retries: u32,
    /// Do not tell about repeated calls and uploads
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Submit a job, or a file of jobs
    Submit(Box<submit::Submit>),
    /// List jobs, newest first
    Jobs(jobs::Jobs),
    /// Look at one job, follow it, get what it made, end it
    #[command(subcommand)]
    Job(job::Job),
    /// Show a wallet's balance and entries
    #[command(subcommand)]
    Wallet(wallet::Wallet),
    /// Check receipts
    #[command(subcommand)]
    Receipt(receipt::Receipt),
    /// List miners (admin)
    Miners(miners::Miners),
    /// Look at one miner
    #[command(subcommand)]
    Miner(miners::Miner),
    /// Make, list and revoke API keys (admin)
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Look at and change what is decided while the coordinator runs (admin)
    #[command(subcommand)]
    Controls(controls::Controls),
    /// Note that a prepaid client paid in (admin)
    Deposit(deposit::Deposit),
    /// Say what miners are owed, and that it was paid (admin)
    #[command(subcommand)]
    Payouts(payouts::Payouts),
    /// List what was decided, and by whom (admin)
    Audit(operator::Audit),
    /// Show what waits, by what it needs (admin)
    Queues,
    /// Show what went through lately (admin)
    Rates,
    /// Show what the miners offer together (admin)
    Capacities,
    /// Show the state of the whole coordinator (admin)
    Stats,
    /// Simulate miners and jobs, to see what a coordinator bears (admin)
    Fleet(fleet::Fleet),
    /// Ask whether the coordinator is well
    Health,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Show or change the profile file
    #[command(subcommand)]
    Config(config::Config),
}

impl Flags {
    fn output(&self) -> Output {
        Output::standard(self.json)
    }

    fn choice(self) -> Choice {
        let Self { profile, config, url, key_file, .. } = self;
        Choice { file: config, profile, url, key_file }
    }

    fn session(self) -> Result<Session, Failure> {
        let patience = Patience { retries: self.retries, quiet: self.quiet };
        let output = self.output();
        Session::open(self.choice(), patience, output)
    }
}

/// Does what the command line of this process asks for.
pub async fn main() -> ExitCode {
    // Refused only where a provider is installed already, which is then the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let Cli { flags, command } = Cli::parse();
    let ending = match run(flags, command).await {
        Ok(ending) => ending,
        Err(failure) => {
            let ending = failure.ending();
            if ending != Ending::Done {
                eprintln!("aitbc: {failure}");
            }
            if let Some(advice) = failure.advice() {
                eprintln!("aitbc: {advice}");
            }
            ending
        }
    };
    ExitCode::from(ending.code())
}

async fn run(flags: Flags, command: Command) -> Result<Ending, Failure> {
    match command {
        Command::Submit(command) => command.run(&flags.session()?).await,
        Command::Jobs(command) => command.run(&flags.session()?).await,
        Command::Job(command) => command.run(&flags.session()?).await,
        Command::Wallet(command) => command.run(&flags.session()?).await,
        // Who states the key needs no coordinator, and no configuration.
        Command::Receipt(command) if command.is_offline() => command.run_offline(flags.output()),
        Command::Receipt(command) => command.run(&flags.session()?).await,
        Command::Miners(command) => command.run(&flags.session()?).await,
        Command::Miner(command) => command.run(&flags.session()?).await,
        Command::Keys(command) => command.run(&flags.session()?).await,
        Command::Controls(command) => command.run(&flags.session()?).await,
        Command::Deposit(command) => command.run(&flags.session()?).await,
        Command::Payouts(command) => command.run(&flags.session()?).await,
        Command::Audit(command) => command.run(&flags.session()?).await,
        Command::Queues => operator::queues(&flags.session()?).await,
        Command::Rates => operator::rates(&flags.session()?).await,
        Command::Capacities => operator::capacities(&flags.session()?).await,
        Command::Stats => operator::stats(&flags.session()?).await,
        Command::Fleet(command) => command.run(&flags.session()?).await,
        Command::Health => health::run(&flags.session()?).await,
        Command::Completions { shell } => completions(shell),
        Command::Config(command) => {
            let output = flags.output();
            command.run(flags.choice(), output)
        }
    }
}

fn completions(shell: Shell) -> Result<Ending, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "aitbc", &mut script);
    let text = String::from_utf8_lossy(&script);
    Output::standard(false).text(&text)?;
    Ok(Ending::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
