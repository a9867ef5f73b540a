//! Ollama's API, as its `docs/api.md` has it: `/api/tags`, `/api/generate`, `/api/chat`.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{ServerError, quoted};
use super::generation::{Generation, Prompt};
use super::transcript::{Counts, Piece};

#[derive(Deserialize)]
struct Tags {
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
}

/// One line of a reply; the last one has `done` and the counts.
#[derive(Deserialize)]
struct Line {
    model: Option<String>,
    response: Option<String>,
    message: Option<Reply>,
    #[serde(default)]
    done: bool,
    error: Option<String>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
    eval_duration: Option<u64>,
}

#[derive(Deserialize)]
struct Reply {
    content: Option<String>,
}

/// The names in the reply of `/api/tags`.
///
/// # Errors
/// Where it is no such reply.
pub fn models(body: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    let tags: Tags = serde_json::from_slice(body)?;
    Ok(tags.models.into_iter().map(|tag| tag.name).collect())
}

/// What one line of a reply says.
///
/// # Errors
/// What the server complains of, or that it makes no sense.
pub fn heard(line: &str) -> Result<Piece, ServerError> {
    if line.trim().is_empty() {
        return Ok(Piece::default());
    }
    let line: Line = serde_json::from_str(line)
        .map_err(|error| ServerError::Nonsense(quoted(&error.to_string())))?;
    if let Some(error) = line.error {
        return Err(ServerError::Gone(format!("it broke off: {}", quoted(&error))));
    }
    let said = line.response.or(line.message.and_then(|message| message.content));
    Ok(Piece {
        text: said.unwrap_or_default(),
        model: line.model,
        counts: Counts {
            generated: line.eval_count,
            prompt: line.prompt_eval_count,
            generation_nanos: line.eval_duration,
        },
        is_token: !line.done,
        is_last: line.done,
        ..Piece::default()
    })
}

/// Where to ask, and what. A bare prompt goes through the model's own template.
pub(super) fn request(generation: &Generation) -> (&'static str, Value) {
    let mut options = generation.options.named();
    options.insert("num_predict".to_owned(), generation.max_tokens.into());
    let mut body = Map::from_iter([
        ("model".to_owned(), generation.server_name.as_str().into()),
        ("stream".to_owned(), true.into()),
        ("options".to_owned(), options.into()),
    ]);
    let path = match &generation.prompt {
        Prompt::Text { prompt, system } => {
            body.insert("prompt".to_owned(), prompt.as_str().into());
            if let Some(system) = system {
                body.insert("system".to_owned(), system.as_str().into());
            }
            "/api/generate"
        }
        Prompt::Messages(messages) => {
            body.insert("messages".to_owned(), json!(messages));
            "/api/chat"
        }
    };
    (path, body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_other_things_refused() {
        let body = br#"{"models":[{"name":"llama3.2:latest","size":1,"details":{"family":"llama"}},
            {"name":"qwen2.5:0.5b"}]}"#;
        assert_eq!(models(body).unwrap(), ["llama3.2:latest", "qwen2.5:0.5b"]);
        for body in ["", "[]", "{}", r#"{"models":[{"name":1}]}"#, r#"{"models":null}"#] {
            assert!(models(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn pieces_counts_and_complaints() {
        let piece = heard(r#"{"model":"m","response":"He","done":false}"#).unwrap();
        assert_eq!((piece.text.as_str(), piece.is_last), ("He", false));
        let chat = r#"{"model":"m","message":{"role":"assistant","content":"llo"},"done":false}"#;
        assert_eq!(heard(chat).unwrap().text, "llo");
        let last = r#"{"model":"m","response":"","done":true,"done_reason":"stop","context":[1,2],
            "prompt_eval_count":26,"eval_count":200,"eval_duration":4000000000}"#;
        let last = heard(&last.replace('\n', "")).unwrap();
        assert!(last.is_last);
        let counts = Counts {
            generated: Some(200),
            prompt: Some(26),
            generation_nanos: Some(4_000_000_000),
        };
        assert_eq!(last.counts, counts);
        assert_eq!(heard("").unwrap(), Piece::default());
        assert!(matches!(heard(r#"{"error":"out of memory"}"#), Err(ServerError::Gone(_))));
        for line in ["<html>", "[]", "1", r#"{"response":1}"#, r#"{"eval_count":-1}"#] {
            assert!(matches!(heard(line), Err(ServerError::Nonsense(_))), "{line}");
        }
    }
}
