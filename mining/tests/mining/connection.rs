//! Connections that break, and pools that behave badly: each end has a reason, and no share is lost
//! without one.

use std::time::Duration;

use mining::pool::{Timing, Verdict};
use serde_json::json;

use crate::client::{Client, TIMING, settings};
use crate::test_pool::jobs::Monero;
use crate::test_pool::{Miner, TestPool};

const SHORT: Duration = Duration::from_millis(100);

/// What a client tells about a pool that behaves like this once it has been called.
async fn end_of(timing: Timing, behave: impl AsyncFnOnce(&mut Miner)) -> (String, Duration) {
    let pool = TestPool::listen(0).await;
    let mut client = Client::of(vec![settings(&pool.url())], timing);
    let mut miner = pool.accept().await.unwrap();
    behave(&mut miner).await;
    client.disconnected().await
}

#[tokio::test]
async fn nonsense_ends_a_connection() {
    for (nonsense, why) in [
        ("garbage".to_owned(), "no message"),
        ("{\"method\":\"job\",\"params\":{\"blob\":7}}".to_owned(), "no job"),
        ("x".repeat(1 << 17), "more than 65536 bytes"),
    ] {
        let behave = async |miner: &mut Miner| {
            miner.expect("login").await;
            miner.say_plainly(&nonsense).await;
        };
        let (reason, _) = end_of(TIMING, behave).await;
        assert!(reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn a_pool_that_never_answers_is_left() {
    let timing = Timing { answer: SHORT, ..TIMING };
    let (reason, _) = end_of(timing, async |_| {}).await;
    assert!(reason.contains("no answer within"), "{reason}");
}

#[tokio::test]
async fn a_pool_that_never_has_work_is_left() {
    let timing = Timing { first_job: SHORT, ..TIMING };
    let behave = async |miner: &mut Miner| {
        let login = miner.expect("login").await;
        miner.answer(&login, json!({"id": "s", "status": "OK"})).await;
    };
    let (reason, _) = end_of(timing, behave).await;
    assert!(reason.contains("no job within"), "{reason}");
}

#[tokio::test]
async fn a_login_that_is_refused_says_why() {
    let refused = |message: &'static str| async move {
        let behave = async |miner: &mut Miner| {
            let login = miner.expect("login").await;
            miner.refuse(&login, json!({"code": -1, "message": message})).await;
        };
        end_of(TIMING, behave).await
    };
    let (reason, again_in) = refused("Invalid payment address provided").await;
    assert_eq!(reason, "the login was refused: Invalid payment address provided");
    assert!(again_in <= TIMING.retry);
    // Whoever is banned and knocks on is banned for longer.
    let (_, again_in) = refused("IP Address currently banned").await;
    assert_eq!(again_in, TIMING.banned);
}

#[tokio::test]
async fn pauses_grow_until_they_are_the_longest() {
    let pool = TestPool::listen(0).await;
    let mut client = Client::at(&[&pool.url()]);
    let mut longest = TIMING.retry;
    for _ in 0..6 {
        drop(pool.accept().await);
        let (reason, again_in) = client.disconnected().await;
        assert!(!reason.is_empty());
        assert!((longest * 3 / 4..=longest).contains(&again_in), "{again_in:?} of {longest:?}");
        longest = (longest * 2).min(TIMING.longest_retry);
    }
    pool.accept().await.unwrap().let_in(&Monero::new(1, 1)).await;
    client.connected(&pool.url()).await;
    client.job().await;
}

#[tokio::test]
async fn shares_under_way_are_lost_with_the_connection() {
    let pool = TestPool::listen(0).await;
    let mut client = Client::at(&[&pool.url()]);
    let mut miner = pool.accept().await.unwrap();
    miner.let_in(&Monero::new(1, 1)).await;
    client.connected(&pool.url()).await;
    let job = client.job().await;
    for number in 1..=2 {
        client.submit(number, &job, u32::try_from(number).unwrap());
        miner.expect("submit").await;
    }
    drop(miner);
    for number in 1..=2 {
        let Verdict::Lost(reason) = client.verdict(number).await else { panic!() };
        assert!(reason.contains("connection"), "{reason}");
    }
    client.disconnected().await;
    // Nobody is there to send it to: it does not vanish.
    client.submit(3, &job, 3);
    let verdict = client.verdict(3).await;
    assert!(matches!(verdict, Verdict::Lost(_)), "{verdict}");
}

#[tokio::test]
async fn a_share_that_is_never_answered_is_lost() {
    let pool = TestPool::listen(0).await;
    let timing = Timing { answer: Duration::from_millis(500), ..TIMING };
    let mut client = Client::of(vec![settings(&pool.url())], timing);
    let mut miner = pool.accept().await.unwrap();
    miner.let_in(&Monero::new(1, 1)).await;
    client.connected(&pool.url()).await;
    let job = client.job().await;
    client.submit(1, &job, 1);
    miner.expect("submit").await;
    assert_eq!(client.verdict(1).await, Verdict::Lost("no answer within 500ms".into()));
    let (reason, _) = client.disconnected().await;
    assert_eq!(reason, "no answer within 500ms");
}

#[tokio::test]
async fn answers_may_come_late_and_in_any_order() {
    let pool = TestPool::listen(0).await;
    let mut client = Client::at(&[&pool.url()]);
    let mut miner = pool.accept().await.unwrap();
    miner.let_in(&Monero::new(1, 1)).await;
    client.connected(&pool.url()).await;
    let job = client.job().await;
    let mut shares = Vec::new();
    for number in 1..=3 {
        client.submit(number, &job, u32::try_from(number).unwrap());
        shares.push(miner.expect("submit").await);
    }
    miner.send_job(&Monero::new(2, 1)).await;
    client.job().await;
    // Nobody asked this.
    miner.say(&json!({"id": 4711, "error": null, "result": {"status": "OK"}})).await;
    for number in [2, 3, 1_u64] {
        let share = &shares[usize::try_from(number).unwrap() - 1];
        miner.answer(share, json!({"status": "OK"})).await;
        assert_eq!(client.verdict(number).await, Verdict::Accepted);
    }
}
