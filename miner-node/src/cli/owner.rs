//! The way of `ctl` and `why` to the node that runs: by the socket in its state directory.

use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::runtime::Builder;

use crate::config::Config;
use crate::listener::socket_path;

/// How long the node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the node gives no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    /// There is none.
    #[error("no node runs here: {} {why}; start one with miner-node run, or name its --config or --work-dir", socket.display())]
    NoNode {
        /// Where one would be.
        socket: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// It said something else.
    #[error("the node's answer cannot be read: {0}")]
    Nonsense(reqwest::Error),
    /// There is no way to ask.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Asks, or has something changed, and reads the answer.
pub(super) fn ask<T: DeserializeOwned>(
    config: &Config,
    path: &str,
    changes: Option<&Map<String, Value>>,
) -> Result<T, NoAnswer> {
    let socket = socket_path(config);
    if let Err(error) = std::os::unix::net::UnixStream::connect(&socket) {
        return Err(NoAnswer::NoNode { socket, why: reason(&error) });
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(PATIENCE).unix_socket(socket.as_path());
        let client = client.build().map_err(NoAnswer::Nonsense)?;
        let url = format!("http://localhost{path}");
        let request = match changes {
            Some(changes) => client.put(url).json(changes),
            None => client.get(url),
        };
        let gone = |error: reqwest::Error| NoAnswer::NoNode {
            socket: socket.clone(),
            why: error.to_string(),
        };
        let reply = request.send().await.map_err(gone)?;
        if !reply.status().is_success() {
            let status = reply.status();
            let body: Value = reply.json().await.unwrap_or_default();
            let said = body["error"]["message"].as_str().map(str::to_owned);
            return Err(NoAnswer::Refused(
                said.unwrap_or_else(|| format!("the node answers {status}")),
            ));
        }
        reply.json().await.map_err(NoAnswer::Nonsense)
    })
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "is not there".to_owned(),
        std::io::ErrorKind::ConnectionRefused => "is of a node that has ended".to_owned(),
        std::io::ErrorKind::PermissionDenied => {
            "belongs to another user; ask as that one".to_owned()
        }
        _ => format!("cannot be opened: {error}"),
    }
}
