//! Looks for what is wrong with this node, and says how to mend it.
//!
//! Here: what a finding is, the order of the checks, and how they are shown. The checks themselves
//! are in [`connection`] (the coordinator), [`trials`] (sandbox and runners), [`mining`],
//! [`accelerator`], [`storage`] and [`machine`]; [`namespaces`] knows why there is no sandbox.

use std::process::ExitCode;

use serde::Serialize;

use crate::cli::{FAILED, USAGE, answer};
use crate::config::{ConfigError, Loaded};

mod accelerator;
mod connection;
mod machine;
mod mining;
mod namespaces;
mod storage;
mod trials;

/// How good or bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Works, but an owner should look at it.
    Warn,
    /// Does not work.
    Fail,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How good or bad it is.
    pub status: Status,
    /// What was checked.
    pub check: &'static str,
    /// What was found.
    pub detail: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { status: Status::Ok, check, detail: detail.into(), fix: None }
    }

    fn warn(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Warn, check, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn fail(check: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status: Status::Fail, check, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// The node works, but an owner should look at something.
pub const WARNED: u8 = 3;

/// Checks everything, prints it, and says by the exit code how bad it is: 0 well, 3 an owner should
/// look at something, 1 something does not work, 2 the node would not even start.
pub fn main(loaded: Result<Loaded, ConfigError>, json: bool) -> ExitCode {
    let starts = loaded.is_ok();
    let findings = match loaded {
        Ok(loaded) => examine(&loaded),
        Err(error) => vec![machine::no_config(&error)],
    };
    let written = if json {
        // A list of plain structs always becomes a value.
        answer(&format!("{:#}\n", serde_json::to_value(&findings).unwrap_or_default()))
    } else {
        answer(&text(&findings))
    };
    match findings.iter().map(|finding| finding.status).max() {
        Some(Status::Fail) if !starts => ExitCode::from(USAGE),
        Some(Status::Fail) => ExitCode::from(FAILED),
        Some(Status::Warn) if written == ExitCode::SUCCESS => ExitCode::from(WARNED),
        _ => written,
    }
}

fn examine(loaded: &Loaded) -> Vec<Finding> {
    let mut findings = machine::config(loaded);
    findings.push(machine::user());
    findings.extend(storage::check(&loaded.config));
    findings.push(machine::signing_key(&loaded.config));
    findings.push(accelerator::check(&loaded.config));
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            findings.push(Finding::fail("runtime", error.to_string(), "raise the process limits"));
            return findings;
        }
    };
    findings.extend(runtime.block_on(trials::check(&loaded.config)));
    findings.extend(runtime.block_on(mining::check(&loaded.config.mining)));
    findings.extend(runtime.block_on(connection::check(&loaded.config)));
    findings
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let status = match finding.status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "fail",
        };
        text.push_str(&format!("{status}  {:<12} {}\n", finding.check, finding.detail));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("      {:<12} fix: {fix}\n", ""));
        }
    }
    text
}

#[cfg(test)]
mod tests;
