//! What is said to a Monero-style pool, and what follows from what it says.

use serde_json::{Value, json};

use super::*;
use crate::pool::dialect::Wait;

const SEED: &str = "4180000000000000000000000000000000000000000000000000000000000032";

fn session(change: impl FnOnce(&mut Settings)) -> Session {
    let address = "stratum+tcp://pool.example:3333".parse().unwrap();
    let mut settings = Settings::new(address, "wallet");
    change(&mut settings);
    Session::new(settings, Numbers::default())
}

fn job(id: &str, nonce: &str) -> Value {
    let blob = format!("{}{nonce}{}", "10".repeat(39), "aa".repeat(33));
    json!({"blob": blob, "job_id": id, "target": "b88d0600", "algo": "rx/0", "height": 7,
        "seed_hash": SEED, "next_seed_hash": ""})
}

fn hear(session: &mut Session, line: &Value) -> Vec<Step> {
    session.hear(line.to_string().as_bytes())
}

fn enter(session: &mut Session, job: &Value, extensions: &[&str]) -> Vec<Step> {
    session.greet();
    let result = json!({"id": "s1", "job": job, "extensions": extensions, "status": "OK"});
    hear(session, &json!({"id": 1, "error": null, "result": result}))
}

fn told_job(steps: &[Step]) -> &Job {
    match steps {
        [.., Step::Job(job)] => job,
        other => panic!("{other:?}"),
    }
}

