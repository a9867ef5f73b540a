//! A request for text, and how it is carried out.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::super::page::Page;
use super::super::{Connection, Outcome, ServerError};
use super::Dialect;
use super::transcript::Transcript;
use crate::sandbox::{Ending, Limits, Places};

/// What is to be generated, by which model of which server.
#[derive(Debug, Clone)]
pub struct Generation {
    /// The server.
    pub connection: Arc<Connection>,
    /// How it is spoken to.
    pub dialect: Dialect,
    /// The model, as it is offered to jobs.
    pub model: String,
    /// The model, as the server calls it.
    pub server_name: String,
    /// What to go on from.
    pub prompt: Prompt,
    /// How to choose among what may follow.
    pub options: Options,
    /// The most tokens.
    pub max_tokens: u32,
}

/// What to go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// A question.
    Text {
        /// It.
        prompt: String,
        /// What the model is told beforehand.
        system: Option<String>,
    },
    /// A conversation.
    Messages(Vec<Message>),
}

/// A part of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What.
    pub content: String,
}

/// Who speaks in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Nobody: it is how things are.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// How to choose among what may follow; absent is the server's own way. Nothing here changes what
/// a server loads or where: that is its owner's affair.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// 0 always takes the likeliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Where chance begins: the same one gives the same answer, on a server that works so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Only the likeliest that make up this share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Only so many of the likeliest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Only what has this share of the likeliest's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    /// Against saying the same again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f64>,
    /// Against what was said at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Against what was said often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Texts at which the answer ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

impl Options {
    /// Those that are set, by name: both dialects call them the same.
    pub fn named(&self) -> Map<String, Value> {
        match json!(self) {
            Value::Object(named) => named,
            _ => Map::new(),
        }
    }
}

impl Generation {
    /// Asks, and writes the answer as it comes; until `over` says how it ends before.
    pub(in crate::servers) async fn run(
        &self,
        places: &Places,
        limits: &Limits,
        over: impl Future<Output = Ending>,
    ) -> Result<Outcome, ServerError> {
        let mut page = Page::create(places, limits.output_bytes).await?;
        let mut transcript = Transcript::new(self.dialect, &self.server_name);
        let started = Instant::now();
        let ending = tokio::select! {
            ending = self.talk(&mut page, &mut transcript) => ending?,
            ending = over => ending,
        };
        page.close().await?;
        let counts = transcript.counts();
        // Not more than was asked for, whatever the server says that it did.
        let tokens = counts.generated.unwrap_or_default().min(self.max_tokens.into());
        let seconds = match counts.generation_nanos {
            Some(nanos) if nanos > 0 => nanos as f64 / 1e9,
            _ => started.elapsed().as_secs_f64(),
        };
        let mut metrics = Map::new();
        metrics.insert("tokens".to_owned(), tokens.into());
        if let Some(prompt) = counts.prompt {
            metrics.insert("prompt_tokens".to_owned(), prompt.into());
        }
        let rate = (tokens as f64 / seconds * 100.0).round() / 100.0;
        if rate.is_finite() {
            metrics.insert("tokens_per_s".to_owned(), json!(rate));
        }
        Ok(Outcome { ending, tokens: Some(tokens), metrics })
    }

    async fn talk(
        &self,
        page: &mut Page,
        transcript: &mut Transcript,
    ) -> Result<Ending, ServerError> {
        let (path, body) = self.dialect.request(self);
        let mut reply = self.connection.post(path, &body).await?;
        while !transcript.is_over() {
            let piece = reply.piece().await?;
            let text = match &piece {
                Some(bytes) => transcript.hear(bytes)?,
                None => transcript.end()?,
            };
            if !page.write(text.as_bytes()).await? {
                return Ok(Ending::OutputLimit);
            }
            page.progress(transcript.pieces(), self.max_tokens.into(), "tokens").await?;
            if piece.is_none() {
                break;
            }
        }
        Ok(Ending::Exited(0))
    }
}
