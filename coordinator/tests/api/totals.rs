//! Totals of the market: out of the jobs and receipts themselves, so that no restart takes back or adds
//! anything.

use coordinator::stats::totals::{Through, Totals};
use protocol::Amount;
use protocol::proof::Credited;
use serde_json::json;

use crate::support::{TestApp, TestMiner, on_both_engines};

/// A day, in seconds.
const DAY: u64 = 86_400;

async fn look(totals: &mut Totals, app: &TestApp) -> Through {
    totals.look(&app.app.db, app.clock.now()).await.unwrap()
}

/// A job that takes a while, and what was paid for it.
async fn paid(app: &TestApp, miner: &TestMiner<'_>) -> Credited {
    let job = miner.take().await;
    miner.ack(&job).await.expect(200);
    app.advance(10);
    miner.prove(&miner.proof(&job, "done")).await.expect(201).json()
}

on_both_engines! {
    async fn they_go_on_over_days_and_restarts(app: TestApp) {
        let (client, miner) = (app.client("c1").await, app.registered("m1").await);
        let mut totals = Totals::default();
        assert_eq!(look(&mut totals, &app).await, Through::default());

        client.submit_any().await;
        let first = paid(&app, &miner).await;
        client.submit_any().await;
        let called_off = client.submit_any().await;
        client.cancel(called_off).await.expect(200);
        let seen = look(&mut totals, &app).await;
        assert_eq!((seen.submitted, seen.completed, seen.canceled, seen.failed), (3, 1, 1, 0));
        assert_eq!(seen.credited, first.receipt.price);
        assert!(seen.credited > Amount::ZERO);
        // Nothing is counted again by a look at the same things, by another replica, or after a
        // start.
        assert_eq!(look(&mut totals, &app).await, seen);
        assert_eq!(look(&mut Totals::default(), &app).await, seen);

        // Over the end of that day, and of another one on which nothing happens.
        for days in [1, 2] {
            app.advance(days * DAY);
            app.sweep().await;
            let later = look(&mut totals, &app).await;
            assert_eq!((later.submitted, later.completed, later.expired), (3, 1, 1), "{days}");
            assert_eq!(look(&mut Totals::default(), &app).await, later);
        }
        miner.heartbeat(json!({})).await.expect(200);
        client.submit_any().await;
        let second = paid(&app, &miner).await;
        let all = Through {
            submitted: 4,
            completed: 2,
            failed: 0,
            canceled: 1,
            expired: 1,
            credited: first.receipt.price.checked_add(second.receipt.price).unwrap(),
        };
        assert_eq!(look(&mut totals, &app).await, all);
        assert_eq!(look(&mut Totals::default(), &app).await, all);
    }

    async fn what_ends_around_a_look_is_counted_once(app: TestApp) {
        let (client, miner) = (app.client("c1").await, app.registered("m1").await);
        let mut totals = Totals::default();
        for count in 1..=20 {
            client.submit_any().await;
            miner.work().await;
            assert_eq!(look(&mut totals, &app).await.completed, count);
            // Some of these steps are shorter than what is looked at again each time, some longer.
            app.advance(u64::try_from(count).unwrap() * 17);
        }
        let seen = look(&mut totals, &app).await;
        assert_eq!((seen.submitted, seen.completed), (20, 20));
    }
}
