//! A list of pools: work from whoever has some, from the first one as soon as that has.

use std::time::Duration;

use mining::pool::{BadPools, Settings, Timing, Verdict, start};
use serde_json::json;
use tokio::runtime::Handle;

use crate::client::{Client, TIMING, settings};
use crate::test_pool::TestPool;
use crate::test_pool::jobs::Monero;

#[tokio::test]
async fn another_pool_fills_in_until_the_first_one_is_back() {
    let (first, second) = (TestPool::listen(0).await, TestPool::listen(0).await);
    let mut client = Client::at(&[&first.url(), &second.url()]);
    drop(first.accept().await);
    client.disconnected().await;
    let mut backup = second.accept().await.unwrap();
    backup.let_in(&Monero::new(1, 1)).await;
    client.connected(&second.url()).await;
    let job = client.job().await;
    client.submit(1, &job, 1);
    let share = backup.expect("submit").await;

    // The first one fails twice more, which is nobody's business, and only then has work.
    drop(first.accept().await);
    let mut miner = first.accept().await.unwrap();
    let login = miner.expect("login").await;
    miner.refuse(&login, json!({"message": "maintenance"})).await;
    let mut miner = first.accept().await.unwrap();
    client.submit(2, &job, 2);
    let other = backup.expect("submit").await;
    miner.let_in(&Monero::new(2, 1)).await;
    client.connected(&first.url()).await;
    let better = client.job().await;

    // What was sent to the one before is still answered there, what was found for it is stale.
    for (number, share) in [(1, share), (2, other)] {
        backup.answer(&share, json!({"status": "OK"})).await;
        assert_eq!(client.verdict(number).await, Verdict::Accepted);
    }
    assert_eq!(backup.hear().await, None);
    client.submit(3, &job, 3);
    assert_eq!(client.verdict(3).await, Verdict::Stale);
    client.submit(4, &better, 1);
    miner.expect("submit").await;
}

#[tokio::test]
async fn a_pool_that_only_takes_the_login_is_not_gone_over_to() {
    let (first, second) = (TestPool::listen(0).await, TestPool::listen(0).await);
    let mut client = Client::at(&[&first.url(), &second.url()]);
    drop(first.accept().await);
    client.disconnected().await;
    let mut backup = second.accept().await.unwrap();
    backup.let_in(&Monero::new(1, 1)).await;
    client.connected(&second.url()).await;
    client.job().await;
    let mut miner = first.accept().await.unwrap();
    let login = miner.expect("login").await;
    miner.answer(&login, json!({"id": "s", "status": "OK"})).await;
    // Its backup still has the miner's whole attention.
    backup.send_job(&Monero::new(2, 1)).await;
    assert_eq!(client.job().await.id, "job-2");
    miner.send_job(&Monero::new(3, 1)).await;
    client.connected(&first.url()).await;
    assert_eq!(client.job().await.id, "job-3");
    assert_eq!(backup.hear().await, None);
}

#[tokio::test]
async fn a_pool_without_work_keeps_nobody_from_the_next_one() {
    let pools = [TestPool::listen(0).await, TestPool::listen(0).await, TestPool::listen(0).await];
    let [first, second, third] = &pools;
    let timing = Timing { beside: Duration::from_millis(20), ..TIMING };
    let list = pools.iter().map(|pool| settings(&pool.url())).collect();
    let mut client = Client::of(list, timing);
    // It takes the login, and that is all. The next one does not even do that.
    let mut idle = first.accept().await.unwrap();
    let login = idle.expect("login").await;
    idle.answer(&login, json!({"id": "s", "status": "OK"})).await;
    let mut silent = second.accept().await.unwrap();
    silent.expect("login").await;
    let mut miner = third.accept().await.unwrap();
    miner.let_in(&Monero::new(1, 1)).await;
    client.connected(&third.url()).await;
    assert_eq!(client.job().await.id, "job-1");

    // The better of the two gets round to it: the one after it has nothing more to hope for.
    idle.send_job(&Monero::new(2, 1)).await;
    client.connected(&first.url()).await;
    let job = client.job().await;
    assert_eq!(job.id, "job-2");
    assert_eq!((silent.hear().await, miner.hear().await), (None, None));
    client.submit(1, &job, 1);
    idle.expect("submit").await;
}

#[tokio::test]
async fn of_two_that_are_tried_one_may_fail() {
    let (first, second) = (TestPool::listen(0).await, TestPool::listen(0).await);
    let timing = Timing { beside: Duration::from_millis(20), ..TIMING };
    let mut client = Client::of(vec![settings(&first.url()), settings(&second.url())], timing);
    let mut idle = first.accept().await.unwrap();
    let login = idle.expect("login").await;
    let mut miner = second.accept().await.unwrap();
    idle.refuse(&login, json!({"message": "maintenance"})).await;
    let (reason, _) = client.disconnected().await;
    assert!(reason.contains("maintenance"), "{reason}");
    miner.let_in(&Monero::new(1, 1)).await;
    client.connected(&second.url()).await;
    client.job().await;
    // The one that failed comes again in its own time.
    first.accept().await.unwrap().let_in(&Monero::new(2, 1)).await;
    client.connected(&first.url()).await;
    assert_eq!(client.job().await.id, "job-2");
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    let refused = |pools: Vec<Settings>| start(pools, TIMING, 1, &Handle::current()).unwrap_err();
    assert!(matches!(refused(Vec::new()), BadPools::None));
    let mut pinned = settings("stratum+tcp://127.0.0.1:1");
    pinned.fingerprint = Some("ab".repeat(32).parse().unwrap());
    assert!(refused(vec![pinned]).to_string().contains("needs TLS"));
    let mut other = settings("daemon+http://127.0.0.1:1");
    other.algorithm = Some(mining::Algorithm::GhostRider);
    assert!(refused(vec![other]).to_string().contains("a daemon is for RandomX"));
    let mut nonsense = settings("stratum+ssl://127.0.0.1:1");
    nonsense.authorities = vec![vec![1, 2, 3]];
    assert!(matches!(refused(vec![nonsense]), BadPools::Tls { .. }));
}
