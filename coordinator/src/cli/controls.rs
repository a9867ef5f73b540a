//! `coordinator controls`: the same decisions as over HTTP, beside a service that runs. It takes them
//! over within a second.

use std::path::PathBuf;

use clap::Subcommand;
use protocol::control::Controls;

use super::{Failure, failed, read, say_json};
use crate::app::Clock;
use crate::audit::LOCAL;
use crate::controls::{self, Switchboard};
use crate::db::Db;
use crate::wire;

/// The largest file that is read.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print what is in force (JSON)
    Get,
    /// Put the decisions of a file in force, all of them; what it does not name is as by default
    Set {
        /// As `get` prints them; `-` reads standard input
        file: PathBuf,
    },
}

impl Command {
    pub(super) async fn run(self, db: &Db) -> Result<(), Failure> {
        match self {
            Self::Get => {
                let switchboard = Switchboard::start(db).await.map_err(failed)?;
                say_json(&switchboard.in_force().to_wire())
            }
            Self::Set { file } => {
                let text = read(&file, MAX_BYTES)?;
                let refused = |error: crate::error::ApiError| {
                    let field = error.details.get("field").and_then(|field| field.as_str());
                    failed(format!(
                        "{}: {}: {}",
                        file.display(),
                        field.unwrap_or("-"),
                        error.message
                    ))
                };
                let wanted: Controls = wire::parse(text.as_bytes()).map_err(refused)?;
                let now = Clock::System.now();
                let in_force = controls::put(db, now, LOCAL, wanted).await.map_err(refused)?;
                say_json(&in_force.to_wire())
            }
        }
    }
}
