//! `aitbc receipt`: anybody can check one, with the coordinator's key and without a network.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use clap::{Args, Subcommand};
use protocol::client::PublicKeys;
use protocol::{JobId, signing};
use serde_json::json;

use super::verdict::{self, Signers};
use crate::coordinator::calls;
use crate::ending::{Ending, Failure};
use crate::output::Output;
use crate::session::Session;

/// No receipt is larger.
const MAX_BYTES: u64 = 1 << 20;

/// Checks receipts.
#[derive(Debug, Subcommand)]
pub enum Receipt {
    /// Check form, price and signatures; exit code 1 and the reason if it is not good
    Verify(Verify),
}

/// Checks a receipt.
#[derive(Debug, Args)]
pub struct Verify {
    /// A file with the receipt, `-` for standard input, or the id of a job
    #[arg(value_name = "FILE|ID")]
    what: String,
    /// The coordinator's public key; unless stated, those of the profile (`coordinator_keys`), else
    /// those that the coordinator publishes. May be repeated
    // base64url: one key in 64 begins with a hyphen.
    #[arg(long, value_name = "KEY", value_parser = public_key, allow_hyphen_values = true)]
    key: Vec<String>,
    /// The miner's public key
    #[arg(long, value_name = "KEY", value_parser = public_key, allow_hyphen_values = true)]
    miner_key: Option<String>,
}

/// A slip must not read as "signed by somebody else".
fn public_key(text: &str) -> Result<String, String> {
    signing::parse_key(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

impl Receipt {
    /// Whether nothing is needed but the command line and a file.
    pub fn is_offline(&self) -> bool {
        let Self::Verify(verify) = self;
        !verify.key.is_empty() && verify.job().is_none()
    }

    /// Does it without a coordinator.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn run_offline(self, output: Output) -> Result<Ending, Failure> {
        let Self::Verify(verify) = self;
        let text = read(Path::new(&verify.what))?;
        let Verify { key: coordinator, miner_key: miner, .. } = verify;
        tell(&output, &text, &Signers { coordinator, miner, job: None })
    }

    /// Does it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn run(self, session: &Session) -> Result<Ending, Failure> {
        let Self::Verify(verify) = self;
        let job = verify.job();
        let text = match job {
            Some(id) => session.coordinator.ask(&calls::receipt(id)).await?.text()?.to_owned(),
            None => read(Path::new(&verify.what))?,
        };
        let stated = verify.key;
        let coordinator = if stated.is_empty() { trusted_keys(session).await? } else { stated };
        let job = job.map(|id| id.to_string());
        tell(&session.output, &text, &Signers { coordinator, miner: verify.miner_key, job })
    }
}

impl Verify {
    /// The job whose receipt is meant. A file of that name comes first.
    fn job(&self) -> Option<JobId> {
        self.what.parse().ok().filter(|_| !Path::new(&self.what).exists())
    }
}

/// The coordinator's public keys: those that are pinned, else those that it publishes.
///
/// # Errors
/// Where it cannot be asked.
pub async fn trusted_keys(session: &Session) -> Result<Vec<String>, Failure> {
    let pinned = &session.settings.coordinator_keys;
    if !pinned.is_empty() {
        return Ok(pinned.clone());
    }
    let keys: PublicKeys = session.coordinator.ask_for(&calls::public_keys()).await?;
    session.tell(&format!(
        "checked with the key that {} publishes; --key or coordinator_keys pins it",
        session.settings.url
    ));
    Ok(keys.keys.into_iter().map(|key| key.key_id).collect())
}

fn tell(output: &Output, text: &str, signers: &Signers) -> Result<Ending, Failure> {
    match verdict::judge(text, signers) {
        Ok(receipt) if output.json => {
            let (id, hash) = (&receipt.receipt_id, receipt.hash());
            output.line(&json!({"valid": true, "receipt_id": id, "sha256": hash}).to_string())?;
            Ok(Ending::Done)
        }
        Ok(receipt) => {
            output.fields(&verdict::summary(&receipt))?;
            Ok(Ending::Done)
        }
        Err(fault) => {
            if output.json {
                let fault = json!({"valid": false, "why": fault.to_string()});
                output.line(&fault.to_string())?;
            }
            Err(Failure::NotGood(format!("the receipt is NOT valid: {fault}")))
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let mut take = |source: &mut dyn Read| source.take(MAX_BYTES + 1).read_to_string(&mut text);
    let read = if path == Path::new("-") {
        take(&mut std::io::stdin())
    } else {
        File::open(path).and_then(|mut file| take(&mut file))
    };
    read.map_err(|error| Failure::unreadable(path, &error))?;
    if text.len() as u64 > MAX_BYTES {
        let why = format!("{}: larger than {MAX_BYTES} bytes", path.display());
        return Err(Failure::NotGood(why));
    }
    Ok(text)
}
