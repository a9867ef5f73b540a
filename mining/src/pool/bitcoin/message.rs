//! What Bitcoin-style pools say, one line of JSON each.

use serde::Deserialize;
use serde_json::Value;

use super::super::dialect::{Malformed, Refusal, told};

/// The longest name of a job, in bytes.
const LONGEST_NAME: usize = 256;

/// The longest part of the extra nonce, in bytes, on either side.
const LONGEST_EXTRA_NONCE: usize = 16;

/// The longest host name of DNS.
const LONGEST_HOST: usize = 253;

/// The most steps from a transaction to the root: a block of four milliards of them.
const DEEPEST: usize = 32;

/// A line of a pool.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// It answers a question.
    Reply {
        /// The question's number.
        id: u64,
        /// What came of it.
        outcome: Result<Value, Refusal>,
    },
    /// There is other work.
    Notify(Box<Notify>),
    /// How hard the shares of jobs from now on are.
    Difficulty(f64),
    /// The pool's part of the extra nonce of jobs from now on.
    ExtraNonce(ExtraNonce),
    /// Come again.
    Reconnect(Reconnect),
    /// It asks something.
    Question {
        /// Its number, given back as it is.
        id: Value,
        /// What it asks.
        method: String,
    },
    /// It refuses something that was not asked for: us, mostly.
    Refused(Refusal),
    /// Something else, which asks for nothing.
    Other,
}

/// The extra nonce: the pool's part, and how long ours is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtraNonce {
    /// The pool's part.
    pub first: Vec<u8>,
    /// The length of ours, in bytes.
    pub second_bytes: usize,
}

/// Where and when to come again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconnect {
    /// The host, where it names one.
    pub host: Option<String>,
    /// The port, where it names one.
    pub port: Option<u16>,
    /// After how many seconds.
    pub wait_secs: u64,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// The pool's name of it.
    pub id: String,
    /// The hash of the block before, as it is written: in words of four bytes, each reversed.
    pub previous: [u8; 32],
    /// The transaction that pays the pool, up to the extra nonce.
    pub coinbase_start: Vec<u8>,
    /// What comes after it.
    pub coinbase_end: Vec<u8>,
    /// From this transaction to the root.
    pub branches: Vec<[u8; 32]>,
    /// As written: the number's bytes, the uppermost first.
    pub version: [u8; 4],
    /// The block's target, as written.
    pub bits: [u8; 4],
    /// The block's time, as written.
    pub time: [u8; 4],
    /// Whether shares of older jobs are worth nothing.
    pub clean: bool,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    error: Value,
}

impl Message {
    /// Reads a line.
    ///
    /// # Errors
    /// A line that is no JSON object, or a notification that lacks something.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let line: Line =
            serde_json::from_slice(line).map_err(|error| Malformed::new("message", &error))?;
        let Some(method) = line.method else { return Ok(answer(&line)) };
        match method.as_str() {
            "mining.notify" => notify(&line.params)
                .map(|notify| Self::Notify(Box::new(notify)))
                .ok_or_else(|| Malformed::new("job", &"mining.notify lacks something")),
            "mining.set_difficulty" => difficulty(&line.params)
                .map(Self::Difficulty)
                .ok_or_else(|| Malformed::new("difficulty", &"it is not above 0")),
            "mining.set_extranonce" => extra_nonce(line.params.get(0), line.params.get(1))
                .map(Self::ExtraNonce)
                .ok_or_else(|| Malformed::new("extra nonce", &line.params)),
            "client.reconnect" => reconnect(&line.params)
                .map(Self::Reconnect)
                .ok_or_else(|| Malformed::new("reconnect", &line.params)),
            _ if line.id.is_null() => Ok(Self::Other),
            _ if !(line.id.is_u64() || line.id.is_string()) => Ok(Self::Other),
            _ => Ok(Self::Question { id: line.id, method: told(&method) }),
        }
    }
}

fn answer(line: &Line) -> Message {
    match (line.id.as_u64(), refusal(&line.error)) {
        (Some(id), Some(refusal)) => Message::Reply { id, outcome: Err(refusal) },
        (Some(id), None) => Message::Reply { id, outcome: Ok(line.result.clone()) },
        (None, Some(refusal)) => Message::Refused(refusal),
        (None, None) => Message::Other,
    }
}

/// What pools write as an error: `[23, "text", null]`, an object as in JSON-RPC, or a text.
fn refusal(error: &Value) -> Option<Refusal> {
    let (code, message) = match error {
        Value::Null => return None,
        Value::Array(parts) => (parts.first(), parts.get(1)),
        Value::Object(fields) => (fields.get("code"), fields.get("message")),
        other => (None, Some(other)),
    };
    let message = message.unwrap_or(error);
    let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    Some(Refusal::new(code.and_then(Value::as_i64), &message))
}

/// What a pool answers to `mining.subscribe`: `[subscriptions, extranonce1, extranonce2_size]`.
pub fn subscribed(result: &Value) -> Option<ExtraNonce> {
    extra_nonce(result.get(1), result.get(2))
}

fn extra_nonce(first: Option<&Value>, second_bytes: Option<&Value>) -> Option<ExtraNonce> {
    let first = hex::decode(first?.as_str()?).ok()?;
    let second_bytes = usize::try_from(second_bytes?.as_u64()?).ok()?;
    let fits = first.len() <= LONGEST_EXTRA_NONCE && second_bytes <= LONGEST_EXTRA_NONCE;
    fits.then_some(ExtraNonce { first, second_bytes })
}

fn difficulty(params: &Value) -> Option<f64> {
    params.get(0)?.as_f64().filter(|difficulty| difficulty.is_finite() && *difficulty > 0.0)
}

