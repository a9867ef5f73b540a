//! What Monero-style pools say, one line of JSON each.

use serde::Deserialize;
use serde_json::Value;

use super::super::dialect::{Malformed, Refusal, told};

/// The longest name of a job or session, in bytes.
const LONGEST_NAME: usize = 256;

/// The most extensions that are looked at.
const MOST_EXTENSIONS: usize = 32;

/// A line of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// It answers a question.
    Reply {
        /// The question's number.
        id: u64,
        /// What came of it.
        outcome: Result<Reply, Refusal>,
    },
    /// There is other work.
    Job(Template),
    /// It refuses something that was not asked for: us, mostly.
    Refused(Refusal),
    /// Something else, which asks for nothing.
    Other,
}

/// What an answer holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// The pool's name of the session, after a login.
    pub session: Option<String>,
    /// The first job, after a login.
    pub job: Option<Template>,
    /// What the pool understands beyond the least.
    pub extensions: Vec<String>,
    /// In a word; `OK` mostly.
    pub status: Option<String>,
}

/// A job as it is written; whether it makes sense is seen by whoever takes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Template {
    /// The bytes in hexadecimal digits.
    pub blob: String,
    /// The pool's name of it.
    pub job_id: String,
    /// See [`Target::from_pool`](crate::Target::from_pool).
    pub target: String,
    /// The algorithm, where the pool says which.
    #[serde(default)]
    pub algo: Option<String>,
    /// The height of the block.
    #[serde(default)]
    pub height: Option<u64>,
    /// RandomX's seed in hexadecimal digits.
    #[serde(default)]
    pub seed_hash: Option<String>,
    /// The one after it.
    #[serde(default)]
    pub next_seed_hash: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Option<Value>,
    #[serde(default)]
    result: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    job: Option<Template>,
    #[serde(default)]
    extensions: Vec<Value>,
    #[serde(default)]
    status: Option<String>,
}

impl Message {
    /// Reads a line.
    ///
    /// # Errors
    /// A line that is no JSON object, or a job or answer that lacks something.
    pub fn parse(line: &[u8]) -> Result<Self, Malformed> {
        let line: Line =
            serde_json::from_slice(line).map_err(|error| Malformed::new("message", &error))?;
        match line.method.as_deref() {
            Some("job") => return template(line.params.unwrap_or_default()).map(Self::Job),
            Some(_) => return Ok(Self::Other),
            None => {}
        }
        let Some(id) = line.id.as_ref().and_then(Value::as_u64) else {
            return Ok(refusal(line.error.as_ref()).map_or(Self::Other, Self::Refused));
        };
        let outcome = match refusal(line.error.as_ref()) {
            Some(refusal) => Err(refusal),
            None => Ok(reply(line.result)?),
        };
        Ok(Self::Reply { id, outcome })
    }
}

fn reply(result: Option<Value>) -> Result<Reply, Malformed> {
    let Some(result) = result.filter(Value::is_object) else { return Ok(Reply::default()) };
    let login: Login =
        serde_json::from_value(result).map_err(|error| Malformed::new("answer", &error))?;
    if login.id.as_ref().is_some_and(|id| id.len() > LONGEST_NAME) {
        return Err(Malformed::new("answer", &"the session's name is too long"));
    }
    if let Some(job) = &login.job {
        short(job)?;
    }
    let extensions = login.extensions.iter().filter_map(Value::as_str).take(MOST_EXTENSIONS);
    Ok(Reply {
        session: login.id,
        job: login.job,
        extensions: extensions.map(told).collect(),
        status: login.status.as_deref().map(told),
    })
}

fn template(params: Value) -> Result<Template, Malformed> {
    let template = serde_json::from_value(params);
    let template = template.map_err(|error| Malformed::new("job", &error))?;
    short(&template)?;
    Ok(template)
}

fn short(template: &Template) -> Result<(), Malformed> {
    match template.job_id.len() > LONGEST_NAME {
        true => Err(Malformed::new("job", &"its name is too long")),
        false => Ok(()),
    }
}

fn refusal(error: Option<&Value>) -> Option<Refusal> {
    let error = error.filter(|error| !error.is_null())?;
    let message = error.get("message").unwrap_or(error);
    let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    Some(Refusal::new(error.get("code").and_then(Value::as_i64), &message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_answered_with_a_job() {
        let line = br#"{"id":1,"jsonrpc":"2.0","error":null,"result":{"id":"deadbeef","job":{"blob":
            "1010","job_id":"1","target":"51b81e05","algo":"rx/0","height":3000000,"seed_hash":"00"},
            "extensions":["algo","keepalive",7],"status":"OK"}}"#;
        let Message::Reply { id: 1, outcome: Ok(reply) } = Message::parse(line).unwrap() else {
            panic!();
        };
        assert_eq!(reply.session.as_deref(), Some("deadbeef"));
        assert_eq!(reply.extensions, ["algo", "keepalive"]);
        let job = reply.job.unwrap();
        assert_eq!((job.job_id.as_str(), job.height), ("1", Some(3_000_000)));
    }

    #[test]
    fn what_is_refused_says_why() {
        let refused = |line: &str| match Message::parse(line.as_bytes()).unwrap() {
            Message::Reply { id: 2, outcome: Err(refusal) } => refusal,
            other => panic!("{other:?}"),
        };
        let low = refused(r#"{"id":2,"error":{"code":-1,"message":"Low difficulty share"}}"#);
        assert_eq!(low, Refusal::new(Some(-1), "Low difficulty share"));
        assert_eq!(refused(r#"{"id":2,"error":"no"}"#).message, "no");
        assert_eq!(refused(r#"{"id":2,"error":[1]}"#).message, "[1]");
    }

    #[test]
    fn nonsense_is_told_from_what_is_merely_unknown() {
        for line in ["", "7", "{", "{\"method\":7}", r#"{"method":"job"}"#, "\u{feff}{}"] {
            assert!(Message::parse(line.as_bytes()).is_err(), "{line}");
        }
        let long = format!(
            r#"{{"method":"job","params":{{"blob":"","job_id":"{}","target":""}}}}"#,
            "x".repeat(LONGEST_NAME + 1)
        );
        assert!(Message::parse(long.as_bytes()).is_err());
        for line in ["{}", r#"{"method":"hello"}"#, r#"{"id":"x","result":true}"#] {
            assert_eq!(Message::parse(line.as_bytes()), Ok(Message::Other), "{line}");
        }
        let banned = Message::parse(br#"{"id":null,"error":{"message":"your IP is banned"}}"#);
        assert_eq!(banned, Ok(Message::Refused(Refusal::new(None, "your IP is banned"))));
    }
}
