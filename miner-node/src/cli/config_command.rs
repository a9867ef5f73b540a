//! `config show` and `config check`.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Flags, answer};
use crate::config::show;

/// What can be asked of the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print every key with the value that counts; secrets as ***
    Show {
        /// Say where each value was set
        #[arg(long)]
        origin: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Say whether the configuration is right
    Check,
}

impl Config {
    pub(super) fn main(&self, flags: &Flags) -> ExitCode {
        let loaded = match flags.load_aloud() {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        answer(&match self {
            Self::Show { origin, json: true } => format!("{:#}\n", show::json(&loaded, *origin)),
            Self::Show { origin, json: false } => show::yaml(&loaded, *origin),
            Self::Check if loaded.files.is_empty() => {
                "ok: no configuration file; defaults, environment and flags\n".to_owned()
            }
            Self::Check => {
                let files: Vec<_> =
                    loaded.files.iter().map(|file| file.display().to_string()).collect();
                format!("ok: {}\n", files.join(", "))
            }
        })
    }
}
