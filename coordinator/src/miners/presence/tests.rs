//! What is known of miners, and what of it is written.

use protocol::job::SlotKind;

use super::*;

async fn presence() -> (Presence, Clock, Arc<Miner>) {
    let db = Db::open("sqlite::memory:", 1).unwrap();
    db.migrate().await.unwrap();
    let clock = Clock::manual(Timestamp::from_micros(1_000_000_000_000_000));
    let id: Name = "m1".parse().unwrap();
    let mut tx = db.write().await.unwrap();
    let miner = Miner {
        no: 0,
        id: id.clone(),
        wallet: "w1".parse().unwrap(),
        registered: true,
        pubkey: None,
        drain: false,
        gpu_lost: false,
        capabilities: crate::miners::unregistered(id.clone(), SlotKind::Cpu, false),
    };
    let no = store::insert(&mut tx, clock.now(), &miner).await.unwrap();
    assert!(no.is_some());
    assert_eq!(store::insert(&mut tx, clock.now(), &miner).await.unwrap(), None);
    tx.commit().await.unwrap();
    let presence = Presence::new(db, clock.clone(), Leases::default());
    let miner = presence.find(&id).await.unwrap().unwrap();
    (presence, clock, miner)
}

async fn drain_in_the_database(presence: &Presence, miner: &Miner) {
    let mut tx = presence.db.write().await.unwrap();
    let changed = Miner { drain: true, ..miner.clone() };
    store::update(&mut tx, presence.clock.now(), &changed).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn what_was_read_lasts_five_seconds_and_keeps_its_pointer() {
    let (presence, clock, miner) = presence().await;
    clock.advance(Duration::from_secs(6));
    let again = presence.find(&miner.id).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&miner, &again));
    drain_in_the_database(&presence, &miner).await;
    assert!(!presence.find(&miner.id).await.unwrap().unwrap().drain);
    clock.advance(Duration::from_secs(6));
    assert!(presence.find(&miner.id).await.unwrap().unwrap().drain);
}

#[tokio::test]
async fn a_refresh_stands_for_the_look_at_each() {
    let (presence, clock, miner) = presence().await;
    clock.advance(MAX_AGE + Duration::from_secs(1));
    drain_in_the_database(&presence, &miner).await;
    presence.flush().await.unwrap();
    clock.advance(MAX_AGE);
    presence.db.close().await;
    assert!(presence.find(&miner.id).await.unwrap().unwrap().drain);
    clock.advance(Duration::from_secs(1));
    presence.find(&miner.id).await.unwrap_err();
}

#[tokio::test]
async fn a_name_that_was_released_elsewhere_is_nobodys() {
    let (presence, clock, miner) = presence().await;
    let mut tx = presence.db.write().await.unwrap();
    let renamed = Miner { id: "m1-released".parse().unwrap(), ..Miner::clone(&miner) };
    store::rename(&mut tx, clock.now(), &renamed).await.unwrap();
    tx.commit().await.unwrap();
    presence.refresh().await.unwrap();
    assert!(presence.find(&miner.id).await.unwrap().is_none());
}

#[tokio::test]
async fn what_was_forgotten_is_read_again() {
    let (presence, _, miner) = presence().await;
    drain_in_the_database(&presence, &miner).await;
    presence.forget(miner.no);
    assert!(presence.find(&miner.id).await.unwrap().unwrap().drain);
}

#[tokio::test]
async fn a_clock_that_went_back_makes_nothing_fresh() {
    let (presence, clock, miner) = presence().await;
    clock.set_back(Duration::from_secs(3600));
    drain_in_the_database(&presence, &miner).await;
    assert!(presence.find(&miner.id).await.unwrap().unwrap().drain);
    presence.flush().await.unwrap();
    assert_eq!(presence.lock().refreshed_at, Some(clock.now()));
}

#[tokio::test]
async fn silence_of_three_intervals_is_offline() {
    let (presence, clock, miner) = presence().await;
    assert!(presence.online(clock.now()).is_empty());
    presence.saw(&miner, None);
    clock.advance(Duration::from_secs(60));
    assert_eq!(presence.online(clock.now()).len(), 1);
    clock.advance(Duration::from_secs(1));
    assert!(presence.online(clock.now()).is_empty());
}

#[tokio::test]
async fn what_another_replica_hears_counts_here_too() {
    let (here, clock, miner) = presence().await;
    let there = Presence::new(here.db.clone(), clock.clone(), Leases::default());
    here.saw(&miner, None);
    here.flush().await.unwrap();
    there.refresh().await.unwrap();
    assert_eq!(there.online(clock.now()), [Arc::clone(&miner)]);
    drain_in_the_database(&there, &miner).await;
    clock.advance(Duration::from_secs(5));
    there.flush().await.unwrap();
    assert!(there.online(clock.now())[0].drain);
    clock.advance(Duration::from_secs(60));
    there.refresh().await.unwrap();
    assert!(there.online(clock.now()).is_empty());
}

