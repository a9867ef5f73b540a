//! Whether the coordinator can be reached, takes the key, and has the same time as we.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use protocol::wallet::Balance;
use protocol::{ErrorBody, Timestamp};
use reqwest::{Client, Response, StatusCode};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::{Finding, Status};
use crate::config::{Config, Secret};
use crate::coordinator::connection;
use crate::identity;

/// Where receipts begin to look odd to others.
const CLOCK_WARN: Duration = Duration::from_secs(5);

/// Where signed requests are refused.
const CLOCK_FAIL: Duration = Duration::from_secs(300);

/// What to do who has no key.
const SET_A_KEY: &str =
    "set API_KEY (or API_KEY_FILE) to a key of scope miner from the coordinator's operator";

/// All checks that need the coordinator; the first that fails ends them.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(finding) = run(config, &mut findings).await {
        findings.push(finding);
    }
    findings
}

async fn run(config: &Config, findings: &mut Vec<Finding>) -> Result<(), Finding> {
    findings.push(reach(config).await?);
    let client = http_client(config)?;
    let asked = Instant::now();
    let reply = get(config, &client, "/v1/health").await?;
    let took = asked.elapsed();
    findings.push(health(config, &reply, took));
    findings.extend(clock(&reply, took));
    findings.push(key(config, &client).await?);
    if findings.last().is_some_and(|finding| finding.status != Status::Fail) {
        findings.extend(jobs(config, &client).await?);
    }
    Ok(())
}

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The name has no address.
    #[error("cannot resolve {host}: {why}")]
    NoAddress {
        /// The name.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// Nobody answers at its addresses.
    #[error("cannot connect to {host}: {why}")]
    NoAnswer {
        /// The name.
        host: String,
        /// What the last one said.
        why: String,
    },
}

/// The first address of `host` that accepts a connection, each within `limit`.
pub(super) async fn first_that_answers(
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<SocketAddr, Trouble> {
    let unresolved = |why: String| Trouble::NoAddress { host: host.to_owned(), why };
    let addresses: Vec<_> = match timeout(limit, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return Err(unresolved(error.to_string())),
        Err(_) => return Err(unresolved("no answer in time".to_owned())),
    };
    let mut why = "no address".to_owned();
    for address in addresses {
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(address),
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Err(_) => why = format!("{address}: no answer in time"),
        }
    }
    Err(Trouble::NoAnswer { host: host.to_owned(), why })
}

/// Name and port, before any protocol.
async fn reach(config: &Config) -> Result<Finding, Finding> {
    let url = &config.coordinator.base_url;
    let (host, port) = (url.host().trim_matches(['[', ']']), url.port());
    let limit = Duration::from_secs(config.coordinator.connect_timeout_s.into());
    match first_that_answers(host, port, limit).await {
        Ok(address) => Ok(Finding::ok("network", format!("{host} is {address}, port open"))),
        Err(trouble) => {
            let fix = match trouble {
                Trouble::NoAddress { .. } => "correct COORD_URL, or the machine's DNS",
                Trouble::NoAnswer { .. } => {
                    "start the coordinator, correct COORD_URL, or let egress to that port through the firewall"
                }
            };
            Err(Finding::fail("network", trouble.to_string(), fix))
        }
    }
}

fn http_client(config: &Config) -> Result<Client, Finding> {
    let client = connection::builder(&config.coordinator).and_then(|builder| Ok(builder.build()?));
    client.map_err(|error| Finding::fail("coordinator", chain(&error), "correct that file"))
}

async fn get(config: &Config, client: &Client, path: &str) -> Result<Response, Finding> {
    let mut request = client
        .get(config.coordinator.base_url.endpoint(path))
        .timeout(Duration::from_secs(config.coordinator.timeout_s.into()));
    if let Some(token) = &config.coordinator.auth_token {
        request = request.bearer_auth(token.expose());
    }
    request.send().await.map_err(|error| {
        let why = chain(&error);
        let fix = if why.contains("CertificateRequired") {
            "this coordinator serves certified nodes only: name your certificate in coordinator.client_cert_file"
        } else if why.contains("ertificate") {
            "if the coordinator has a certificate of its own authority, name that authority's PEM file in coordinator.ca_file"
        } else {
            "correct COORD_URL (scheme, port), or start the coordinator"
        };
        Finding::fail("coordinator", why, fix)
    })
}

/// An error with its causes, which hold the part that helps.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

fn health(config: &Config, reply: &Response, took: Duration) -> Finding {
    let url = &config.coordinator.base_url;
    if reply.status().is_success() {
        let tls = if url.is_https() { "TLS verified" } else { "unencrypted" };
        Finding::ok("coordinator", format!("{url} answers in {} ms, {tls}", took.as_millis()))
    } else {
        Finding::fail(
            "coordinator",
            format!("{url} answers {} to /v1/health", reply.status()),
            "correct COORD_URL: this is no coordinator, or it is not well",
        )
    }
}

