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
    /// Try so many nonces of the newest job.
    Try(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..3_u8, any::<bool>()).prop_map(|(previous, clean)| Act::Notify { previous, clean }),
        (1..4_u8).prop_map(Act::Difficulty),
        Just(Act::More),
        (1..20_u8).prop_map(Act::Try),
    ]
}

proptest! {
    /// Whatever a pool repeats and however often nonces run out: no header is hashed twice.
    #[test]
    fn no_nonce_comes_twice(second_bytes in 2..9_usize, acts in vec(act(), 1..60)) {
        let mut session = session();
        subscribe(&mut session, second_bytes);
        let mut headers = HashSet::new();
        let mut newest: Option<(Job, u32)> = None;
        for act in acts {
            let steps = match act {
                Act::Notify { previous, clean } => {
                    say(&mut session, "mining.notify", &notify("j", previous, clean))
                }
                Act::Difficulty(difficulty) => {
                    say(&mut session, "mining.set_difficulty", &json!([difficulty]))
                }
                Act::More => {
                    let more = newest.as_ref().and_then(|(job, _)| session.more(job.number));
                    more.map(Step::Job).into_iter().collect()
                }
                Act::Try(count) => {
                    if let Some((job, next)) = &mut newest {
                        for nonce in *next..*next + u32::from(count) {
                            let mut header = job.work.blob().to_vec();
                            job.work.put_nonce(&mut header, nonce);
                            prop_assert!(headers.insert(header), "{nonce} of {}", job.number);
                        }
                        *next += u32::from(count);
                    }
                    Vec::new()
                }
            };
            if let [Step::Job(job)] = &steps[..] {
                newest = Some((job.clone(), 0));
            }
        }
    }
}
