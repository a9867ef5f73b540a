//! Servers that generate text: Ollama, and whatever speaks as OpenAI does (llama.cpp, vLLM, ..).

use std::time::Duration;

use serde_json::Value;

use super::{Connection, ServerError, quoted};

mod generation;
pub mod ollama;
pub mod openai;
mod transcript;

pub use generation::{Generation, Message, Options, Prompt, Role};
pub use transcript::{Counts, Piece, Transcript};

/// The largest list of models that is read, in bytes.
const LARGEST_LIST: usize = 4 << 20;

/// How long a server may take to list its models.
const LIST_PATIENCE: Duration = Duration::from_secs(20);

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Ollama's own API: a line of JSON for each piece.
    Ollama,
    /// `/v1/chat/completions`: server-sent events.
    OpenAi,
}

impl Dialect {
    /// The names of the models in the body of a list.
    ///
    /// # Errors
    /// [`ServerError::Nonsense`] where it is no such list.
    pub fn models(self, body: &[u8]) -> Result<Vec<String>, ServerError> {
        let names = match self {
            Self::Ollama => ollama::models(body),
            Self::OpenAi => openai::models(body),
        };
        names.map_err(|error| {
            ServerError::Nonsense(format!("no list of models: {}", quoted(&error.to_string())))
        })
    }

    /// What one line of a reply says.
    ///
    /// # Errors
    /// What the server complains of, or that it makes no sense.
    pub fn heard(self, line: &str) -> Result<Piece, ServerError> {
        match self {
            Self::Ollama => ollama::heard(line),
            Self::OpenAi => openai::heard(line),
        }
    }

    const fn list_path(self) -> &'static str {
        match self {
            Self::Ollama => "/api/tags",
            Self::OpenAi => "/v1/models",
        }
    }

    fn request(self, generation: &Generation) -> (&'static str, Value) {
        match self {
            Self::Ollama => ollama::request(generation),
            Self::OpenAi => openai::request(generation),
        }
    }
}

/// Asks which models a server has, in the first of `dialects` that it understands.
///
/// # Errors
/// Why it does not say so in the last of them.
pub async fn models(
    connection: &Connection,
    dialects: &[Dialect],
) -> Result<(Dialect, Vec<String>), ServerError> {
    let mut outcome = Err(ServerError::Gone("it is not asked".to_owned()));
    for &dialect in dialects {
        let listing = connection.get(dialect.list_path(), LARGEST_LIST);
        let listed = tokio::time::timeout(LIST_PATIENCE, listing)
            .await
            .unwrap_or_else(|_| Err(ServerError::Gone("it does not list its models".to_owned())));
        outcome = listed.and_then(|body| Ok((dialect, dialect.models(&body)?)));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}
