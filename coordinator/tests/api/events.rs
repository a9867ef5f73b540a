//! Following a job: server-sent events, live and replayed.

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::{Request as HttpRequest, StatusCode, header};
use coordinator::db::Args;
use futures_util::StreamExt as _;
use protocol::event::{Happening, JobEvent};
use protocol::{ErrorCode, Job, JobId, JobState};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{Client, Engine, Request, TestApp, TestMiner, on_both_engines};

/// A stream of events as its client reads it.
struct Stream {
    body: BodyDataStream,
    unread: String,
}

impl Stream {
    /// Follows a job from after the event `after`.
    async fn open(router: &Router, key: &str, job: JobId, after: u32) -> Self {
        let request = HttpRequest::get(path(job))
            .header(header::AUTHORIZATION, format!("Bearer {key}"))
            .header("last-event-id", after.to_string())
            .body(Body::empty())
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), unread: String::new() }
    }

    /// The next event; `None`: the stream has ended.
    async fn next(&mut self) -> Option<JobEvent> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let event = parse(block);
                self.unread = rest.to_owned();
                if event.is_some() {
                    return event;
                }
                continue;
            }
            let chunk = self.body.next().await?.unwrap();
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn state(&mut self) -> JobState {
        match self.next().await.unwrap().what {
            Happening::State { state, .. } => state,
            other => panic!("{other:?}"),
        }
    }

    async fn rest(mut self) -> Vec<JobEvent> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// An event out of its lines; `None`: a comment, or what has no data.
fn parse(block: &str) -> Option<JobEvent> {
    let field = |name: &str| {
        let start = format!("{name}: ");
        block.lines().find_map(|line| line.strip_prefix(&start))
    };
    let event: JobEvent = serde_json::from_str(field("data")?).unwrap();
    assert_eq!(field("id"), Some(event.seq.to_string().as_str()));
    assert_eq!(field("event"), Some(event.what.kind()));
    Some(event)
}

fn path(job: JobId) -> String {
    format!("/v1/jobs/{job}/events")
}

async fn log(miner: &TestMiner<'_>, job: &Job, seq: i64, text: &str) {
    let chunk = json!({"stream": "stdout", "seq": seq, "text": text});
    miner.about(job, "logs", chunk).await.expect(200);
}

async fn progress(miner: &TestMiner<'_>, job: &Job, pct: u8) {
    miner.about(job, "progress", json!({"pct": pct})).await.expect(200);
}

/// The kinds and states of events, in words.
fn words(events: &[JobEvent]) -> Vec<String> {
    let word = |event: &JobEvent| match &event.what {
        Happening::State { state, .. } => state.to_string(),
        Happening::Progress { pct, .. } => format!("progress {}", pct.unwrap()),
        Happening::Log { fence, text, .. } => format!("log {fence} {}", text.clone().unwrap()),
    };
    events.iter().map(word).collect()
}

fn text_of(events: &[JobEvent]) -> String {
    let texts = events.iter().filter_map(|event| match &event.what {
        Happening::Log { text, .. } => text.clone(),
        _ => None,
    });
    texts.collect()
}

/// A job that ran with progress and a log, and its events.
async fn ended_job(app: &TestApp, client: &Client<'_>) -> (JobId, Vec<JobEvent>) {
    let miner = app.registered("m1").await;
    let id = client.submit_any().await;
    let job = miner.take().await;
    miner.ack(&job).await.expect(200);
    progress(&miner, &job, 50).await;
    log(&miner, &job, 0, "hello\n").await;
    miner.prove(&miner.proof(&job, "x")).await.expect(201);
    let events = Stream::open(&app.router, &client.key, id, 0).await.rest().await;
    (id, events)
}

