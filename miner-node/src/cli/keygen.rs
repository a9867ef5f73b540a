//! `keygen`: a new signing key, written where only its owner can read it, never shown.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use protocol::signing;

use super::{FAILED, Flags, answer, complain};
use crate::identity;

/// Makes a signing key.
#[derive(Debug, Args)]
pub(super) struct Keygen {
    /// The file to write; without it, the node's own key file. An existing one is never replaced
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Keygen {
    pub(super) fn main(&self, flags: &Flags) -> ExitCode {
        let path = match &self.out {
            Some(path) => path.clone(),
            None => match flags.load_aloud() {
                Ok(loaded) => identity::key_path(&loaded.config),
                Err(code) => return code,
            },
        };
        match identity::generate_key(&path, &mut rand::rng()) {
            Ok(key) => {
                eprintln!("signing key written to {}; its public key:", path.display());
                answer(&format!("{}\n", signing::key_id(&key.verifying_key())))
            }
            Err(error) => complain(&error, FAILED),
        }
    }
}
