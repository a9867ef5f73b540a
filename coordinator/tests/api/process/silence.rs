//! A network that swallows everything without a word: nothing waits for ever, and nothing is kept.

use std::time::Duration;

use coordinator::db::{ANSWER_TIMEOUT, Db, DbError};
use tokio::time::{Instant, timeout};

use super::proxy::Proxy;
use crate::support::PostgresDatabase;

#[tokio::test]
async fn a_connection_that_died_in_silence_is_given_up_and_replaced() {
    let (_database, proxy, db) = database().await;
    let writing = db.write().await.unwrap();
    proxy.silence();
    // From here on the clock jumps to whatever is waited for.
    tokio::time::pause();
    let started = Instant::now();
    let error = writing.commit().await.unwrap_err();
    assert!(matches!(error, DbError::Unavailable(_)), "{error}");
    assert_eq!(started.elapsed().as_secs(), ANSWER_TIMEOUT.as_secs());
    tokio::time::sleep(Duration::from_secs(10)).await;
    tokio::time::resume();
    // Both places of the pool: none is held by a connection that nobody answers on.
    let (one, two) = tokio::join!(db.read(), db.read());
    one.unwrap().commit().await.unwrap();
    two.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn who_listens_notices_that_nobody_speaks_any_more() {
    let (database, proxy, db) = database().await;
    let mut notices = db.listen().await.unwrap().unwrap();
    db.notify("before").await.unwrap();
    assert_eq!(notices.next().await.unwrap().as_deref(), Some("before"));
    proxy.silence();
    tokio::time::pause();
    let lost = timeout(Duration::from_secs(120), notices.next()).await;
    assert!(lost.expect("notices that something is wrong").is_err());
    tokio::time::resume();
    let mut anew = db.listen().await.unwrap().unwrap();
    let direct = Db::open(&database.url, 2).unwrap();
    direct.notify("after").await.unwrap();
    assert_eq!(anew.next().await.unwrap().as_deref(), Some("after"));
}

async fn database() -> (PostgresDatabase, Proxy, Db) {
    let database = PostgresDatabase::create().await;
    let proxy = Proxy::start(database.server()).await;
    proxy.set(true);
    // Two for statements, one to listen.
    let db = Db::open(&proxy.url(&database.url), 3).unwrap();
    db.ping().await.unwrap();
    (database, proxy, db)
}
