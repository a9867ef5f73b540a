//! What a `llm_gen` job says: model, prompt, options. Everything else is refused by name.

use protocol::{FailureCode, Job};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::Refusal;
use crate::servers::text::{Message, Options, Prompt};

/// Tokens of an answer for which nobody names a limit.
const USUAL_TOKENS: u32 = 1024;

/// The most parts of a conversation.
const MOST_MESSAGES: usize = 1024;

/// The largest prompt or conversation, in bytes.
const LARGEST_PROMPT: usize = 1 << 20;

/// The most texts at which an answer ends, and the longest, in bytes.
const MOST_STOPS: usize = 16;
const LONGEST_STOP: usize = 256;

/// The parameters of a job, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// The model that is asked for, if the job names one.
    pub model: Option<String>,
    /// What to go on from.
    pub prompt: Prompt,
    /// How.
    pub options: Options,
    max_tokens: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    model: Option<String>,
    prompt: Option<String>,
    system: Option<String>,
    messages: Option<Vec<Message>>,
    max_tokens: Option<u32>,
}

/// Which of the parameters are options; they may also stand in `options`.
const OPTIONS: [&str; 9] = [
    "temperature",
    "seed",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "stop",
];

impl Params {
    /// Those of `job`.
    ///
    /// # Errors
    /// [`FailureCode::Input`] with the one that is wrong.
    pub fn of(job: &Job) -> Result<Self, Refusal> {
        let (written, options) = sorted(&job.params)?;
        let written: Written = serde_json::from_value(written.into()).map_err(wrong)?;
        let options: Options = serde_json::from_value(options.into()).map_err(wrong)?;
        check(&options)?;
        let prompt = match (written.prompt, written.messages) {
            (Some(prompt), None) => Prompt::Text { prompt, system: written.system },
            (None, Some(messages)) if written.system.is_none() => Prompt::Messages(messages),
            (None, Some(_)) => return Err(refused("system belongs into messages")),
            (Some(_), Some(_)) => return Err(refused("either prompt or messages")),
            (None, None) => return Err(refused("prompt is missing")),
        };
        check_size(&prompt)?;
        if written.max_tokens == Some(0) {
            return Err(refused("max_tokens must be at least 1"));
        }
        Ok(Self { model: written.model, prompt, options, max_tokens: written.max_tokens })
    }

    /// The most tokens that the answer may have: the least of what the job names.
    pub fn max_tokens(&self, job: &Job) -> u32 {
        let named = [self.max_tokens, job.limits.max_tokens];
        named.into_iter().flatten().min().unwrap_or(USUAL_TOKENS).max(1)
    }
}

type Object = Map<String, Value>;

/// The parameters without the options, and these.
fn sorted(params: &Map<String, Value>) -> Result<(Object, Object), Refusal> {
    let mut rest = params.clone();
    let mut options = match rest.remove("options") {
        None => Map::new(),
        Some(Value::Object(options)) => options,
        Some(_) => return Err(refused("options must be an object")),
    };
    for name in OPTIONS {
        if let Some(value) = rest.remove(name) {
            options.insert(name.to_owned(), value);
        }
    }
    // OpenAI's clients write one stop as a text.
    if let Some(stop @ Value::String(_)) = options.get_mut("stop") {
        *stop = Value::Array(vec![stop.take()]);
    }
    Ok((rest, options))
}

fn check(options: &Options) -> Result<(), Refusal> {
    let ranges = [
        ("temperature", options.temperature, 0.0..=5.0),
        ("top_p", options.top_p, 0.0..=1.0),
        ("min_p", options.min_p, 0.0..=1.0),
        ("repeat_penalty", options.repeat_penalty, 0.0..=5.0),
        ("presence_penalty", options.presence_penalty, -2.0..=2.0),
        ("frequency_penalty", options.frequency_penalty, -2.0..=2.0),
    ];
    for (name, value, range) in ranges {
        if value.is_some_and(|value| !range.contains(&value)) {
            return Err(refused(&format!("{name} must be {} to {}", range.start(), range.end())));
        }
    }
    let stop = &options.stop;
    if stop.len() > MOST_STOPS || stop.iter().any(|text| text.len() > LONGEST_STOP) {
        let most = format!("stop: at most {MOST_STOPS} texts of {LONGEST_STOP} bytes");
        return Err(refused(&most));
    }
    Ok(())
}