async fn written(presence: &Presence) -> i64 {
    let mut tx = presence.db.read().await.unwrap();
    let sql = "select count(*) as written from miner_live";
    tx.row(sql, Default::default()).await.unwrap().unwrap().get("written").unwrap()
}

async fn execute(presence: &Presence, sql: &'static str) {
    let mut tx = presence.db.write().await.unwrap();
    tx.execute(sql, Default::default()).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_flush_keeps_what_it_wrote_and_what_it_could_not_write() {
    let (presence, clock, miner) = presence().await;
    for no in 1..=(MAX_CHUNK as i64) + 1 {
        let id: Name = format!("m{no}").parse().unwrap();
        presence.saw(&presence.changed(Miner { no, id, ..Miner::clone(&miner) }), None);
    }
    let refuse = "create trigger refuse before insert on miner_live when new.miner_no = 1001
                  begin select raise(abort, 'not this one'); end";
    execute(&presence, refuse).await;
    presence.flush().await.unwrap_err();
    assert_eq!(written(&presence).await, MAX_CHUNK as i64);
    execute(&presence, "drop trigger refuse").await;
    presence.flush().await.unwrap();
    assert_eq!(written(&presence).await, MAX_CHUNK as i64 + 1);
    assert_eq!(presence.online(clock.now()).len(), MAX_CHUNK + 1);
}

#[tokio::test]
async fn a_flush_writes_what_is_new_and_keeps_the_last_report() {
    let (presence, clock, miner) = presence().await;
    presence.saw(&miner, Some(json!({"inflight": 1})));
    presence.flush().await.unwrap();
    clock.advance(Duration::from_secs(1));
    presence.saw(&miner, None);
    presence.flush().await.unwrap();
    let mut tx = presence.db.read().await.unwrap();
    let rows = tx.rows("select seen_at, report from miner_live", Default::default());
    let rows = rows.await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<Timestamp>("seen_at").unwrap(), clock.now());
    assert_eq!(rows[0].get::<Value>("report").unwrap(), json!({"inflight": 1}));
}

#[test]
fn what_others_heard_is_read_once_and_as_far_back_as_a_miner_may_be_silent() {
    let now = Timestamp::from_micros(1_000_000_000_000_000);
    let ago = |secs: i64| now.plus_secs(-secs);
    let mut known = Known::default();
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    assert_eq!(known.hear_from(now, minutes(5)), ago(300));
    (known.refreshed_at, known.heard_from) = (Some(ago(4)), Some(ago(304)));
    assert_eq!(known.hear_from(now, minutes(5)), ago(4 + SKEW_SECS));
    // In a larger fleet they may be silent for longer than was read.
    assert_eq!(known.hear_from(now, minutes(9)), ago(540));
    // Nobody is heard of who counts as gone.
    assert_eq!(known.hear_from(now, Duration::from_secs(30)), ago(30));
    known.refreshed_at = Some(now.plus_secs(3600));
    assert_eq!(known.hear_from(now, minutes(5)), ago(300));
}

#[tokio::test]
async fn what_another_replica_hears_later_counts_here_too() {
    let (here, clock, miner) = presence().await;
    let there = Presence::new(here.db.clone(), clock.clone(), Leases::default());
    there.refresh().await.unwrap();
    clock.advance(Duration::from_secs(200));
    there.refresh().await.unwrap();
    here.saw(&miner, None);
    here.flush().await.unwrap();
    clock.advance(Duration::from_secs(4));
    there.refresh().await.unwrap();
    assert_eq!(there.online(clock.now()).len(), 1);
}

#[tokio::test]
async fn a_report_that_could_not_be_written_is_written_later() {
    let (presence, _, miner) = presence().await;
    presence.saw(&miner, Some(json!({"inflight": 1})));
    let refuse = "create trigger refuse before insert on miner_live
                  begin select raise(abort, 'not now'); end";
    execute(&presence, refuse).await;
    presence.flush().await.unwrap_err();
    execute(&presence, "drop trigger refuse").await;
    presence.flush().await.unwrap();
    let mut tx = presence.db.read().await.unwrap();
    let row = tx.row("select report from miner_live", Default::default()).await.unwrap().unwrap();
    assert_eq!(row.get::<Value>("report").unwrap(), json!({"inflight": 1}));
}
