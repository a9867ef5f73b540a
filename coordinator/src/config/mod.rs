//! Settings, with their defaults. Where their values come from is in `load`, secrets in `secret`.

mod load;
mod secret;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

pub use load::{ConfigError, DEFAULT_FILE, Overrides, load};
use protocol::control::Prices;
pub use secret::DatabaseUrl;
use serde::{Deserialize, Serialize};

use crate::artifacts::place::Place;
use crate::{controls, db};

/// What S3 copies in one request, in MiB.
const MAX_COPIED_MB: u32 = 5 * 1024;

/// All settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where keys, artifacts and the SQLite file live unless another place is named.
    pub data_dir: PathBuf,
    /// Where requests come in.
    pub listen: Listen,
    /// Where everything is kept.
    pub database: Database,
    /// Where files are kept.
    pub artifacts: ArtifactStore,
    /// What is deleted by age.
    pub retention: Retention,
    /// Limits of requests.
    pub limits: RequestLimits,
    /// How long miners hold jobs.
    pub leases: Leases,
    /// What jobs get unless they ask for something else.
    pub jobs: JobDefaults,
    /// What work pays.
    pub prices: Prices,
    /// Log output.
    pub logging: Logging,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/aitbc/coordinator"),
            listen: Listen::default(),
            database: Database::default(),
            artifacts: ArtifactStore::default(),
            retention: Retention::default(),
            limits: RequestLimits::default(),
            leases: Leases::default(),
            jobs: JobDefaults::default(),
            prices: Prices::default(),
            logging: Logging::default(),
        }
    }
}

impl Config {
    /// The database URL: the stated one, or a SQLite file in the data directory.
    pub fn database_url(&self) -> String {
        match &self.database.url {
            Some(url) => url.expose().to_owned(),
            None => format!("sqlite:{}", self.data_dir.join("coordinator.db").display()),
        }
    }

    /// Where files are kept: the stated place, or a directory in the data directory.
    ///
    /// # Errors
    /// What is wrong with the stated one.
    pub fn artifact_place(&self) -> Result<Place, String> {
        match &self.artifacts.store {
            Some(store) => Place::parse(store),
            None => Ok(Place::Directory(self.data_dir.join("artifacts"))),
        }
    }