/// Compares the reply's date, which has whole seconds, with the middle of the time it took.
fn clock(reply: &Response, took: Duration) -> Option<Finding> {
    let date = reply.headers().get("date")?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    let theirs = Timestamp::from_micros(theirs.as_microsecond()).plus(took / 2);
    Some(clock_finding(crate::clock::now(), theirs))
}

fn clock_finding(ours: Timestamp, theirs: Timestamp) -> Finding {
    let (ahead, off) = if ours > theirs {
        ("ahead of", ours.since(theirs))
    } else {
        ("behind", theirs.since(ours))
    };
    let detail = format!("{} s {ahead} the coordinator's", off.as_secs());
    let fix = "switch on time synchronisation: timedatectl set-ntp true";
    match off {
        off if off >= CLOCK_FAIL => Finding::fail("clock", detail, fix),
        off if off >= CLOCK_WARN => Finding::warn("clock", detail, fix),
        _ => Finding::ok("clock", "within a few seconds of the coordinator's"),
    }
}

async fn key(config: &Config, client: &Client) -> Result<Finding, Finding> {
    let token = config.coordinator.auth_token.as_ref();
    let reply = get(config, client, "/v1/wallet/balance").await?;
    let status = reply.status();
    if status.is_success() {
        return Ok(match reply.json::<Balance>().await {
            Ok(balance) => wallet(config, &balance),
            Err(error) => Finding::warn("key", chain(&error), "check COORD_URL: an odd reply"),
        });
    }
    let why = match reply.json::<ErrorBody>().await {
        Ok(body) => format!("{status}: {} ({})", body.error.message, body.error.code),
        Err(_) => status.to_string(),
    };
    Ok(match status {
        StatusCode::NOT_FOUND => Finding::ok("key", "accepted; nothing has been credited yet"),
        StatusCode::UNAUTHORIZED if token.is_none() => {
            Finding::fail("key", "no API key is set", SET_A_KEY)
        }
        StatusCode::UNAUTHORIZED if token.is_some_and(Secret::is_placeholder) => {
            Finding::fail("key", "API_KEY is still the sample's placeholder", SET_A_KEY)
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Finding::fail(
            "key",
            why,
            "ask the coordinator's operator for a key of scope miner (coordinator keys create)",
        ),
        _ => Finding::warn("key", why, "try again later"),
    })
}

/// Whether this node might ask for jobs under its name: it asks with no slot free, so it gets none.
async fn jobs(config: &Config, client: &Client) -> Result<Option<Finding>, Finding> {
    let Some(name) = identity::known_node_id(config) else { return Ok(None) };
    let reply = get(config, client, &format!("/v1/miner/next?miner={name}&slots=0")).await?;
    let status = reply.status();
    if status.is_success() {
        return Ok(Some(Finding::ok("jobs", format!("{name} may ask for jobs"))));
    }
    let body = reply.json::<ErrorBody>().await;
    let said = body.map_or_else(|_| status.to_string(), |body| body.error.message);
    Ok(Some(match status {
        StatusCode::NOT_FOUND => {
            Finding::ok("jobs", format!("{name} will be registered at the first run"))
        }
        StatusCode::FORBIDDEN => Finding::fail(
            "jobs",
            format!("{name} may not ask for jobs: {said}"),
            "set MINER_ID to a name that is free, or have the coordinator's operator free this one \
             (aitbc miner release)",
        ),
        _ => Finding::warn("jobs", format!("{status}: {said}"), "try again later"),
    }))
}

fn wallet(config: &Config, balance: &Balance) -> Finding {
    match &config.wallet {
        Some(wallet) if *wallet != balance.wallet => Finding::warn(
            "key",
            format!("accepted, but it credits {}, not WALLET_ADDR {wallet}", balance.wallet),
            "set WALLET_ADDR to the key's wallet, or ask for a key of yours",
        ),
        _ => Finding::ok(
            "key",
            format!(
                "accepted; wallet {} holds {} {}",
                balance.wallet, balance.balance, balance.currency
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn clocks_may_differ_a_little() {
        let now: Timestamp = "2026-01-24T00:10:00Z".parse().unwrap();
        for (secs, status) in [
            (0, Status::Ok),
            (4, Status::Ok),
            (-4, Status::Ok),
            (6, Status::Warn),
            (-301, Status::Fail),
        ] {
            assert_eq!(clock_finding(now.plus_secs(secs), now).status, status, "{secs}");
        }
        assert!(clock_finding(now.plus_secs(-301), now).detail.contains("301 s behind"));
    }
}
