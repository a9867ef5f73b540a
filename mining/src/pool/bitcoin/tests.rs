//! What is said to a Bitcoin-style pool, and what follows from what it says.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ghostrider::HEADER_BYTES;

fn session() -> Session {
    let address = "stratum+tcp://pool.example:3333".parse().unwrap();
    let settings = Settings::new(address, "wallet.rig");
    Session::new(settings, Algorithm::GhostRider, Numbers::default())
}

fn hear(session: &mut Session, line: &Value) -> Vec<Step> {
    session.hear(line.to_string().as_bytes())
}

fn say(session: &mut Session, method: &str, params: &Value) -> Vec<Step> {
    hear(session, &json!({"id": null, "method": method, "params": params}))
}

fn subscribe(session: &mut Session, second_bytes: usize) -> Vec<Step> {
    session.greet();
    let result = json!([[["mining.notify", "x"]], "f000000f", second_bytes]);
    hear(session, &json!({"id": 1, "error": null, "result": result}))
}

fn notify(id: &str, previous: u8, clean: bool) -> Value {
    json!([
        id,
        hex::encode([previous; 32]),
        "0102",
        "0304",
        ["cd".repeat(32)],
        "20000000",
        "20001fff",
        "6b027c46",
        clean
    ])
}

fn told_job(steps: &[Step]) -> Job {
    match steps {
        [Step::Job(job)] => job.clone(),
        other => panic!("{other:?}"),
    }
}

fn fault(steps: &[Step]) -> Fault {
    match steps {
        [.., Step::End(fault)] => fault.clone(),
        other => panic!("{other:?}"),
    }
}

fn solution(job: u64, nonce: u32) -> Solution {
    Solution { number: 1, job, nonce, hash: [0; 32] }
}

fn sent(submission: Submission) -> Value {
    match submission {
        Submission::Send(request) => serde_json::from_str(&request.line).unwrap(),
        Submission::Settled(verdict) => panic!("{verdict}"),
    }
}

#[test]
fn after_the_subscription_comes_the_login() {
    let mut session = session();
    let steps = subscribe(&mut session, 4);
    let [Step::Replied { id: 1, .. }, Step::Send(login)] = &steps[..] else { panic!("{steps:?}") };
    let line: Value = serde_json::from_str(&login.line).unwrap();
    assert_eq!(
        (&line["method"], &line["params"]),
        (&json!("mining.authorize"), &json!(["wallet.rig", "x"]))
    );
    assert_eq!(login.id, Some(2));
    let steps = hear(&mut session, &json!({"id": 2, "result": true}));
    let [Step::Replied { id: 2, .. }, Step::Send(extra)] = &steps[..] else { panic!("{steps:?}") };
    assert!(extra.line.contains("mining.extranonce.subscribe") && extra.id.is_none());
    let refused = hear(&mut session, &json!({"id": 2, "result": false, "error": null}));
    assert!(fault(&refused).reason.contains("answered with false"));
    // However long a pool talks.
    let answer = format!("\u{1b}[2J\u{202e}{}", "x".repeat(60_000));
    let reason = fault(&hear(&mut session, &json!({"id": 2, "result": answer}))).reason;
    assert!(reason.starts_with("the login was answered with \""), "{reason}");
    assert!(reason.len() < 400 && !reason.contains(['\u{1b}', '\u{202e}']), "{reason}");
}

#[test]
fn a_share_is_written_as_pools_read_it() {
    let mut session = session();
    subscribe(&mut session, 4);
    assert_eq!(say(&mut session, "mining.set_difficulty", &json!([0.5])), []);
    let job = told_job(&say(&mut session, "mining.notify", &notify("j", 1, true)));
    assert_eq!(job.work.target, target(0.5).unwrap());
    assert_eq!((job.extra_nonce.len(), job.work.blob().len()), (4, HEADER_BYTES));
    let line = sent(session.submit(&solution(job.number, 0x0002_8000)));
    let params = json!(["wallet.rig", "j", "00000000", "6b027c46", "00028000"]);
    assert_eq!((&line["method"], &line["params"]), (&json!("mining.submit"), &params));
}

#[test]
fn other_values_are_for_the_next_job() {
    let mut session = session();
    subscribe(&mut session, 4);
    let first = told_job(&say(&mut session, "mining.notify", &notify("a", 1, true)));
    assert_eq!(say(&mut session, "mining.set_difficulty", &json!([2])), []);
    assert_eq!(say(&mut session, "mining.set_extranonce", &json!(["aabb", 2])), []);
    let second = told_job(&say(&mut session, "mining.notify", &notify("b", 1, false)));
    assert_eq!((first.extra_nonce.len(), second.extra_nonce.len()), (4, 2));
    assert!(second.work.target < first.work.target);
    // A pool that does not say "clean" still takes shares of the one before.
    sent(session.submit(&solution(first.number, 1)));
    say(&mut session, "mining.notify", &notify("c", 2, true));
    assert_eq!(session.submit(&solution(first.number, 2)), Submission::Settled(Verdict::Stale));
    assert_eq!(session.submit(&solution(second.number, 2)), Submission::Settled(Verdict::Stale));
}