fn reconnect(params: &Value) -> Option<Reconnect> {
    let host = params.get(0).and_then(Value::as_str).filter(|host| !host.is_empty());
    if host.is_some_and(|host| host.len() > LONGEST_HOST) {
        return None;
    }
    // Some write numbers as texts.
    let number = |place: usize| match params.get(place) {
        None | Some(Value::Null) => Some(None),
        Some(Value::String(text)) => text.parse::<u64>().ok().map(Some),
        Some(value) => value.as_u64().map(Some),
    };
    let port = match number(1)? {
        None | Some(0) => None,
        Some(port) => Some(u16::try_from(port).ok()?),
    };
    let wait_secs = number(2)?.unwrap_or(0);
    Some(Reconnect { host: host.map(str::to_owned), port, wait_secs })
}

fn notify(params: &Value) -> Option<Notify> {
    let text = |place: usize| params.get(place)?.as_str();
    let bytes = |place: usize| hex::decode(text(place)?).ok();
    let word = |place: usize| fixed::<4>(text(place)?);
    let id = text(0).filter(|id| id.len() <= LONGEST_NAME)?;
    let branches = params.get(4)?.as_array().filter(|branches| branches.len() <= DEEPEST)?;
    Some(Notify {
        id: id.to_owned(),
        previous: fixed(text(1)?)?,
        coinbase_start: bytes(2)?,
        coinbase_end: bytes(3)?,
        branches: branches
            .iter()
            .map(|branch| fixed(branch.as_str()?))
            .collect::<Option<Vec<_>>>()?,
        version: word(5)?,
        bits: word(6)?,
        time: word(7)?,
        clean: params.get(8).and_then(Value::as_bool).unwrap_or(true),
    })
}

fn fixed<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(line: &Value) -> Result<Message, Malformed> {
        Message::parse(line.to_string().as_bytes())
    }

    fn said(method: &str, params: Value) -> Result<Message, Malformed> {
        parse(&json!({"id": null, "method": method, "params": params}))
    }

    fn job() -> Value {
        let word = "00000020".to_owned();
        json!([
            "j",
            "ab".repeat(32),
            "01",
            "02",
            ["cd".repeat(32)],
            word,
            "20001fff",
            "6b027c46",
            true
        ])
    }

    #[test]
    fn a_job_has_nine_parts() {
        let Ok(Message::Notify(notify)) = said("mining.notify", job()) else { panic!() };
        assert_eq!((notify.id.as_str(), notify.branches.len(), notify.clean), ("j", 1, true));
        assert_eq!(notify.bits, [0x20, 0, 0x1f, 0xff]);
        for place in 0..8 {
            for wrong in [Value::Null, json!("x"), json!(["zz"])] {
                let mut job = job();
                job[place] = wrong.clone();
                let result = said("mining.notify", job);
                // A job may be called x.
                assert_eq!(result.is_ok(), place == 0 && wrong == "x", "{place}: {wrong}");
            }
        }
        let mut deep = job();
        deep[4] = json!(vec!["cd".repeat(32); DEEPEST + 1]);
        assert!(said("mining.notify", deep).is_err());
    }

    #[test]
    fn a_difficulty_is_above_zero() {
        assert_eq!(said("mining.set_difficulty", json!([0.002])), Ok(Message::Difficulty(0.002)));
        assert_eq!(said("mining.set_difficulty", json!([4])), Ok(Message::Difficulty(4.0)));
        for wrong in [json!([]), json!([0]), json!([-1]), json!(["1"]), json!(null)] {
            assert!(said("mining.set_difficulty", wrong).is_err());
        }
        assert!(Message::parse(br#"{"method":"mining.set_difficulty","params":[1e999]}"#).is_err());
    }

    #[test]
    fn an_extra_nonce_is_short() {
        let nonce =
            |first: &str, second: u64| said("mining.set_extranonce", json!([first, second]));
        let expected = ExtraNonce { first: vec![0xf0, 0], second_bytes: 4 };
        assert_eq!(nonce("f000", 4), Ok(Message::ExtraNonce(expected.clone())));
        assert!(nonce(&"00".repeat(17), 4).is_err() && nonce("00", 17).is_err());
        assert_eq!(subscribed(&json!([[["mining.notify", "x"]], "f000", 4])), Some(expected));
        assert_eq!(subscribed(&json!(true)), None);
    }

    #[test]
    fn a_pool_may_ask_to_come_again() {
        let again = |params: Value| match said("client.reconnect", params) {
            Ok(Message::Reconnect(reconnect)) => Some(reconnect),
            _ => None,
        };
        assert_eq!(again(json!([])), Some(Reconnect::default()));
        let there = again(json!(["eu.pool.example", "3333", 2])).unwrap();
        assert_eq!(there.host.as_deref(), Some("eu.pool.example"));
        assert_eq!((there.port, there.wait_secs), (Some(3333), 2));
        assert_eq!(again(json!(["x", 70_000, 0])), None);
        assert_eq!(again(json!(["x".repeat(300), 1, 0])), None);
    }

    #[test]
    fn refusals_have_three_forms() {
        for error in [json!([23, "low"]), json!({"code": 23, "message": "low"}), json!("low")] {
            let reply = parse(&json!({"id": 4, "result": false, "error": error}));
            let Ok(Message::Reply { id: 4, outcome: Err(refusal) }) = reply else { panic!() };
            assert_eq!(refusal.message, "low");
        }
        assert!(matches!(parse(&json!({"id": null, "error": "no"})), Ok(Message::Refused(_))));
        assert_eq!(parse(&json!({"id": null, "result": true})), Ok(Message::Other));
        assert!(Message::parse(b"[]\0").is_err());
    }
}
