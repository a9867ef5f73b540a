//! The program `aitbc`. Everything it does is in the library.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    aitbc::cli::main().await
}
