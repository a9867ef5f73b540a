//! Both dialects of stratum, as a pool sees them.

use std::time::Duration;

use mining::pool::{Event, Settings, Verdict};
use mining::{Algorithm, NonceRange};
use serde_json::json;

use crate::client::{Client, TIMING, settings};
use crate::test_pool::jobs::{Bitcoin, Monero};
use crate::test_pool::{Miner, TestPool};

fn ghostrider(url: &str) -> Settings {
    Settings { algorithm: Some(Algorithm::GhostRider), ..settings(url) }
}

async fn entered() -> (TestPool, Miner, Client) {
    let pool = TestPool::listen(0).await;
    let mut client = Client::at(&[&pool.url()]);
    let mut miner = pool.accept().await.unwrap();
    miner.let_in(&Monero::new(1, 1)).await;
    client.connected(&pool.url()).await;
    (pool, miner, client)
}

#[tokio::test]
async fn a_share_goes_there_and_back() {
    let (_pool, mut miner, mut client) = entered().await;
    let job = client.job().await;
    assert_eq!((job.id.as_str(), job.seed), ("job-1", Some([7; 32])));
    assert_eq!(job.work.blob(), Monero::new(1, 1).blob);
    client.submit(7, &job, 0x0403_0201);
    let share = miner.expect("submit").await;
    assert_eq!(share["params"]["nonce"], "01020304");
    assert_eq!(share["params"]["algo"], "rx/0");
    miner.answer(&share, json!({"status": "OK"})).await;
    assert_eq!(client.verdict(7).await, Verdict::Accepted);
    client.submit(8, &job, 2);
    let share = miner.expect("submit").await;
    miner.refuse(&share, json!({"code": -1, "message": "Invalid PoW"})).await;
    assert_eq!(client.verdict(8).await, Verdict::Rejected("Invalid PoW".into()));
}

#[tokio::test]
async fn no_share_of_a_replaced_job_is_sent() {
    let (_pool, mut miner, mut client) = entered().await;
    let first = client.job().await;
    miner.send_job(&Monero::new(2, 1)).await;
    let second = client.job().await;
    assert_ne!(first.number, second.number);
    client.submit(1, &first, 1);
    assert_eq!(client.verdict(1).await, Verdict::Stale);
    client.submit(2, &second, 1);
    // What comes is the second one: nothing came before it.
    let share = miner.expect("submit").await;
    assert_eq!(share["params"]["job_id"], "job-2");
    miner.refuse(&share, json!({"code": -1, "message": "Stale share"})).await;
    assert_eq!(client.verdict(2).await, Verdict::Stale);
}

#[tokio::test]
async fn a_pool_that_has_lost_us_is_entered_again() {
    let (pool, mut miner, mut client) = entered().await;
    let job = client.job().await;
    client.submit(1, &job, 1);
    let share = miner.expect("submit").await;
    miner.refuse(&share, json!({"code": -1, "message": "Unauthenticated"})).await;
    assert_eq!(client.verdict(1).await, Verdict::Rejected("Unauthenticated".into()));
    let (reason, _) = client.disconnected().await;
    assert!(reason.contains("Unauthenticated"), "{reason}");
    assert_eq!(miner.hear().await, None);
    let mut miner = pool.accept().await.unwrap();
    miner.let_in(&Monero::new(1, 1)).await;
    client.connected(&pool.url()).await;
    // The same job to the pool, another one to us: what was found for the first one is not sent.
    let again = client.job().await;
    client.submit(2, &job, 2);
    assert_eq!(client.verdict(2).await, Verdict::Stale);
    client.submit(3, &again, 1);
    miner.expect("submit").await;
}

#[tokio::test]
async fn an_idle_pool_is_asked_whether_it_is_there() {
    let pool = TestPool::listen(0).await;
    let idle = Duration::from_millis(20);
    let mut client =
        Client::of(vec![settings(&pool.url())], mining::pool::Timing { idle, ..TIMING });
    let mut miner = pool.accept().await.unwrap();
    miner.let_in(&Monero::new(1, 1)).await;
    for _ in 0..3 {
        let question = miner.expect("keepalived").await;
        assert_eq!(question["params"]["id"], "s");
        miner.answer(&question, json!({"status": "KEEPALIVED"})).await;
    }
    client.connected(&pool.url()).await;
    client.job().await;
}

#[tokio::test]
async fn a_proxy_keeps_its_byte_of_the_nonce() {
    let pool = TestPool::listen(0).await;
    let mut client = Client::at(&[&pool.url()]);
    let mut miner = pool.accept().await.unwrap();
    let mut job = Monero::new(1, 1);
    job.blob[42] = 0xab;
    miner.let_in(&job).await;
    client.connected(&pool.url()).await;
    assert_eq!(client.job().await.work.nonces, NonceRange::below_byte(0xab));
}

