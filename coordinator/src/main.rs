//! The coordinator's binary: see `cli`.

use std::process::ExitCode;

use clap::Parser as _;
use coordinator::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    // It fails only where a provider is installed already, and then there is one.
    drop(rustls::crypto::ring::default_provider().install_default());
    cli::run(Cli::parse()).await
}
