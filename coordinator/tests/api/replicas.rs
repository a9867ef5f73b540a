//! Two replicas on one PostgreSQL.

use std::time::Duration;

use coordinator::app::{App, Parts};
use coordinator::artifacts::Artifacts;
use coordinator::auth::Auth;
use coordinator::router::router;
use ed25519_dalek::SigningKey;
use protocol::Job;

use crate::support::{Engine, Request, TestApp};

#[tokio::test]
async fn a_job_submitted_to_one_wakes_a_miner_that_waits_at_the_other() {
    // Looked for by itself once in an hour: what comes at once was a notice.
    let one = TestApp::with(Engine::Postgres, |config| config.leases.look_secs = 3600).await;
    let parts = Parts {
        config: (*one.app.config).clone(),
        db: one.app.db.clone(),
        clock: one.clock.clone(),
        auth: Auth::keys(),
        artifacts: Artifacts::memory(),
        attestor: SigningKey::from_bytes(&[42; 32]),
    };
    let other = router(App::start(parts).await.unwrap());
    let client = one.client("c1").await;
    let miner = one.registered("m1").await;
    for _ in 0..3 {
        let path = "/v1/miner/next?miner=m1&slots=1&wait=30";
        let waiting = Request::get(path).key(&miner.key).send_to(&other);
        let submitting = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            client.submit_any().await
        };
        let (reply, id) = tokio::join!(waiting, submitting);
        assert_eq!(reply.expect(200).json::<Job>().id, id);
    }
}
