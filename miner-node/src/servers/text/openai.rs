//! The API of OpenAI as far as other servers have taken it over: `/v1/models` and a streamed
//! `/v1/chat/completions`.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{ServerError, quoted};
use super::generation::{Generation, Message, Prompt, Role};
use super::transcript::{Counts, Piece};

#[derive(Deserialize)]
struct List {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// The data of one event.
#[derive(Deserialize)]
struct Chunk {
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    delta: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    role: Option<String>,
    content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

/// The names in the reply of `/v1/models`.
///
/// # Errors
/// Where it is no such reply.
pub fn models(body: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    let list: List = serde_json::from_slice(body)?;
    Ok(list.data.into_iter().map(|model| model.id).collect())
}

/// What one line of a reply says. Events of several lines do not occur: the data is JSON on one.
///
/// # Errors
/// What the server complains of, or that it makes no sense.
pub fn heard(line: &str) -> Result<Piece, ServerError> {
    let data = match line.split_once(':') {
        Some(("data", data)) => data.trim(),
        // Comments keep the connection open; names and numbers of events say nothing here.
        Some(("" | "event" | "id" | "retry", _)) => return Ok(Piece::default()),
        None if line.trim().is_empty() => return Ok(Piece::default()),
        _ => return Err(ServerError::Nonsense("its reply is no stream of events".to_owned())),
    };
    if data == "[DONE]" {
        return Ok(Piece { is_last: true, ..Piece::default() });
    }
    let chunk: Chunk = serde_json::from_str(data)
        .map_err(|error| ServerError::Nonsense(quoted(&error.to_string())))?;
    if let Some(error) = chunk.error {
        let why = error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned);
        return Err(ServerError::Gone(format!("it broke off: {}", quoted(&why))));
    }
    let choice = chunk.choices.into_iter().next();
    let has_finished = choice.as_ref().is_some_and(|choice| choice.finish_reason.is_some());
    let delta = choice.and_then(|choice| choice.delta);
    // The first one often only says who speaks.
    let is_token =
        delta.as_ref().is_some_and(|delta| delta.role.is_none() && delta.content.is_some());
    let said = delta.and_then(|delta| delta.content);
    let usage = chunk.usage;
    Ok(Piece {
        text: said.unwrap_or_default(),
        model: chunk.model,
        counts: Counts {
            generated: usage.as_ref().and_then(|usage| usage.completion_tokens),
            prompt: usage.as_ref().and_then(|usage| usage.prompt_tokens),
            generation_nanos: None,
        },
        is_token,
        has_finished,
        is_last: false,
    })
}

/// Where to ask, and what.
pub(super) fn request(generation: &Generation) -> (&'static str, Value) {
    let messages = match &generation.prompt {
        Prompt::Messages(messages) => json!(messages),
        Prompt::Text { prompt, system } => {
            let message = |role, text: &String| Message { role, content: text.clone() };
            let system = system.iter().map(|text| message(Role::System, text));
            json!(system.chain([message(Role::User, prompt)]).collect::<Vec<_>>())
        }
    };
    let mut body = Map::from_iter([
        ("model".to_owned(), generation.server_name.as_str().into()),
        ("messages".to_owned(), messages),
        ("max_tokens".to_owned(), generation.max_tokens.into()),
        ("stream".to_owned(), true.into()),
        ("stream_options".to_owned(), json!({"include_usage": true})),
    ]);
    body.extend(generation.options.named());
    ("/v1/chat/completions", body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_other_things_refused() {
        let body = br#"{"object":"list","data":[{"id":"tiny","object":"model"},{"id":"org/b"}]}"#;
        assert_eq!(models(body).unwrap(), ["tiny", "org/b"]);
        for body in ["", "[]", "{}", r#"{"data":[{}]}"#, r#"{"models":[]}"#] {
            assert!(models(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn pieces_counts_and_complaints() {
        let piece = r#"data: {"model":"m","choices":[{"index":0,"delta":{"content":"He"},
            "finish_reason":null}],"usage":null}"#;
        let piece = heard(&piece.replace('\n', "")).unwrap();
        assert_eq!((piece.text.as_str(), piece.model.as_deref()), ("He", Some("m")));
        let end = r#"data:{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        assert!(heard(end).unwrap().has_finished);
        let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}"#;
        let counts = heard(usage).unwrap().counts;
        assert_eq!((counts.prompt, counts.generated), (Some(5), Some(7)));
        assert!(heard("data: [DONE]").unwrap().is_last);
        for line in ["", ": ping", "event: x", "id: 7", "retry: 3"] {
            assert_eq!(heard(line).unwrap(), Piece::default(), "{line}");
        }
        let error = heard(r#"data: {"error":{"message":"CUDA out of memory"}}"#).unwrap_err();
        assert!(matches!(error, ServerError::Gone(_)) && error.to_string().contains("CUDA"));
        for line in ["<html>", "{\"choices\":[]}", "data: 1", "data:", "data: {\"choices\":1}"] {
            assert!(matches!(heard(line), Err(ServerError::Nonsense(_))), "{line}");
        }
    }
}