    /// How many connections the pool may open.
    pub fn max_connections(&self) -> u32 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let default = || u32::try_from(cores).unwrap_or(1).saturating_mul(4);
        self.database.max_connections.unwrap_or_else(default)
    }

    /// Whether strangers can reach the port without TLS of ours.
    pub const fn is_plain_and_public(&self) -> bool {
        self.listen.tls_cert.is_none() && !self.listen.host.is_loopback()
    }

    /// What is wrong with the values, each by the key that it is about.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut refuse = |wrong: bool, text: &str| {
            if wrong {
                problems.push(text.to_owned());
            }
        };
        let Listen { tls_cert, tls_key, tls_client_ca, behind_proxy, .. } = &self.listen;
        refuse(
            tls_cert.is_some() != tls_key.is_some(),
            "listen.tls_cert and listen.tls_key go together",
        );
        refuse(
            tls_client_ca.is_some() && tls_cert.is_none(),
            "listen.tls_client_ca needs listen.tls_cert and listen.tls_key",
        );
        refuse(
            self.is_plain_and_public() && !behind_proxy,
            "listen.host is reachable from outside: set listen.tls_cert and listen.tls_key, \
             or listen.behind_proxy where a proxy terminates TLS",
        );
        refuse(
            db::engine_of(&self.database_url()).is_err(),
            "database.url must begin with postgres://, postgresql:// or sqlite:",
        );
        refuse(
            self.database.max_connections == Some(0),
            "database.max_connections must be at least 1",
        );
        if let Err(problem) = self.artifact_place() {
            refuse(true, &format!("artifacts.store {problem}"));
        }
        let in_bucket = matches!(self.artifact_place(), Ok(Place::Bucket { .. }));
        let largest = self.limits.artifact_mb.max(self.limits.input_mb);
        refuse(
            in_bucket && largest > MAX_COPIED_MB,
            "limits.artifact_mb and limits.input_mb must be at most 5120 where artifacts.store is \
             s3://..: that is what S3 copies at once",
        );
        let endpoint = self.artifacts.endpoint.as_deref().unwrap_or("https://");
        refuse(
            !endpoint.starts_with("https://") && !endpoint.starts_with("http://"),
            "artifacts.endpoint must begin with https:// or http://",
        );
        let days = [self.retention.output_days, self.retention.inputs_days];
        refuse(days.contains(&Some(0)), "retention.*_days must be at least 1");
        let limits = &self.limits;
        let rates = [limits.client_per_minute, limits.miner_per_minute, limits.admin_per_minute];
        refuse(rates.contains(&0), "limits.*_per_minute must be at least 1");
        let rooms = [limits.concurrency, limits.long_polls, limits.queue_rows];
        refuse(
            rooms.contains(&0),
            "limits.concurrency, limits.long_polls and limits.queue_rows must be at least 1",
        );
        let streams = [limits.event_streams, limits.event_streams_per_key];
        refuse(
            streams.contains(&0) || limits.event_stream_secs == 0,
            "limits.event_streams, limits.event_streams_per_key and limits.event_stream_secs \
             must be at least 1",
        );
        let shares = [limits.transfers, limits.transfers_per_key];
        refuse(
            shares.contains(&0) || limits.miners_per_wallet == 0,
            "limits.transfers, limits.transfers_per_key and limits.miners_per_wallet \
             must be at least 1",
        );
        refuse(
            limits.request_secs == 0 || limits.transfer_secs == 0,
            "limits.request_secs and limits.transfer_secs must be at least 1",
        );
        refuse(self.leases.lease_secs < 3, "leases.lease_secs must be at least 3");
        refuse(self.leases.heartbeat_secs == 0, "leases.heartbeat_secs must be at least 1");
        refuse(!(1..=10).contains(&self.jobs.max_attempts), "jobs.max_attempts must be 1 to 10");
        refuse(
            self.jobs.max_runtime_s == 0 || self.jobs.max_runtime_s > self.jobs.runtime_ceiling_s,
            "jobs.max_runtime_s must be 1 to jobs.runtime_ceiling_s",
        );
        let prices = controls::check_prices(&self.prices, "prices");
        problems.extend(prices.into_iter().map(|problem| problem.to_string()));
        problems
    }
}

/// Where requests come in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Address. Anything but loopback needs TLS, or `behind_proxy`.
    pub host: IpAddr,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Certificate chain, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Authorities, PEM: only callers with a certificate of theirs are served.
    pub tls_client_ca: Option<PathBuf>,
    /// A proxy in front terminates TLS: plain HTTP on any address.
    pub behind_proxy: bool,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8011,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            behind_proxy: false,
        }
    }
}

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `postgres://...` or `sqlite:FILE`; absent: `coordinator.db` in the data directory.
    pub url: Option<DatabaseUrl>,
    /// Connections of the pool; absent: 4 per core.
    pub max_connections: Option<u32>,
}

/// Where files are kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArtifactStore {
    /// A directory, or `s3://BUCKET/PREFIX`; absent: `artifacts` in the data directory. Several
    /// replicas name the same one.
    pub store: Option<String>,
    /// The URL of the S3 service; absent: AWS.
    pub endpoint: Option<String>,
    /// Its region; absent: `AWS_REGION`, else us-east-1.
    pub region: Option<String>,
    /// The bucket is named in the path, not in the host name: what most services but AWS want.
    pub path_style: bool,
    /// A file with keys as AWS's tools write it; absent: the environment, or the cloud's own.
    pub credentials_file: Option<PathBuf>,
}

/// What is deleted by age. Absent: nothing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Results, logs and files of jobs that ended so many days ago.
    pub output_days: Option<u32>,
    /// Inputs that were uploaded so many days ago and that no live job names.
    pub inputs_days: Option<u32>,
}