on_both_engines! {
    async fn a_job_is_followed_from_submit_to_end(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let mut stream = Stream::open(&app.router, &client.key, id, 0).await;
        let mut other = Stream::open(&app.router, &app.admin_key, id, 0).await;
        assert_eq!(stream.state().await, JobState::Queued);
        let job = miner.take().await;
        assert_eq!(stream.state().await, JobState::Assigned);
        miner.ack(&job).await.expect(200);
        assert_eq!(stream.state().await, JobState::Running);
        progress(&miner, &job, 10).await;
        let expected = Happening::Progress { pct: Some(10), note: None };
        assert_eq!(stream.next().await.unwrap().what, expected);
        log(&miner, &job, 0, "hello\n").await;
        assert_eq!(text_of(&[stream.next().await.unwrap()]), "hello\n");
        assert_eq!(other.state().await, JobState::Queued);
        miner.prove(&miner.proof(&job, "x")).await.expect(201);
        let last = stream.next().await.unwrap();
        assert_eq!((last.seq, last.what.is_last()), (6, true));
        assert_eq!(stream.next().await, None);
        let rest = other.rest().await;
        assert_eq!(words(&rest), ["ASSIGNED", "RUNNING", "progress 10", "log 1 hello\n", "COMPLETED"]);
    }

    async fn a_stream_goes_on_after_any_event(app: TestApp) {
        let client = app.client("c1").await;
        let (id, events) = ended_job(&app, &client).await;
        let numbers: Vec<u32> = events.iter().map(|event| event.seq).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        for after in 0..6 {
            let rest = Stream::open(&app.router, &client.key, id, after).await.rest().await;
            assert_eq!(rest, events[after as usize..]);
        }
        let by_query = client.get(&format!("{}?after=4", path(id))).await.expect(200);
        assert!(by_query.text().starts_with("retry: 1000\n\nid: 5\nevent: log\n"), "{}", by_query.text());
        client.get(&format!("{}?after=6", path(id))).await.expect(204);
    }

    async fn nobody_goes_on_after_an_event_that_is_not_there(app: TestApp) {
        let client = app.client("c1").await;
        let (ended, _) = ended_job(&app, &client).await;
        let queued = client.submit_any().await;
        for (job, last) in [(ended, 6), (queued, 1)] {
            for beyond in [last + 1, u32::MAX] {
                let query = client.get(&format!("{}?after={beyond}", path(job))).await;
                assert_eq!(query.refused(ErrorCode::InvalidParam).field(), "after");
                let header = Request::get(&path(job)).header("last-event-id", &beyond.to_string());
                let header = client.send(header).await;
                assert_eq!(header.refused(ErrorCode::InvalidParam).field(), "last-event-id");
            }
        }
    }

    async fn long_texts_are_read_a_few_at_a_time(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let job = miner.take().await;
        miner.ack(&job).await.expect(200);
        let text = "x".repeat(40 * 1024);
        for seq in 0..5 {
            log(&miner, &job, seq, &text).await;
        }
        miner.prove(&miner.proof(&job, "x")).await.expect(201);
        let mut tx = app.app.db.read().await.unwrap();
        let read = coordinator::events::store::read(&mut tx, &[(id, 0), (id, 0)]).await.unwrap();
        tx.commit().await.unwrap();
        for events in read {
            let size = text_of(&events).len();
            assert!((1..=128 * 1024).contains(&size), "{size}");
        }
        let events = Stream::open(&app.router, &client.key, id, 0).await.rest().await;
        assert_eq!(text_of(&events).len(), 5 * text.len());
    }

    async fn a_history_of_many_events_comes_whole(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let job = miner.take().await;
        for pct in 0..40 {
            app.advance(1);
            progress(&miner, &job, pct).await;
        }
        client.cancel(id).await.expect(200);
        let events = Stream::open(&app.router, &client.key, id, 0).await.rest().await;
        assert_eq!(events.len(), 44);
        assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
    }

    async fn a_chatty_miner_makes_one_progress_event_a_second(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let job = miner.take().await;
        for pct in [1, 2, 3] {
            progress(&miner, &job, pct).await;
        }
        assert_eq!(client.job(id).await.progress.unwrap().pct, Some(3));
        app.advance(1);
        progress(&miner, &job, 4).await;
        client.cancel(id).await.expect(200);
        let events = Stream::open(&app.router, &client.key, id, 0).await.rest().await;
        let expected = ["QUEUED", "ASSIGNED", "RUNNING", "progress 1", "progress 4", "CANCELED"];
        assert_eq!(words(&events), expected);
    }

    async fn the_rest_of_a_log_comes_when_it_is_paid(app: TestApp) {
        let client = app.client("c1").await;
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        let lines = |word: &str| format!("{word}\n").repeat(3000 / (word.len() + 1));
        let first = miner.take().await;
        miner.ack(&first).await.expect(200);
        log(&miner, &first, 0, &lines("vain")).await;
        log(&miner, &first, 1, &lines("lost")).await;
        miner.fail(&first, "E_CRASH").await.expect(200);
        let second = miner.take().await;
        miner.ack(&second).await.expect(200);
        let all = [lines("one"), lines("two"), "é".to_owned(), lines("three")];
        for (seq, text) in (0..).zip(&all) {
            log(&miner, &second, seq, text).await;
        }
        log(&miner, &second, 0, "again").await;
        let mut live = Stream::open(&app.router, &client.key, id, 0).await;
        let mut shown = Vec::new();
        while shown.len() < 10 {
            shown.push(live.next().await.unwrap());
        }
        let of = |fence: i64, events: &[JobEvent]| {
            let of_lease = |event: &&JobEvent| matches!(
                &event.what, Happening::Log { fence: of, .. } if *of == fence
            );
            text_of(&events.iter().filter(of_lease).cloned().collect::<Vec<_>>())
        };
        assert_eq!((of(1, &shown).len(), of(2, &shown).len()), (4096, 4096));
        miner.prove(&miner.proof(&second, "x")).await.expect(201);
        let rest = live.rest().await;
        assert!(rest.last().unwrap().what.is_last());
        shown.extend(rest);
        assert_eq!(of(2, &shown), all.concat());
        // Nobody gets results for nothing.
        assert_eq!(of(1, &shown).len(), 4096);
        assert_eq!(Stream::open(&app.router, &client.key, id, 0).await.rest().await, shown);
    }

    async fn what_was_deleted_keeps_its_place(app: TestApp) {
        let client = app.client("c1").await;
        let (id, before) = ended_job(&app, &client).await;
        client.send(Request::delete(&format!("/v1/jobs/{id}"))).await.expect(204);
        let after = Stream::open(&app.router, &client.key, id, 0).await.rest().await;
        assert_eq!(text_of(&before), "hello\n");
        assert_eq!(text_of(&after), "");
        assert_eq!(after.len(), before.len());
        assert!(matches!(after[4].what, Happening::Log { text: None, .. }));
    }

    async fn a_job_is_followed_by_its_client_and_operators_only(app: TestApp) {
        let (client, stranger) = (app.client("c1").await, app.client("c2").await);
        let miner = app.registered("m1").await;
        let id = client.submit_any().await;
        stranger.get(&path(id)).await.refused(ErrorCode::JobNotFound);
        stranger.get("/v1/jobs/x/events").await.refused(ErrorCode::JobNotFound);
        miner.get(&path(id)).await.refused(ErrorCode::ForbiddenScope);
        let bad = Request::get(&path(id)).header("last-event-id", "x");
        assert_eq!(client.send(bad).await.refused(ErrorCode::InvalidParam).field(), "last-event-id");
        let bad = client.get(&format!("{}?after=x", path(id))).await;
        assert_eq!(bad.refused(ErrorCode::InvalidParam).field(), "after");
    }

    async fn a_revoked_key_ends_its_streams(app: TestApp) {
        let client = app.client("c1").await;
        let id = client.submit_any().await;
        let mut stream = Stream::open(&app.router, &client.key, id, 0).await;
        let mut stays = Stream::open(&app.router, &app.admin_key, id, 0).await;
        assert_eq!(stream.state().await, JobState::Queued);
        assert_eq!(stays.state().await, JobState::Queued);
        let key_id = client.key.split('.').next().unwrap();
        let revoke = Request::delete(&format!("/v1/admin/keys/{key_id}")).key(&app.admin_key);
        revoke.send(&app).await.expect(204);
        assert_eq!(stream.next().await, None);
        app.registered("m1").await.take().await;
        assert_eq!(stays.state().await, JobState::Assigned);
    }

    async fn streams_end_when_the_coordinator_goes_down(app: TestApp) {
        let client = app.client("c1").await;
        let id = client.submit_any().await;
        let mut stream = Stream::open(&app.router, &client.key, id, 0).await;
        assert_eq!(stream.state().await, JobState::Queued);
        app.app.follow.drain();
        assert_eq!(stream.next().await, None);
        assert_eq!(Stream::open(&app.router, &client.key, id, 0).await.rest().await, []);
    }

    async fn a_key_has_so_many_streams(app: TestApp) {
        let narrow = TestApp::with(app.engine(), |config| {
            config.limits.event_streams_per_key = 1;
        }).await;
        let client = narrow.client("c1").await;
        let id = client.submit_any().await;
        let mut stream = Stream::open(&narrow.router, &client.key, id, 0).await;
        assert_eq!(stream.state().await, JobState::Queued);
        client.get(&path(id)).await.refused(ErrorCode::RateLimited);
    }

    async fn followers_that_went_away_are_forgotten(app: TestApp) {
        let id = app.client("c1").await.submit_any().await;
        let mut tx = app.app.db.write().await.unwrap();
        let until = app.clock.now().plus_secs(30);
        coordinator::events::store::announce(&mut tx, &[id, id], until).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(followers(&app).await, 1);
        app.advance(61);
        app.sweep().await;
        assert_eq!(followers(&app).await, 0);
    }
}

