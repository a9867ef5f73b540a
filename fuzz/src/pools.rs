//! What mining pools say, and a daemon that is mined for: strangers, on the way to whom others sit.

use mining::pool::dialect::{Dialect, Fault, Numbers, Step, Submission, Wait};
use mining::pool::{Address, Fingerprint, Job, Settings, Solution, bitcoin, daemon, monero};
use mining::{Algorithm, Target};

/// What must never be shown.
const PASSWORD: &str = "hunter2";

/// A Monero-style pool, line by line.
pub fn monero_pool(data: &[u8]) {
    for line in lines(data) {
        if let Ok(monero::Message::Job(template)) = monero::Message::parse(line) {
            assert!(template.job_id.len() <= 256);
        }
    }
    listen(monero::Session::new(settings(), Numbers::default()), data);
}

/// A Bitcoin-style pool, line by line.
pub fn bitcoin_pool(data: &[u8]) {
    for line in lines(data) {
        if let Ok(bitcoin::Message::Notify(notify)) = bitcoin::Message::parse(line) {
            assert!(notify.id.len() <= 256 && notify.branches.len() <= 32);
        }
        if let Ok(bitcoin::Message::Difficulty(difficulty)) = bitcoin::Message::parse(line) {
            assert!(difficulty > 0.0 && difficulty.is_finite());
            // Nothing that is a share for us is above the pool's own bound.
            if let Some(target) = bitcoin::target(difficulty) {
                assert!(target > Target::new(0));
                let least = 2_f64.powi(64) / (65_535.0 * 2_f64.powi(32) / difficulty);
                assert!(target.difficulty() as f64 >= least * 0.999_999 - 1.0, "{difficulty}");
            }
        }
    }
    let session = bitcoin::Session::new(settings(), Algorithm::GhostRider, Numbers::default());
    listen(session, data);
}

/// What a daemon answers.
pub fn daemon_answers(data: &[u8]) {
    if let Ok(Ok(template)) = daemon::Template::parse(data) {
        assert!(template.difficulty > 0);
        assert_eq!(template.hashing_blob[..43], template.block[..43]);
        let block = template.with_nonce(0x0403_0201);
        assert_eq!(block[39..43], [1, 2, 3, 4]);
        assert_eq!((&block[..39], &block[43..]), (&template.block[..39], &template.block[43..]));
    }
    if let Ok(tip) = daemon::Tip::parse(data) {
        assert!(tip.hash.len() <= data.len());
    }
    if let Ok(Err(refusal)) = daemon::submitted(data) {
        plain(&refusal.message);
    }
}

/// Where an owner says that a pool is, and which certificate it has.
pub fn pool_address(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<Address>() {
        let shown = address.to_string();
        assert_eq!(shown.parse().as_ref(), Ok(&address), "{shown}");
        assert!(address.port != 0 && !shown.contains('@'));
    }
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }
}

fn settings() -> Settings {
    let address = "stratum+tcp://pool.example:3333".parse().expect("it is an address");
    Settings { password: PASSWORD.to_owned(), ..Settings::new(address, "wallet") }
}

fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == b'\n')
}

/// A session hears all lines, whatever it thought of the ones before.
fn listen(mut session: impl Dialect, data: &[u8]) {
    assert!(!session.greet().line.contains('\n'));
    let mut newest = 0;
    for line in lines(data) {
        for step in session.hear(line) {
            assert!(!format!("{step:?}").contains(PASSWORD));
            match step {
                Step::Send(request) => assert!(!request.line.contains('\n')),
                Step::Job(job) => {
                    assert!(job.number > newest, "a job's number comes twice");
                    newest = mine(&mut session, &job);
                }
                Step::End(fault) => end(&fault),
                Step::Replied { .. } => {}
            }
        }
    }
}

/// A share of the job is sent once; then its nonces run out. Returns the newest job's number.
fn mine(session: &mut impl Dialect, job: &Job) -> u64 {
    assert!(job.work.target > Target::new(0) && job.work.blob().len() <= 407);
    let mut blob = job.work.blob().to_vec();
    job.work.put_nonce(&mut blob, 0x1234_5678);
    assert_eq!(blob.len(), job.work.blob().len());
    let nonce = job.work.nonces.get(0).expect("there is a nonce");
    let mut solution = Solution { number: 1, job: job.number, nonce, hash: [0xff; 32] };
    assert!(matches!(session.submit(&solution), Submission::Settled(_)), "above every target");
    solution.hash = [0; 32];
    if let Submission::Send(request) = session.submit(&solution) {
        assert!(request.id.is_some() && !request.line.contains('\n'));
        assert!(serde_json::from_str::<serde_json::Value>(&request.line).is_ok());
    }
    assert!(matches!(session.submit(&solution), Submission::Settled(_)), "sent twice");
    let Some(more) = session.more(job.number) else { return job.number };
    assert!(more.number > job.number && more.work.blob() != job.work.blob());
    more.number
}

fn end(fault: &Fault) {
    plain(&fault.reason);
    if let Wait::Redirected { address, .. } = &fault.wait {
        let own = address.host == "pool.example" || address.host.ends_with(".pool.example");
        assert!(own, "sent to {address}");
    }
}

fn plain(text: &str) {
    assert!(text.chars().count() < 700 && !text.chars().any(char::is_control), "{text:?}");
}
