//! `coordinator keys`: made, listed and revoked beside a service that runs.

use std::io::{self, Write as _};

use clap::{Args, Subcommand};
use protocol::Name;
use protocol::wallet::{Funding, KeyView, MAX_WEIGHT, NewKey, Scope};

use super::{Failure, failed, say, say_json};
use crate::accounts::{Minted, keys, store};
use crate::app::{self, Clock};
use crate::audit::LOCAL;
use crate::db::Db;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key and print it: the only time that it is shown
    Create(NewKeyArgs),
    /// List the keys
    List,
    /// Revoke a key
    Revoke {
        /// The key's id: its part before the point
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct NewKeyArgs {
    /// client, miner or admin
    #[arg(long)]
    scope: Scope,
    /// The client that a client key acts for; made if there is none of that name
    #[arg(long)]
    client: Option<Name>,
    /// The wallet that a miner key credits
    #[arg(long)]
    wallet: Option<Name>,
    /// The only miner that a miner key acts for
    #[arg(long)]
    miner_id: Option<Name>,
    /// How the client pays: issuance or prepaid
    #[arg(long, requires = "client")]
    funding: Option<Funding>,
    /// The client's share of the queue, 1 to 1000
    #[arg(long, requires = "client", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_WEIGHT)))]
    weight: Option<u16>,
}

impl Command {
    pub(super) async fn run(self, db: &Db, json: bool) -> Result<(), Failure> {
        match self {
            Self::Create(new) => create(db, new, json).await,
            Self::List => list(db, json).await,
            Self::Revoke { id } => revoke(db, &id).await,
        }
    }
}

async fn create(db: &Db, args: NewKeyArgs, json: bool) -> Result<(), Failure> {
    let NewKeyArgs { scope, client, wallet, miner_id, funding, weight } = args;
    let new = NewKey { scope, client, wallet, miner_id, funding, weight };
    let minted = Minted::from_random(scope, app::random_bytes(), app::random_bytes());
    let created = keys::issue(db, Clock::System.now(), LOCAL, &new, minted).await;
    let created = created.map_err(|error| {
        let field = error.details.get("field").and_then(|field| field.as_str());
        match field {
            Some(field) => failed(format!("--{}: {}", field.replace('_', "-"), error.message)),
            None => failed(error.message),
        }
    })?;
    if json {
        return say_json(&created);
    }
    say(&created.key);
    drop(writeln!(io::stderr(), "this {scope} key is shown only now; its id is {}", created.id));
    Ok(())
}

async fn list(db: &Db, json: bool) -> Result<(), Failure> {
    let mut tx = db.read().await.map_err(failed)?;
    let keys = store::list_keys(&mut tx, "", i64::MAX).await.map_err(failed)?;
    if json {
        return say_json(&keys);
    }
    for key in &keys {
        say(&key_line(key));
    }
    Ok(())
}

fn key_line(key: &KeyView) -> String {
    let mut line = format!("{}  {}", key.id, key.created_at.whole_secs());
    for (label, name) in
        [("client", &key.client), ("wallet", &key.wallet), ("miner", &key.miner_id)]
    {
        if let Some(name) = name {
            line.push_str(&format!("  {label} {name}"));
        }
    }
    if let Some(revoked) = key.revoked_at {
        line.push_str(&format!("  revoked {}", revoked.whole_secs()));
    }
    line
}

async fn revoke(db: &Db, id: &str) -> Result<(), Failure> {
    if !keys::revoke(db, Clock::System.now(), LOCAL, id).await.map_err(failed)? {
        return Err(failed(format!("no key has the id {id:?}")));
    }
    say("revoked");
    Ok(())
}