fn check_size(prompt: &Prompt) -> Result<(), Refusal> {
    let bytes = match prompt {
        Prompt::Text { prompt, system } => prompt.len() + system.as_ref().map_or(0, String::len),
        Prompt::Messages(messages) if messages.is_empty() || messages.len() > MOST_MESSAGES => {
            return Err(refused(&format!("messages: 1 to {MOST_MESSAGES} of them")));
        }
        Prompt::Messages(messages) => messages.iter().map(|message| message.content.len()).sum(),
    };
    if bytes > LARGEST_PROMPT {
        return Err(refused(&format!("the prompt is over {LARGEST_PROMPT} bytes")));
    }
    Ok(())
}

fn refused(why: &str) -> Refusal {
    Refusal::new(FailureCode::Input, format!("params: {why}"))
}

fn wrong(error: serde_json::Error) -> Refusal {
    refused(&error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::tests::job;
    use super::*;

    fn params(params: Value) -> Result<Params, Refusal> {
        let mut job = job("llm_gen");
        job.params = params.as_object().unwrap().clone();
        Params::of(&job)
    }

    #[test]
    fn prompts_and_conversations() {
        let asked = params(json!({"model": "m", "prompt": "Hi", "seed": 7, "stop": "\n",
            "options": {"temperature": 0}}))
        .unwrap();
        assert_eq!(asked.model.as_deref(), Some("m"));
        assert_eq!(asked.prompt, Prompt::Text { prompt: "Hi".to_owned(), system: None });
        assert_eq!(
            Value::from(asked.options.named()),
            json!({"temperature": 0.0, "seed": 7, "stop": ["\n"]})
        );
        let talk = json!({"messages": [{"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"}]});
        assert!(matches!(params(talk).unwrap().prompt, Prompt::Messages(two) if two.len() == 2));
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let long = "x".repeat(LARGEST_PROMPT + 1);
        for (written, word) in [
            (json!({}), "prompt"),
            (json!({"prompt": 1}), "string"),
            (json!({"prompt": "a", "messages": []}), "either"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": [{"role": "root", "content": "a"}]}), "root"),
            (json!({"messages": [{"role": "user", "content": "a", "images": ["b"]}]}), "images"),
            (json!({"messages": [{"role": "user", "content": "a"}], "system": "b"}), "system"),
            (json!({"prompt": "a", "options": {"num_ctx": 1_000_000}}), "num_ctx"),
            (json!({"prompt": "a", "options": {"num_gpu": 99}}), "num_gpu"),
            (json!({"prompt": "a", "keep_alive": -1}), "keep_alive"),
            (json!({"prompt": "a", "options": []}), "options"),
            (json!({"prompt": "a", "temperature": -1}), "temperature"),
            (json!({"prompt": "a", "top_p": 1.5}), "top_p"),
            (json!({"prompt": "a", "stop": vec!["x"; 17]}), "stop"),
            (json!({"prompt": "a", "max_tokens": 0}), "max_tokens"),
            (json!({"prompt": "a", "max_tokens": -1}), "-1"),
            (json!({"prompt": long}), "bytes"),
        ] {
            let refusal = params(written).unwrap_err();
            assert_eq!(refusal.code, FailureCode::Input);
            assert!(refusal.message.contains(word), "{word}: {}", refusal.message);
        }
    }

    #[test]
    fn the_least_number_of_tokens_counts() {
        let mut job = job("llm_gen");
        job.params.insert("prompt".to_owned(), "a".into());
        assert_eq!(Params::of(&job).unwrap().max_tokens(&job), USUAL_TOKENS);
        job.limits.max_tokens = Some(50);
        assert_eq!(Params::of(&job).unwrap().max_tokens(&job), 50);
        job.params.insert("max_tokens".to_owned(), 7.into());
        assert_eq!(Params::of(&job).unwrap().max_tokens(&job), 7);
    }
}
