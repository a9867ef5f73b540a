//! Whether an attempt was paid, and if not, the first reason. Pure.

use protocol::why::AttemptWhy;
use protocol::{Amount, Name, Timestamp};

use super::words::failure;

/// One lease of a job, with all that became of it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The lease's number.
    pub fence: i64,
    /// Who had it.
    pub miner_id: Name,
    /// Since when.
    pub leased_at: Timestamp,
    /// When it was acknowledged.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How; `RETURNED`: the miner never heard of it.
    pub outcome: Option<String>,
    /// With what it failed: code and sentence.
    pub error: Option<(String, String)>,
    /// The last proof of it that was refused.
    pub refusal: Option<Refusal>,
    /// Its receipt.
    pub receipt_id: Option<Name>,
    /// What that pays.
    pub amount: Option<Amount>,
    /// When it was paid.
    pub paid_at: Option<Timestamp>,
    /// When the job was handed out next, and to whom.
    pub next: Option<(Timestamp, Name)>,
}

/// A proof that was not accepted.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// When.
    pub at: Timestamp,
    /// The error code.
    pub code: String,
    /// The sentence that went with it.
    pub message: String,
}

/// What became of an attempt and its pay. A miner is not told who the others are.
pub fn why(attempt: &Attempt, to_miner: bool) -> AttemptWhy {
    let paid = attempt.amount.is_some_and(|amount| amount > Amount::ZERO);
    AttemptWhy {
        fence: attempt.fence,
        miner_id: attempt.miner_id.clone(),
        paid,
        amount: attempt.amount,
        receipt_id: attempt.receipt_id.clone(),
        error_code: attempt.error.as_ref().map(|(code, _)| code.clone()),
        message: message(attempt, to_miner),
    }
}

fn message(attempt: &Attempt, to_miner: bool) -> String {
    let at = |at: Option<Timestamp>| at.map_or(String::new(), |at| format!(" at {at}"));
    if let Some(amount) = attempt.amount {
        let when = at(attempt.paid_at);
        return if amount > Amount::ZERO {
            format!("paid {amount} AITBC{when}")
        } else {
            format!("accepted{when}, but its units and unit price come to 0 AITBC")
        };
    }
    let ended = at(attempt.ended_at);
    let end = match (attempt.outcome.as_deref(), &attempt.error) {
        (None, _) => at_work(attempt),
        (Some("RETURNED"), _) => {
            format!("not paid: the miner hung up before it was handed the job, it went back{ended}")
        }
        (Some("CANCELED"), _) => format!("not paid: the client canceled the job{ended}"),
        (Some(_), Some((code, text))) => format!("not paid: {}{ended}", failure(code, text)),
        (Some(outcome), None) => format!("not paid: {outcome}{ended}"),
    };
    // A proof that came before the end is the reason; one that came after it came too late.
    let refused = attempt.refusal.as_ref().map(|refusal| {
        let Refusal { at, code, message } = refusal;
        (*at, format!("its proof of {at} was refused: {}", failure(code, message)))
    });
    let early = |moment: Timestamp| attempt.ended_at.is_none_or(|ended| moment <= ended);
    let mut text = match refused {
        Some((moment, refusal)) if early(moment) => format!("{end}; {refusal}"),
        Some((_, refusal)) => format!("{end}; too late, {refusal}"),
        None => end,
    };
    if let Some((moment, miner)) = attempt.next.as_ref().filter(|_| attempt.outcome.is_some()) {
        let whom = if to_miner { "another lease" } else { miner.as_str() };
        text.push_str(&format!("; the job went to {whom} at {moment}"));
    }
    text
}

fn at_work(attempt: &Attempt) -> String {
    match attempt.started_at {
        Some(at) => format!("not paid yet: at work since {at}, paid when its proof is accepted"),
        None => format!("not paid yet: handed out at {}, not acknowledged", attempt.leased_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_micros(0).plus_secs(secs)
    }

    fn attempt() -> Attempt {
        Attempt {
            fence: 1,
            miner_id: "m1".parse().unwrap(),
            leased_at: at(0),
            started_at: Some(at(1)),
            ended_at: None,
            outcome: None,
            error: None,
            refusal: None,
            receipt_id: None,
            amount: None,
            paid_at: None,
            next: None,
        }
    }

    fn failed() -> Attempt {
        let error = ("E_CRASH".to_owned(), "the miner's lease expired".to_owned());
        Attempt {
            outcome: Some("FAILED".to_owned()),
            ended_at: Some(at(30)),
            error: Some(error),
            ..attempt()
        }
    }

    fn refusal(secs: i64) -> Option<Refusal> {
        let (code, message) = ("LEASE_LOST".to_owned(), "too late".to_owned());
        Some(Refusal { at: at(secs), code, message })
    }

    #[test]
    fn what_is_paid_says_how_much() {
        let paid = |amount: &str| Attempt {
            amount: Some(amount.parse().unwrap()),
            paid_at: Some(at(9)),
            ..attempt()
        };
        let told = why(&paid("0.02"), true);
        assert_eq!(
            (told.paid, told.message.as_str()),
            (true, "paid 0.02 AITBC at 1970-01-01T00:00:09Z")
        );
        let nothing = why(&paid("0"), true);
        assert!(!nothing.paid && nothing.message.contains("come to 0 AITBC"));
    }

    #[test]
    fn a_lost_lease_names_the_next_miner_to_clients_only() {
        let next = Some((at(31), "m2".parse().unwrap()));
        let lost = Attempt { next, refusal: refusal(40), ..failed() };
        let client = why(&lost, false).message;
        let start = "not paid: E_CRASH: the miner's lease expired at 1970-01-01T00:00:30Z; too late, \
                     its proof of 1970-01-01T00:00:40Z was refused: LEASE_LOST: too late";
        assert_eq!(client, format!("{start}; the job went to m2 at 1970-01-01T00:00:31Z"));
        assert!(!why(&lost, true).message.contains("m2"));
    }

    #[test]
    fn a_refused_proof_is_told_of_while_the_lease_runs() {
        let told = why(&Attempt { refusal: refusal(5), ..attempt() }, true);
        assert_eq!(told.error_code, None);
        assert!(told.message.contains("at work since") && told.message.contains("was refused"));
        let fresh = why(&Attempt { started_at: None, ..attempt() }, true);
        assert!(fresh.message.ends_with("not acknowledged"));
    }

    #[test]
    fn endings_without_pay_say_which() {
        let with =
            |outcome: &str| Attempt { outcome: Some(outcome.to_owned()), error: None, ..failed() };
        assert!(why(&with("CANCELED"), true).message.starts_with("not paid: the client canceled"));
        assert!(why(&with("RETURNED"), true).message.contains("hung up"));
    }
}