async fn followers(app: &TestApp) -> i64 {
    let mut tx = app.app.db.read().await.unwrap();
    let row = tx.row("select count(*) as followers from followers", Args::new()).await.unwrap();
    row.unwrap().get("followers").unwrap()
}

/// The jobs of the next notice about jobs.
async fn told(notices: &mut coordinator::db::Notices) -> String {
    loop {
        let notice = notices.next().await.unwrap().unwrap();
        if let Some((_, jobs)) = notice.split_once(" jobs ") {
            return jobs.to_owned();
        }
    }
}

#[tokio::test]
async fn a_job_is_followed_at_another_replica_than_its_miners() {
    // Looked for by itself once in an hour: what comes at once was a notice.
    let app = TestApp::with(Engine::Postgres, |config| config.leases.look_secs = 3600).await;
    let other = app.replica().await;
    let mut notices = app.app.db.listen().await.unwrap().unwrap();
    let client = app.client("c1").await;
    let miner = app.registered("m1").await;
    // Nobody follows this one, and nobody is told of it.
    client.submit_any().await;
    miner.work().await;
    let id = client.submit_any().await;
    let mut stream = Stream::open(&other.router, &client.key, id, 0).await;
    assert_eq!(stream.state().await, JobState::Queued);
    let (job, next) = tokio::join!(
        async {
            while followers(&app).await == 0 {
                tokio::task::yield_now().await;
            }
            miner.take().await
        },
        stream.state(),
    );
    assert_eq!(next, JobState::Assigned);
    assert_eq!(told(&mut notices).await, id.to_string());
    miner.ack(&job).await.expect(200);
    assert_eq!(stream.state().await, JobState::Running);
    log(&miner, &job, 0, "hello\n").await;
    assert_eq!(text_of(&[stream.next().await.unwrap()]), "hello\n");
    miner.prove(&miner.proof(&job, "x")).await.expect(201);
    assert_eq!(stream.state().await, JobState::Completed);
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn what_no_notice_told_is_found_by_looking() {
    let app = TestApp::with(Engine::Postgres, |config| config.leases.look_secs = 1).await;
    let client = app.client("c1").await;
    let id = client.submit_any().await;
    let mut stream = Stream::open(&app.router, &client.key, id, 0).await;
    assert_eq!(stream.state().await, JobState::Queued);
    // By somebody who tells nobody.
    let mut tx = app.app.db.write().await.unwrap();
    let sql = "insert into job_events (job_id, seq, at, kind, data)
               values ($1, 2, $2, 'state', $3)";
    let data: Value = json!({"state": "CANCELED"});
    tx.execute(sql, Args::new().with(id).with(app.clock.now()).with(data)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(stream.state().await, JobState::Canceled);
}
