//! Where the node tells about itself and takes its owner's wishes: always by a socket in its state
//! directory, which nobody else may open, and at an address of this machine if the owner wants one.
//!
//! What is told and changed lives elsewhere; here is who may ask, and how.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

mod connections;
mod guard;
mod machine;
mod metrics;
mod routes;
mod socket;
mod view;

pub use guard::Access;
pub use machine::Machine;
pub use routes::router;
pub use view::{Coordination, HeldJob, View, Work};

use crate::config::{Config, ListenAddress, Secret};
use crate::node::Node;

/// The owner's way in, in the state directory.
const SOCKET: &str = "control.sock";

/// Where the owner's way in is.
pub fn socket_path(config: &Config) -> PathBuf {
    config.state_dir().join(SOCKET)
}

/// Serves until `end`. What cannot be served is told; the node works without it.
pub async fn run(node: Arc<Node>, end: CancellationToken) {
    tokio::join!(for_owner(&node, &end), at_address(&node, &end));
}

async fn for_owner(node: &Arc<Node>, end: &CancellationToken) {
    let path = socket_path(&node.config);
    if let Err(error) = serve_unix(&path, router(Arc::clone(node), Access::Owner), end).await {
        let path = path.display();
        warn!(event = "no_control", "{path}: {error}; miner-node ctl and why will not work");
        end.cancelled().await;
    }
}

async fn at_address(node: &Arc<Node>, end: &CancellationToken) {
    let listen = &node.config.listen;
    let Some(address) = &listen.address else { return end.cancelled().await };
    let token = listen.token_file.as_deref().and_then(|path| match Secret::read(path) {
        Ok(token) => Some(token),
        Err(error) => {
            let path = path.display();
            warn!(event = "no_token", "{path}: {error}; nothing can be changed at {address}");
            None
        }
    });
    let served = match address {
        ListenAddress::Tcp(address) => {
            serve_tcp(address, router(Arc::clone(node), Access::Port(token)), end).await
        }
        ListenAddress::Unix(path) => {
            serve_unix(path, router(Arc::clone(node), Access::Socket(token)), end).await
        }
    };
    if let Err(error) = served {
        warn!(event = "not_listening", "{address}: {error}");
        end.cancelled().await;
    }
}

async fn serve_tcp(
    address: &std::net::SocketAddr,
    router: Router,
    end: &CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    info!(event = "listening", %address, "tells about itself at http://{address}");
    connections::serve(listener, router, end).await;
    Ok(())
}

async fn serve_unix(path: &Path, router: Router, end: &CancellationToken) -> io::Result<()> {
    let (listener, _place) = socket::bind(path).await?;
    connections::serve(listener, router, end).await;
    Ok(())
}