fn fault(steps: &[Step]) -> &Fault {
    match steps {
        [.., Step::End(fault)] => fault,
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
fn a_login_says_who_and_what() {
    let mut session = session(|settings| settings.rig_id = Some("rig".into()));
    let line: Value = serde_json::from_str(&session.greet().line).unwrap();
    assert_eq!(line["method"], "login");
    let params = &line["params"];
    assert_eq!((&params["login"], &params["pass"]), (&json!("wallet"), &json!("x")));
    assert_eq!((&params["agent"], &params["rigid"]), (&json!(AGENT), &json!("rig")));
    assert!(params["algo"].as_array().unwrap().contains(&json!("rx/0")));
}

#[test]
fn a_share_is_written_as_pools_read_it() {
    let mut session = session(|_| {});
    let steps = enter(&mut session, &job("j1", "00000000"), &["algo"]);
    let job = told_job(&steps);
    assert_eq!((job.height, job.next_seed), (Some(7), None));
    assert_eq!(job.work.nonces, NonceRange::ALL);
    let line = sent(session.submit(&solution(job.number, 0x0403_0201)));
    let zeros = "00".repeat(32);
    let params = json!({"id": "s1", "job_id": "j1", "nonce": "01020304", "result": zeros,
        "algo": "rx/0"});
    assert_eq!((&line["method"], &line["params"]), (&json!("submit"), &params));
}

#[test]
fn what_is_stale_or_no_share_is_not_sent() {
    let mut session = session(|_| {});
    let first = told_job(&enter(&mut session, &job("j1", "00000000"), &[])).number;
    let high = Solution { hash: [0xff; 32], ..solution(first, 1) };
    assert!(matches!(session.submit(&high), Submission::Settled(Verdict::Rejected(_))));
    sent(session.submit(&solution(first, 1)));
    assert!(matches!(
        session.submit(&solution(first, 1)),
        Submission::Settled(Verdict::Rejected(_))
    ));
    let steps = hear(&mut session, &json!({"method": "job", "params": job("j2", "00000000")}));
    let second = told_job(&steps).number;
    assert_eq!(session.submit(&solution(first, 2)), Submission::Settled(Verdict::Stale));
    // Another name for the same bytes: nonce 1 was sent already.
    assert!(matches!(
        session.submit(&solution(second, 1)),
        Submission::Settled(Verdict::Rejected(_))
    ));
    sent(session.submit(&solution(second, 2)));
}

#[test]
fn the_same_job_again_changes_nothing() {
    let mut session = session(|_| {});
    let number = told_job(&enter(&mut session, &job("j1", "00000000"), &[])).number;
    assert_eq!(hear(&mut session, &json!({"method": "job", "params": job("j1", "00000000")})), []);
    sent(session.submit(&solution(number, 1)));
}

#[test]
fn a_proxy_keeps_the_upper_byte() {
    let range = NonceRange::below_byte;
    let first = |change: fn(&mut Settings), nonce, extensions: &[&str]| {
        told_job(&enter(&mut session(change), &job("j", nonce), extensions)).work.nonces
    };
    assert_eq!(first(|_| {}, "000000ab", &[]), range(0xab));
    assert_eq!(first(|_| {}, "01000000", &[]), range(0));
    assert_eq!(first(|_| {}, "00000000", &["nicehash"]), range(0));
    assert_eq!(first(|settings| settings.nicehash = true, "00000000", &[]), range(0));
}

#[test]
fn an_idle_pool_is_asked_only_if_it_understands() {
    let mut plain = session(|_| {});
    assert_eq!(plain.keep_alive(), None);
    enter(&mut plain, &job("j", "00000000"), &[]);
    assert_eq!(plain.keep_alive(), None);
    let mut able = session(|_| {});
    enter(&mut able, &job("j", "00000000"), &["keepalive"]);
    assert!(able.keep_alive().unwrap().line.contains("\"keepalived\""));
}

#[test]
fn answers_have_their_meaning() {
    let mut session = session(|_| {});
    enter(&mut session, &job("j", "00000000"), &[]);
    let answer = |session: &mut Session, error: Value| {
        let steps = hear(session, &json!({"id": 9, "error": error, "result": {"status": "OK"}}));
        (steps.len(), steps.into_iter().next().unwrap())
    };
    let replied = |verdict| Step::Replied { id: 9, verdict };
    assert_eq!(answer(&mut session, Value::Null), (1, replied(Verdict::Accepted)));
    let error = json!({"code": -1, "message": "Low diff share"});
    let rejected = Verdict::Rejected("Low diff share".into());
    assert_eq!(answer(&mut session, error), (1, replied(rejected)));
    assert_eq!(answer(&mut session, json!({"message": "Stale share"})).1, replied(Verdict::Stale));
    let lost = Verdict::Rejected("Unauthenticated".into());
    assert_eq!(answer(&mut session, json!({"message": "Unauthenticated"})), (2, replied(lost)));
}

#[test]
fn what_cannot_go_on_ends_with_a_reason() {
    let end = |line: &Value| {
        let mut session = session(|settings| settings.algorithm = Some(Algorithm::RandomX));
        enter(&mut session, &job("j", "00000000"), &[]);
        fault(&hear(&mut session, line)).clone()
    };
    let with = |key: &str, value: Value| {
        let mut job = job("k", "00000000");
        job[key] = value;
        end(&json!({"method": "job", "params": job})).reason
    };
    assert!(with("algo", json!("cn/r")).contains("unknown algorithm \"cn/r\""));
    assert!(with("blob", json!("1010")).contains("no room for a nonce"));
    assert!(with("blob", json!("zz")).contains("no job"));
    assert!(with("target", json!("00000000")).contains("target"));
    assert!(with("seed_hash", json!("00")).contains("seed_hash"));
    assert!(with("seed_hash", Value::Null).contains("no seed_hash"));
    assert!(with("next_seed_hash", json!("0")).contains("next_seed_hash"));
    let banned = end(&json!({"id": null, "error": {"message": "your IP is banned"}}));
    assert_eq!(banned.wait, Wait::Banned);
}

#[test]
fn a_login_that_is_refused_says_why() {
    let answered = |answer: Value| {
        let mut session = session(|_| {});
        session.greet();
        fault(&hear(&mut session, &answer)).reason.clone()
    };
    let refused = answered(json!({"id": 1, "error": {"message": "Invalid payment address"}}));
    assert_eq!(refused, "the login was refused: Invalid payment address");
    assert!(answered(json!({"id": 1, "result": {"status": "OK"}})).contains("no id"));
    assert!(answered(json!({"id": 1, "result": {"id": "a", "status": "BUSY"}})).contains("BUSY"));
    let early = answered(json!({"method": "job", "params": job("j", "00000000")}));
    assert!(early.contains("before the login"));
}

#[test]
fn a_pool_may_choose_ghostrider() {
    let gr = |bytes: usize| {
        let mut job = job("j", "00000000");
        job["algo"] = json!("ghostrider");
        job["blob"] = json!("00".repeat(bytes));
        job["seed_hash"] = Value::Null;
        enter(&mut session(|_| {}), &job, &[])
    };
    let steps = gr(80);
    assert_eq!(told_job(&steps).algorithm, Algorithm::GhostRider);
    assert!(fault(&gr(81)).reason.contains("a header of 81 bytes"));
}

#[test]
fn without_a_name_the_algorithm_comes_from_the_seed_or_the_owner() {
    let mut nameless = job("j", "00000000");
    nameless["algo"] = Value::Null;
    let algorithm = told_job(&enter(&mut session(|_| {}), &nameless, &[])).algorithm;
    assert_eq!(algorithm, Algorithm::RandomX);
    nameless["seed_hash"] = Value::Null;
    let steps = enter(&mut session(|_| {}), &nameless, &[]);
    assert!(fault(&steps).reason.contains("does not name its algorithm"));
}