#[test]
fn more_nonces_come_from_our_part_of_the_extra_nonce() {
    let mut session = session();
    subscribe(&mut session, 1);
    let first = told_job(&say(&mut session, "mining.notify", &notify("a", 1, true)));
    assert_eq!(session.more(first.number + 7), None);
    let mut newest = first.clone();
    let mut headers = HashSet::from([first.work.blob().to_vec()]);
    for _ in 1..256 {
        let next = session.more(newest.number).unwrap();
        assert_eq!(session.more(newest.number), None);
        assert!(headers.insert(next.work.blob().to_vec()));
        newest = next;
    }
    assert_eq!(session.more(newest.number), None);
    // The same job under another name brings no new nonces, another one does.
    assert_eq!(say(&mut session, "mining.notify", &notify("b", 1, true)), []);
    told_job(&say(&mut session, "mining.notify", &notify("c", 2, true)));
}

#[test]
fn another_connection_goes_on_behind_the_one_before() {
    let numbers = Numbers::with_extra(0xffff_fffe);
    let mut headers = HashSet::new();
    for _ in 0..4 {
        let settings = session().settings;
        let mut session = Session::new(settings, Algorithm::GhostRider, numbers.clone());
        subscribe(&mut session, 8);
        // The pool gives the same bytes each time.
        let first = told_job(&say(&mut session, "mining.notify", &notify("a", 1, true)));
        let next = session.more(first.number).unwrap();
        for job in [first, next] {
            assert!(headers.insert(job.work.blob().to_vec()), "{:?}", job.extra_nonce);
        }
    }
}

#[test]
fn a_pool_sends_us_only_to_itself() {
    let session = session();
    let there = |host: Option<&str>, port| {
        session.reconnect(&Reconnect { host: host.map(str::to_owned), port, wait_secs: 99_999 })
    };
    let address = |fault: Fault| match fault.wait {
        Wait::Redirected { address, after } => {
            assert!(after <= LONGEST_WAIT);
            Some(address.to_string())
        }
        _ => None,
    };
    assert_eq!(address(there(None, None)).unwrap(), "stratum+tcp://pool.example:3333");
    assert_eq!(
        address(there(Some("EU.pool.example"), Some(1))).unwrap(),
        "stratum+tcp://eu.pool.example:1"
    );
    for host in
        ["evil.example", "notpool.example", "example", "10.0.0.1", "pool.example.evil", "a b"]
    {
        assert_eq!(address(there(Some(host), Some(3333))), None, "{host}");
    }
}

#[test]
fn answers_have_their_meaning() {
    let mut session = session();
    subscribe(&mut session, 4);
    let job = told_job(&say(&mut session, "mining.notify", &notify("j", 1, true)));
    let mut nonce = 0;
    let mut answer = |mut line: Value| {
        nonce += 1;
        line["id"] = sent(session.submit(&solution(job.number, nonce)))["id"].clone();
        let steps = hear(&mut session, &line);
        // An answer that comes again says nothing.
        assert_eq!(hear(&mut session, &line), []);
        let Step::Replied { verdict, .. } = steps[0].clone() else { panic!() };
        (verdict, steps.len())
    };
    let rejected = |text: &str| Verdict::Rejected(text.into());
    assert_eq!(answer(json!({"result": true, "error": null})), (Verdict::Accepted, 1));
    let low = json!({"result": null, "error": [23, "low difficulty share", null]});
    assert_eq!(answer(low), (rejected("low difficulty share"), 1));
    let late = json!({"result": null, "error": [21, "Invalid job id", null]});
    assert_eq!(answer(late), (Verdict::Stale, 1));
    let unknown = json!({"result": null, "error": [24, "unauthorized worker", null]});
    assert_eq!(answer(unknown), (rejected("unauthorized worker"), 2));
    assert_eq!(answer(json!({"result": false})), (rejected("no reason given"), 1));
}

#[test]
fn who_refuses_what_is_no_share_is_stayed_with() {
    for code in [20, 24, 25] {
        let mut session = session();
        subscribe(&mut session, 4);
        let steps = hear(&mut session, &json!({"id": 2, "result": true}));
        let [.., Step::Send(extra)] = &steps[..] else { panic!("{steps:?}") };
        let extra: Value = serde_json::from_str(&extra.line).unwrap();
        let error = json!([code, "Not subscribed", null]);
        let refusal = json!({"id": extra["id"], "result": null, "error": error});
        assert_eq!(hear(&mut session, &refusal), [], "{code}");
        told_job(&say(&mut session, "mining.notify", &notify("j", 1, true)));
    }
}

