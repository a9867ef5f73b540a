//! Mining for a pool that looks at every share and plays tricks: no share is invalid, none is stale
//! for long, none is lost without a reason, and every one is counted once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use mining::engine::{Allowance, Engine as _, Shares};
use mining::native::{self, Native};
use mining::pool::Settings;
use mining::{Algorithm, Notice};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{sleep, timeout};
use tokio_util::codec::{Framed, LinesCodec};

use crate::client::{TIMING, settings};
use crate::test_pool::keeper::{Opinion, Report, Rules, keep};
use crate::test_pool::verify::Verifier;
use crate::test_pool::{PATIENCE, TestPool};

/// Pause between two looks at the engine: it needs the processors.
pub const LOOK: Duration = Duration::from_millis(5);

/// The native engine, with two threads and no dataset.
pub fn engine(settings: Settings) -> Native {
    // Not as it usually is: machines that run tests are busy, and the idle get nothing.
    let priority = native::Priority::Normal;
    let light = native::Settings { threads: Some(2), light: true, priority, ..Default::default() };
    let quiet = Arc::new(|_: &Notice| {});
    let engine =
        Native::with_pools(light, quiet, vec![settings], TIMING, 1, &Handle::current()).unwrap();
    engine.allow(&Allowance { threads: 2, ..Allowance::default() });
    engine
}

/// Waits until no share is under way any more.
pub async fn settled(engine: &Native) -> Shares {
    engine.allow(&Allowance::default());
    let begun = Instant::now();
    loop {
        let shares = engine.status().shares;
        let Shares { found, accepted, rejected, stale, lost, .. } = shares;
        if engine.busy_threads() == 0 && found == accepted + rejected + stale + lost {
            return shares;
        }
        assert!(begun.elapsed() < PATIENCE, "{shares:?}");
        sleep(LOOK).await;
    }
}

/// Mines until each of the tricks was played, then until the next share is accepted.
async fn mined(rules: Rules, settings: impl FnOnce(&str) -> Settings) {
    let pool = TestPool::listen(0).await;
    let engine = engine(settings(&pool.url()));
    let (sender, mut reports) = unbounded_channel();
    tokio::spawn(keep(pool, rules, sender));
    let (mut tricks, mut accepted, mut logins) = (HashSet::new(), 0, 0);
    loop {
        let report = timeout(PATIENCE, reports.recv()).await;
        let status = || format!("after {tricks:?}: {:?}", engine.status());
        match report.unwrap_or_else(|_| panic!("{}", status())).unwrap() {
            Report::LetIn => logins += 1,
            Report::Trick(trick) => drop(tricks.insert(trick)),
            Report::Share(Opinion::Accepted) => {
                accepted += 1;
                // Behind the hanging up there was another login, and work again.
                if tricks.len() == 6 && logins == 2 {
                    break;
                }
            }
            Report::Share(Opinion::Stale(after)) => {
                assert!(after < Duration::from_secs(1), "a share that is stale for {after:?}");
            }
            Report::Share(opinion) => panic!("{opinion:?}"),
            Report::Gone => {}
        }
    }
    let shares = settled(&engine).await;
    assert_eq!(shares.rejected, 0, "{shares:?}");
    assert_eq!(shares.reasons.values().sum::<u64>(), shares.lost, "{shares:?}");
    // The pool may have taken a share whose answer was lost with the connection.
    assert!(shares.accepted + shares.lost >= accepted, "{shares:?}, the pool took {accepted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn randomx_for_a_pool_that_plays_tricks() {
    let rules =
        Rules { bitcoin: false, difficulty: 4.0, shares_per_job: 3, job_every: None, tricks: true };
    mined(rules, settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghostrider_for_a_pool_that_plays_tricks() {
    let rules = Rules {
        bitcoin: true,
        difficulty: 0.001,
        shares_per_job: 3,
        job_every: None,
        tricks: true,
    };
    let algorithm = Some(Algorithm::GhostRider);
    mined(rules, |url| Settings { algorithm, ..settings(url) }).await;
}

/// A pool that finds nothing wrong proves nothing.
#[tokio::test]
async fn the_pool_sees_what_is_wrong() {
    let rules = Rules {
        bitcoin: false,
        difficulty: 2.0,
        shares_per_job: u32::MAX,
        job_every: None,
        tricks: false,
    };
    let pool = TestPool::listen(0).await;
    let stream = TcpStream::connect(pool.address()).await.unwrap();
    let (sender, mut reports) = unbounded_channel();
    tokio::spawn(keep(pool, rules, sender));
    let mut lines = Framed::new(stream, LinesCodec::new());
    lines.send(json!({"id": 1, "method": "login", "params": {}}).to_string()).await.unwrap();
    let entered: Value = serde_json::from_str(&lines.next().await.unwrap().unwrap()).unwrap();
    assert_eq!(reports.recv().await, Some(Report::LetIn));
    let job = &entered["result"]["job"];

    let blob = hex::decode(job["blob"].as_str().unwrap()).unwrap();
    let mut verifier = Verifier::default();
    let mut hashes = (0_u32..).map(|nonce| {
        let mut blob = blob.clone();
        blob[39..43].copy_from_slice(&nonce.to_le_bytes());
        (nonce, verifier.randomx([7; 32], &blob))
    });
    // Above and below half of all there is.
    let high = hashes.find(|(_, hash)| hash[31] >= 0x80).unwrap();
    let low = hashes.find(|(_, hash)| hash[31] < 0x7f).unwrap();
    let invalid = |why: &str| Opinion::Invalid(why.to_owned());
    for (job, nonce, hash, opinion) in [
        ("job-9", low.0, low.1, invalid("no such job")),
        ("", high.0, high.1, invalid("low difficulty share")),
        ("", high.0, low.1, Opinion::Duplicate),
        ("", low.0 + 1, low.1, invalid("another hash")),
        ("", low.0, low.1, Opinion::Accepted),
        ("", low.0, low.1, Opinion::Duplicate),
    ] {
        let known = entered["result"]["job"]["job_id"].as_str().unwrap();
        let params = json!({"id": "s", "job_id": if job.is_empty() { known } else { job },
            "nonce": hex::encode(nonce.to_le_bytes()), "result": hex::encode(hash),
            "algo": "rx/0"});
        let line = json!({"id": 2, "method": "submit", "params": params});
        lines.send(line.to_string()).await.unwrap();
        assert_eq!(reports.recv().await, Some(Report::Share(opinion)));
    }
}
