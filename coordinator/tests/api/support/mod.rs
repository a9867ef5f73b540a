//! What tests say: `app.client().submit(..)`, `miner.next()`, `app.advance(..)`.

mod app;
mod client;
pub mod document;
mod http;
mod miner;

pub use app::{Engine, PostgresDatabase, Replica, TestApp};
pub use client::Client;
pub use http::{Reply, Request};
pub use miner::{TestMiner, proven};

/// Runs each test on SQLite and on PostgreSQL, in a module of the test's name.
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($app:ident: TestApp) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            pub async fn on($app: TestApp) $body

            #[tokio::test]
            async fn sqlite() {
                on(TestApp::sqlite().await).await;
            }

            #[tokio::test]
            async fn postgres() {
                on(TestApp::postgres().await).await;
            }
        }
    )+};
}

pub(crate) use on_both_engines;