#[test]
fn a_pool_may_ask_who_we_are() {
    let mut session = session();
    let steps = hear(&mut session, &json!({"id": 5, "method": "client.get_version", "params": []}));
    let [Step::Send(request)] = &steps[..] else { panic!("{steps:?}") };
    assert!(request.line.contains(AGENT) && request.id.is_none());
}

#[test]
fn a_job_before_the_subscription_is_refused() {
    let steps = say(&mut session(), "mining.notify", &notify("a", 1, true));
    assert!(fault(&steps).reason.contains("before the subscription"));
}

#[derive(Debug, Clone)]
enum Act {
    Notify {
        previous: u8,
        clean: bool,
    },
    Difficulty(u8),
    More,
    /// The connection ends, and the pool gives the next one the same bytes.
    Reconnect,
    /// Try so many nonces of the newest job, the next ones or the last ones of its range.
    Try {
        count: u8,
        at_end: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..3_u8, any::<bool>()).prop_map(|(previous, clean)| Act::Notify { previous, clean }),
        (1..4_u8).prop_map(Act::Difficulty),
        Just(Act::More),
        Just(Act::Reconnect),
        (1..20_u8, any::<bool>()).prop_map(|(count, at_end)| Act::Try { count, at_end }),
    ]
}

/// What may be tried, with the first and the last nonce of it.
fn range() -> impl Strategy<Value = (NonceRange, u32, u32)> {
    let last_of = |top: u8| u32::from(top) << 24 | 0x00ff_ffff;
    prop_oneof![
        Just((NonceRange::ALL, 0, u32::MAX)),
        any::<u8>().prop_map(move |top| {
            (NonceRange::below_byte(top), u32::from(top) << 24, last_of(top))
        }),
        (1..100_u32).prop_map(|count| (NonceRange::first(count), 0, count - 1)),
    ]
}

/// One after the other as a miner takes them, from either end of the range.
#[derive(Debug, Clone)]
struct Cursor {
    job: Job,
    next: u64,
    end: u64,
}

proptest! {
    /// Whatever a pool repeats, on how many connections, and however often nonces run out: no
    /// header is hashed twice, and no nonce lies outside of its range.
    #[test]
    fn no_nonce_comes_twice(
        second_bytes in 2..=16_usize,
        begin in any::<u32>(),
        (nonces, first, last) in range(),
        acts in vec(act(), 1..60),
    ) {
        let numbers = Numbers::with_extra(begin.into());
        let connect = || {
            let settings = session().settings;
            let mut session = Session::new(settings, Algorithm::GhostRider, numbers.clone());
            subscribe(&mut session, second_bytes);
            session
        };
        let mut session = connect();
        let mut headers = HashSet::new();
        let mut newest: Option<Cursor> = None;
        for act in acts {
            let steps = match act {
                Act::Notify { previous, clean } => {
                    say(&mut session, "mining.notify", &notify("j", previous, clean))
                }
                Act::Difficulty(difficulty) => {
                    say(&mut session, "mining.set_difficulty", &json!([difficulty]))
                }
                Act::More => {
                    let more = newest.as_ref().and_then(|newest| session.more(newest.job.number));
                    more.map(Step::Job).into_iter().collect()
                }
                Act::Reconnect => {
                    (session, newest) = (connect(), None);
                    Vec::new()
                }
                Act::Try { count, at_end } => {
                    for _ in 0..count {
                        let Some(Cursor { job, next, end }) = &mut newest else { break };
                        if next == end {
                            break;
                        }
                        let index = if at_end { *end - 1 } else { *next };
                        if at_end { *end -= 1 } else { *next += 1 }
                        let nonce = job.work.nonces.get(index).unwrap();
                        prop_assert!((first..=last).contains(&nonce), "{nonce:#x}");
                        let mut header = job.work.blob().to_vec();
                        job.work.put_nonce(&mut header, nonce);
                        prop_assert!(headers.insert(header), "{nonce} of {}", job.number);
                    }
                    Vec::new()
                }
            };
            if let [Step::Job(job)] = &steps[..] {
                let mut job = job.clone();
                job.work.nonces = nonces;
                let end = u64::from(last - first) + 1;
                prop_assert_eq!((nonces.get(end - 1), nonces.get(end)), (Some(last), None));
                newest = Some(Cursor { job, next: 0, end });
            }
        }
    }
}
