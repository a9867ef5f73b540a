//! The mock as nodes and people meet it: over HTTP, from the library and as a binary.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod binary;
mod library;
mod seed;

use std::time::Duration;

/// A client that goes through no proxy of the environment.
fn http() -> reqwest::Client {
    // It fails only where a provider is installed already, and then there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Fails rather than waits for ever.
async fn within<T>(future: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, future).await.expect("it does not take for ever")
}