/// Limits of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestLimits {
    /// A JSON body, in bytes.
    pub json_bytes: usize,
    /// The body of a batch of jobs, in bytes.
    pub batch_bytes: usize,
    /// One artifact, in MiB, unless its job states less.
    pub artifact_mb: u32,
    /// One input, in MiB.
    pub input_mb: u32,
    /// The log of one attempt, in bytes.
    pub log_bytes: i64,
    /// Requests at work at once, long-polls and transfers not counted.
    pub concurrency: usize,
    /// Long-polls at once.
    pub long_polls: usize,
    /// Streams of events at once.
    pub event_streams: usize,
    /// Those of them that one key may have.
    pub event_streams_per_key: usize,
    /// How long one may last before its client has to come back, in seconds.
    pub event_stream_secs: u64,
    /// Uploads and downloads at once.
    pub transfers: usize,
    /// Those of them that one key may have.
    pub transfers_per_key: usize,
    /// Miners that one wallet may have.
    pub miners_per_wallet: u32,
    /// A request without upload or long-poll, in seconds.
    pub request_secs: u64,
    /// An upload or download, in seconds.
    pub transfer_secs: u64,
    /// Requests per minute of a client key.
    pub client_per_minute: u32,
    /// Requests per minute of a miner key, times its slots.
    pub miner_per_minute: u32,
    /// Requests per minute of an admin key.
    pub admin_per_minute: u32,
    /// Rows that wait in front of each corridor before callers get 503.
    pub queue_rows: usize,
    /// Requirement classes that may live at once.
    pub classes: i64,
    /// Those of them that one client may have brought up.
    pub classes_per_client: i64,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            json_bytes: 1024 * 1024 + 256 * 1024,
            batch_bytes: 16 * 1024 * 1024,
            artifact_mb: 1024,
            input_mb: 1024,
            log_bytes: 1024 * 1024,
            concurrency: 512,
            long_polls: 20_000,
            event_streams: 4096,
            event_streams_per_key: 64,
            event_stream_secs: 3600,
            transfers: 64,
            transfers_per_key: 8,
            miners_per_wallet: 1000,
            request_secs: 30,
            transfer_secs: 3600,
            client_per_minute: 60,
            miner_per_minute: 240,
            admin_per_minute: 120,
            queue_rows: 8192,
            classes: 4096,
            classes_per_client: 512,
        }
    }
}

/// How long miners hold jobs, and how often they report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Leases {
    /// A lease without renewal, in seconds.
    pub lease_secs: u32,
    /// From lease to acknowledgement, in seconds.
    pub ack_secs: u32,
    /// What the hard deadline adds to a job's run time, in seconds.
    pub margin_secs: u32,
    /// Heartbeat interval of an idle miner, in seconds.
    pub heartbeat_secs: u32,
    /// Poll interval of a miner that does not long-poll, in seconds.
    pub poll_secs: u32,
    /// After a start, how long no lease is taken away: the miners could not renew while nobody
    /// listened. In seconds.
    pub start_grace_secs: u32,
    /// How often a replica looks for jobs and events that no notice told it of, in seconds.
    pub look_secs: u32,
    /// Silence after which a miner is shown as OFFLINE, in heartbeat intervals.
    pub offline_after: u32,
}

impl Default for Leases {
    fn default() -> Self {
        Self {
            lease_secs: 30,
            ack_secs: 10,
            margin_secs: 60,
            heartbeat_secs: 20,
            poll_secs: 3,
            start_grace_secs: 15,
            look_secs: 1,
            offline_after: 3,
        }
    }
}

