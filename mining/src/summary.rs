//! How an engine stands, in the form of XMRig's `GET /2/summary`, so that the dashboards that miners
//! have go on working. Facts only: what is not known is `null` or absent.
//!
//! Source of the names: XMRig's `doc/api/2/summary.json`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::engine::{Phase, Status};

/// What a summary says about the program rather than about mining.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The node's stable label.
    pub id: String,
    /// The rig's name.
    pub worker: String,
    /// The program's version.
    pub version: &'static str,
    /// For how long it has been running.
    pub uptime: Duration,
}

/// The summary of `status`.
pub fn summary(status: &Status, about: &About) -> Value {
    let algo = status.algorithm.map(|algorithm| algorithm.as_str());
    let rate = &status.hashrate;
    let shares = &status.shares;
    let pool = status.pool.as_ref();
    let per_share = |secs: u64| secs.checked_div(shares.accepted).unwrap_or(0);
    let uptime = pool.map_or(0, |pool| pool.uptime_secs);
    let refused = shares.rejected + shares.stale + shares.lost;
    let log: Vec<_> = shares.reasons.iter().map(|(why, n)| format!("{n} x {why}")).collect();
    json!({
        "id": about.id,
        "worker_id": about.worker,
        "uptime": about.uptime.as_secs(),
        "restricted": true,
        "resources": {
            "memory": { "resident_set_memory": status.memory_bytes },
            "hardware_concurrency": status.threads_most,
        },
        "features": ["api"],
        "results": {
            "diff_current": pool.map(|pool| pool.difficulty),
            "shares_good": shares.accepted,
            "shares_total": shares.accepted + refused,
            "avg_time": per_share(about.uptime.as_secs()),
            "hashes_total": shares.accepted_difficulty,
        },
        "algo": algo,
        "connection": {
            "pool": pool.map(|pool| pool.url.as_str()),
            "uptime": uptime,
            "ping": pool.and_then(|pool| pool.ping_ms),
            "failures": pool.map(|pool| pool.failures),
            "algo": algo,
            "diff": pool.map(|pool| pool.difficulty),
            "accepted": shares.accepted,
            "rejected": refused,
            "avg_time": per_share(uptime),
            "hashes_total": shares.accepted_difficulty,
            "error_log": log,
        },
        "version": about.version,
        "kind": "miner",
        "ua": format!("aitbc-miner/{}", about.version),
        "donate_level": 0,
        "paused": status.phase == Phase::Paused,
        "hashrate": {
            "total": [rate.ten_secs, rate.minute, rate.quarter_hour],
            "highest": rate.highest,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::engine::{Connection, Hashrate, Shares};

    fn about() -> About {
        let uptime = Duration::from_secs(600);
        About { id: "n1".into(), worker: "rig7".into(), version: "0.1.0", uptime }
    }

    #[test]
    fn dashboards_find_what_they_look_for() {
        let status = Status {
            algorithm: Some(Algorithm::RandomX),
            phase: Phase::Mining,
            threads: 2,
            threads_most: 2,
            hashrate: Hashrate {
                ten_secs: Some(500.5),
                highest: Some(510.0),
                ..Hashrate::default()
            },
            hashes: 300_000,
            shares: Shares {
                found: 33,
                accepted: 30,
                rejected: 2,
                stale: 1,
                accepted_difficulty: 300_000,
                reasons: [("Low difficulty share".to_owned(), 2)].into(),
                ..Shares::default()
            },
            pool: Some(Connection {
                url: "stratum+ssl://pool.example:443".into(),
                uptime_secs: 300,
                difficulty: 10_000,
                height: Some(3_000_000),
                ping_ms: Some(41),
                failures: 0,
            }),
            ..Status::unknown("native")
        };
        let summary = summary(&status, &about());
        assert_eq!(summary["hashrate"]["total"], json!([500.5, null, null]));
        assert_eq!(summary["results"]["shares_good"], 30);
        assert_eq!(summary["results"]["shares_total"], 33);
        assert_eq!(summary["connection"]["diff"], 10_000);
        assert_eq!(summary["connection"]["avg_time"], 10);
        assert_eq!(summary["connection"]["error_log"], json!(["2 x Low difficulty share"]));
        assert_eq!((&summary["algo"], &summary["paused"]), (&json!("rx/0"), &json!(false)));
        assert_eq!(summary["worker_id"], "rig7");
    }

    #[test]
    fn what_is_not_known_is_not_invented() {
        let summary = summary(&Status::unknown("native"), &about());
        for path in ["/algo", "/connection/pool", "/connection/ping", "/hashrate/highest"] {
            assert_eq!(summary.pointer(path), Some(&Value::Null), "{path}");
        }
    }
}