#[tokio::test]
async fn a_ghostrider_pool_gets_headers_that_it_can_put_together() {
    let pool = TestPool::listen(0).await;
    let mut client = Client::of(vec![ghostrider(&pool.url())], TIMING);
    let mut miner = pool.accept().await.unwrap();
    miner.let_in_with("f000000f", 4).await;
    miner.notify("mining.set_difficulty", json!([0.002])).await;
    let made = Bitcoin::new(1, 0.002);
    miner.notify("mining.notify", made.written()).await;
    client.connected(&pool.url()).await;
    let job = client.job().await;
    assert_eq!(job.algorithm, Algorithm::GhostRider);
    // Below the exact bound by less than one part in a million.
    let bound = 65535.0 * 2_f64.powi(32) / 0.002;
    assert!((job.work.target.difficulty() as f64 * bound / 2_f64.powi(64) - 1.0).abs() < 1e-3);

    // All nonces of the job are tried, twice: each time there are new ones.
    client.pools.more(job.number);
    let second = client.job().await;
    client.pools.more(second.number);
    let third = client.job().await;
    for (number, job) in [(1, &job), (2, &second), (3, &third)] {
        client.submit(number, job, 0x0002_8000);
        let share = miner.expect("mining.submit").await;
        let text = |place: usize| share["params"][place].as_str().unwrap().to_owned();
        let header = made.with_nonce(&text(2), &text(3), &text(4)).unwrap();
        let mut expected = job.work.blob().to_vec();
        job.work.put_nonce(&mut expected, 0x0002_8000);
        assert_eq!(hex::encode(header), hex::encode(expected));
        miner.answer(&share, json!(true)).await;
        assert_eq!(client.verdict(number).await, Verdict::Accepted);
    }
}

#[tokio::test]
async fn a_ghostrider_pool_may_change_its_mind() {
    let pool = TestPool::listen(0).await;
    let mut client = Client::of(vec![ghostrider(&pool.url())], TIMING);
    let mut miner = pool.accept().await.unwrap();
    miner.let_in_with("f000000f", 4).await;
    miner.notify("mining.notify", Bitcoin::new(1, 1.0).written()).await;
    client.connected(&pool.url()).await;
    let first = client.job().await;
    miner.notify("mining.set_difficulty", json!([2])).await;
    miner.notify("mining.set_extranonce", json!(["aabbccdd", 3])).await;
    let mut made = Bitcoin::new(2, 2.0);
    made.clean = false;
    miner.notify("mining.notify", made.written()).await;
    let second = client.job().await;
    assert!(second.work.target < first.work.target);
    assert_eq!((first.extra_nonce.len(), second.extra_nonce.len()), (4, 3));
    // The pool still takes shares of the first one, until it says otherwise.
    client.submit(1, &first, 1);
    let share = miner.expect("mining.submit").await;
    assert_eq!(share["params"][1], "job-1");
    miner.notify("mining.notify", Bitcoin::new(3, 2.0).written()).await;
    client.job().await;
    client.submit(2, &first, 2);
    assert_eq!(client.verdict(2).await, Verdict::Stale);
    miner.refuse(&share, json!([21, "job not found", null])).await;
    assert_eq!(client.verdict(1).await, Verdict::Stale);
}

#[tokio::test]
async fn a_pool_may_send_us_to_another_port_but_to_nobody_else() {
    let (pool, other) = (TestPool::listen(0).await, TestPool::listen(0).await);
    let mut client = Client::of(vec![ghostrider(&pool.url())], TIMING);
    let mut miner = pool.accept().await.unwrap();
    miner.let_in_with("f000000f", 4).await;
    miner.notify("client.reconnect", json!(["127.0.0.1", other.address().port(), 0])).await;
    let (reason, _) = client.disconnected().await;
    assert!(reason.contains("asks to come again at 127.0.0.1"), "{reason}");
    let mut there = other.accept().await.unwrap();
    there.let_in_with("f000000f", 4).await;
    there.notify("client.reconnect", json!(["127.0.0.2", other.address().port(), 0])).await;
    let (reason, _) = client.disconnected().await;
    assert!(reason.contains("\"127.0.0.2\"") && reason.contains("refused"), "{reason}");
    // Back where the owner sent it.
    pool.accept().await.unwrap().let_in_with("f000000f", 4).await;
}

#[tokio::test]
async fn whoever_stops_still_hears_what_became_of_his_shares() {
    let (_pool, mut miner, mut client) = entered().await;
    let job = client.job().await;
    client.submit(1, &job, 1);
    let share = miner.expect("submit").await;
    let Client { pools, .. } = &mut client;
    let ended = std::mem::replace(pools, Client::at(&["stratum+tcp://127.0.0.1:9"]).pools);
    drop(ended);
    miner.answer(&share, json!({"status": "OK"})).await;
    assert_eq!(client.verdict(1).await, Verdict::Accepted);
    assert_eq!(client.hear().await, None::<Event>);
    assert_eq!(miner.hear().await, None);
}
