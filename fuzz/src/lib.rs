//! Fuzz targets: every parser that takes bytes from outside, and what must hold of it.
//!
//! A target is a function of any bytes that panics where a promise is broken: a parser fails, takes
//! what it cannot write again, or lets through what its limits forbid. `fuzz_targets/` has a
//! program of libFuzzer for each, `corpus/` its samples, `tests/replay` a short run of all of them.
//!
//! | from | targets |
//! | --- | --- |
//! | clients and miners | `requests` (paths, queries, headers, keys: the real router), `upload` (multipart), `bodies`, `jobs`, `scalars`, `amounts` |
//! | whoever signs | `canonical`, `receipt` |
//! | the coordinator, seen by a node | `replies`, `leased_job`, `input_url` |
//! | the coordinator, seen by `aitbc` | `event_stream` |
//! | the owner's inference servers | `model_servers` |
//! | owners and operators | `settings`, `miner_conf`, `miner_yaml`, `environment`, `allowlist`, `base_url`, `pool_address`, `mock_script`, `profiles` |
//! | clients, seen by runners | `runner_params` |
//! | a sandboxed job | `egress_request`, `run_log` |
//! | mining pools and daemons | `monero_pool`, `bitcoin_pool`, `daemon_answers` |
//! | the machine | `devices`, `state_files` |
//! | a pool, by way of headers | `cryptonight` (no parser: the kernels of a hash against each other) |
//!
//! HTTP, TLS, SQL and YAML themselves are parsed by libraries with targets of their own.
//!
//! A new route, header or filter is a sample in `corpus/requests`, a new body a line in `bodies`. A
//! new parser is a function here, a program and a corpus: the tests say which of them is missing.

mod allowlist;
mod bodies;
mod command_line;
mod egress;
mod files;
mod hashes;
mod jobs;
mod market;
mod mutation;
mod node;
mod pools;
mod receipts;
mod replies;
mod requests;
mod runners;
mod scalars;
mod servers;
mod settings;

pub use allowlist::allowlist;
pub use bodies::bodies;
pub use command_line::{event_stream, profiles};
pub use egress::egress_request;
pub use hashes::cryptonight;
pub use jobs::jobs;
pub use mutation::Mutations;
pub use node::{base_url, devices, input_url, leased_job, state_files};
pub use pools::{bitcoin_pool, daemon_answers, monero_pool, pool_address};
pub use receipts::{canonical, receipt};
pub use replies::replies;
pub use requests::{requests, upload};
pub use runners::{run_log, runner_params};
pub use scalars::{amounts, scalars};
pub use servers::model_servers;
pub use settings::{environment, miner_conf, miner_yaml, mock_script, settings};

/// What is done with bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its program and of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("allowlist", allowlist),
    ("amounts", amounts),
    ("base_url", base_url),
    ("bitcoin_pool", bitcoin_pool),
    ("bodies", bodies),
    ("canonical", canonical),
    ("cryptonight", cryptonight),
    ("daemon_answers", daemon_answers),
    ("devices", devices),
    ("egress_request", egress_request),
    ("environment", environment),
    ("event_stream", event_stream),
    ("input_url", input_url),
    ("jobs", jobs),
    ("leased_job", leased_job),
    ("miner_conf", miner_conf),
    ("miner_yaml", miner_yaml),
    ("mock_script", mock_script),
    ("model_servers", model_servers),
    ("monero_pool", monero_pool),
    ("pool_address", pool_address),
    ("profiles", profiles),
    ("receipt", receipt),
    ("replies", replies),
    ("requests", requests),
    ("run_log", run_log),
    ("runner_params", runner_params),
    ("scalars", scalars),
    ("settings", settings),
    ("state_files", state_files),
    ("upload", upload),
];
