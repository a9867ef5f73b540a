//! `allowlist check`: whether a job may start a program so, and if not, which rule says no.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{FAILED, Flags, USAGE, answer, complain};
use crate::runners::Allowlist;

/// What can be asked of it.
#[derive(Debug, Subcommand)]
pub(super) enum AllowlistCommand {
    /// Say whether a job may start a program with these arguments: exit code 0, or 1 and the rule
    /// that says no; 2 where the allowlist itself is bad and allows nothing
    Check(Check),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The program, by the name under which jobs ask for it
    command: String,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl AllowlistCommand {
    pub(super) fn main(self, flags: &Flags) -> ExitCode {
        let Self::Check(Check { command, args }) = self;
        let loaded = match flags.load_aloud() {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        let cli = &loaded.config.runners.cli;
        if !cli.enable {
            return complain(&"E_DENY: runners.cli.enable is off, so no program may run", FAILED);
        }
        let list = match Allowlist::load(&cli.allowlist_dir) {
            Ok(list) => list,
            Err(error) => return complain(&error, USAGE),
        };
        match list.judge(&command, &args) {
            Ok(program) => {
                let path = program.path.display();
                let remark = if program.path.exists() { "" } else { ", which is not installed" };
                answer(&format!("allowed: {path}{remark}\n"))
            }
            Err(why) => complain(&format!("E_DENY: {why}"), FAILED),
        }
    }
}
