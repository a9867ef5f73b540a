//! `aitbc keys`: API keys, for an admin.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use protocol::Name;
use protocol::wallet::{CreatedKey, Funding, KeyView, MAX_WEIGHT, NewKey, Scope};

use super::or_dash;
use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::session::{Paging, Session};

/// Makes, lists and revokes API keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key; it is shown this once
    Create(Create),
    /// List keys; their secrets are not known to anybody
    List(Paging),
    /// Revoke a key
    Revoke {
        /// Its id: the part before the dot
        id: String,
    },
}

/// Makes a key.
#[derive(Debug, Args)]
pub struct Create {
    /// What it is for: client, miner or admin
    #[arg(long)]
    scope: Scope,
    /// The client, for scope client
    #[arg(long, value_name = "NAME")]
    client: Option<Name>,
    /// The wallet, for scope miner
    #[arg(long, value_name = "WALLET")]
    wallet: Option<Name>,
    /// The only miner that may use it, for scope miner
    #[arg(long, value_name = "ID")]
    miner_id: Option<Name>,
    /// How the client pays: issuance or prepaid; a new one by issuance unless stated
    #[arg(long, value_name = "HOW", requires = "client")]
    funding: Option<Funding>,
    /// The client's share of the queue, 1 to 1000; a new one's is 1 unless stated
    #[arg(
        long,
        value_name = "N",
        requires = "client",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_WEIGHT))
    )]
    weight: Option<u16>,
    /// Write the key to a new file that only you can read, and do not print it
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Keys {
    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        match self {
            Self::Create(create) => create.run(session).await,
            Self::List(paging) => {
                let heads = ["KEY", "SCOPE", "WHOSE", "MINER", "CREATED", "REVOKED"];
                let row = |key: KeyView| {
                    [
                        key.id,
                        key.scope.to_string(),
                        or_dash(key.client.or(key.wallet)),
                        or_dash(key.miner_id),
                        key.created_at.to_string(),
                        or_dash(key.revoked_at),
                    ]
                };
                session.list(calls::keys(), &paging, heads, row).await
            }
            Self::Revoke { id } => {
                session.coordinator.ask(&calls::revoke_key(&id)).await?;
                Ok(Ending::Done)
            }
        }
    }
}

impl Create {
    async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Self { scope, client, wallet, miner_id, funding, weight, output } = self;
        // Before the call: a key that cannot be kept must not be made.
        let file = output.map(|path| private_file(&path).map(|file| (file, path))).transpose()?;
        let new = NewKey { scope, client, wallet, miner_id, funding, weight };
        let created = session.coordinator.ask(&calls::create_key(&new)).await;
        let Some((mut file, path)) = file else {
            let reply = created?;
            let line = if session.output.json {
                reply.text()?.to_owned()
            } else {
                reply.read::<CreatedKey>()?.key
            };
            session.output.line(&line)?;
            return Ok(Ending::Done);
        };
        let created: CreatedKey = match created.and_then(|reply| reply.read()) {
            Ok(created) => created,
            Err(error) => {
                // It is empty, and in the way of the next try.
                let _ = std::fs::remove_file(&path);
                return Err(error.into());
            }
        };
        writeln!(file, "{}", created.key).map_err(Failure::write(&path))?;
        session.output.fields(&[
            ("id", created.id),
            ("scope", created.scope.to_string()),
            ("file", path.display().to_string()),
        ])?;
        Ok(Ending::Done)
    }
}

/// A new file that only its owner can read.
fn private_file(path: &Path) -> Result<std::fs::File, Failure> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::usage(format!("{} is there", path.display())),
        _ => Failure::write(path)(error),
    })
}