/// What jobs get unless they ask for something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobDefaults {
    /// How long a job may wait for a miner, in seconds.
    pub ttl_secs: u32,
    /// How often it is tried.
    pub max_attempts: u32,
    /// How long it may run, in seconds.
    pub max_runtime_s: u32,
    /// The longest run time that may be asked for, in seconds.
    pub runtime_ceiling_s: u32,
    /// Tokens that it may be billed for, and the most that may be asked for.
    pub max_tokens: u32,
    /// The most WASM fuel that may be asked for.
    pub max_fuel: u64,
    /// First wait after a failed attempt, in seconds; doubles with each.
    pub retry_secs: u32,
}

impl Default for JobDefaults {
    fn default() -> Self {
        Self {
            ttl_secs: 900,
            max_attempts: 3,
            max_runtime_s: 3600,
            runtime_ceiling_s: 7 * 24 * 3600,
            max_tokens: 100_000,
            max_fuel: 1_000_000_000_000,
            retry_secs: 5,
        }
    }
}

/// Log output.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// Least level that is shown.
    pub level: LogLevel,
    /// Form of the lines.
    pub format: LogFormat,
}

/// Least level that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator wants to see.
    #[default]
    Info,
    /// What needs attention.
    Warn,
    /// What failed.
    Error,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

#[cfg(test)]
mod tests {
    use protocol::Amount;

    use super::*;

    #[test]
    fn the_defaults_are_in_order() {
        assert_eq!(Config::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn plain_http_stays_at_home_unless_a_proxy_is_in_front() {
        let mut config = Config::default();
        config.listen.host = "0.0.0.0".parse().unwrap();
        assert_eq!(config.problems().len(), 1);
        config.listen.behind_proxy = true;
        assert!(config.problems().is_empty());
        config.listen.behind_proxy = false;
        config.listen.tls_cert = Some(PathBuf::from("cert.pem"));
        assert_eq!(config.problems(), ["listen.tls_cert and listen.tls_key go together"]);
        config.listen.tls_key = Some(PathBuf::from("key.pem"));
        assert!(config.problems().is_empty());
        config.listen = Listen { tls_client_ca: Some("ca.pem".into()), ..Listen::default() };
        assert_eq!(config.problems().len(), 1);
    }

    #[test]
    fn each_wrong_value_is_named() {
        let problem = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.problems().join("; ")
        };
        assert!(problem(|c| c.limits.client_per_minute = 0).contains("per_minute"));
        assert!(problem(|c| c.limits.concurrency = 0).contains("concurrency"));
        assert!(
            problem(|c| c.artifacts.store = Some("ftp://x".into())).contains("artifacts.store")
        );
        assert!(problem(|c| c.artifacts.endpoint = Some("x".into())).contains("endpoint"));
        assert!(problem(|c| c.retention.output_days = Some(0)).contains("retention"));
        let large = |c: &mut Config| {
            c.artifacts.store = Some("s3://b/p".into());
            c.limits.artifact_mb = 6000;
        };
        assert!(problem(large).contains("limits.artifact_mb"));
        assert!(problem(|c| c.limits.event_streams = 0).contains("event_streams"));
        assert!(problem(|c| c.limits.transfers = 0).contains("limits.transfers"));
        assert!(problem(|c| c.limits.transfers_per_key = 0).contains("transfers_per_key"));
        assert!(problem(|c| c.limits.miners_per_wallet = 0).contains("miners_per_wallet"));
        assert!(problem(|c| c.limits.request_secs = 0).contains("request_secs"));
        assert!(problem(|c| c.leases.lease_secs = 1).contains("lease_secs"));
        assert!(problem(|c| c.leases.heartbeat_secs = 0).contains("heartbeat_secs"));
        assert!(problem(|c| c.jobs.max_attempts = 11).contains("max_attempts"));
        assert!(problem(|c| c.jobs.max_runtime_s = u32::MAX).contains("runtime_ceiling_s"));
        assert!(
            problem(|c| c.prices.cpu.unit_price = Amount::from_nanos(-1)).contains("prices.cpu")
        );
        assert!(problem(|c| c.database.max_connections = Some(0)).contains("max_connections"));
        assert!(problem(|c| c.database.url = Some("mysql://x".into())).contains("database.url"));
    }
}
