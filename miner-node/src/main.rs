//! The program `miner-node`. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    miner_node::cli::main()
}
