//! The `llm` runner (`llm_gen`): a job's prompt becomes a request to the owner's inference server.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use protocol::{FailureCode, Job, Name};

use super::served::unambiguous;
use super::{Refusal, wanted_model};
use crate::config::{LlmApi, LlmRunner, Secret, Selection};
use crate::sandbox::Limits;
use crate::servers::text::{self, Dialect, Generation};
use crate::servers::{Call, Connection, Request, ServerError};

pub mod params;

/// The workload of this runner.
pub const WORKLOAD: &str = "llm_gen";

/// The runner.
#[derive(Debug)]
pub struct Llm {
    connection: Arc<Connection>,
    dialects: &'static [Dialect],
    selection: Selection,
    is_on_gpu: bool,
    /// What the server was last seen to have; empty where it did not answer.
    seen: RwLock<Seen>,
}

/// The models that can be asked for, by the names under which they are offered: what the server
/// calls them.
type Models = BTreeMap<Name, String>;

#[derive(Debug, Default)]
struct Seen {
    dialect: Option<Dialect>,
    models: Models,
}

impl Llm {
    /// A runner as configured, of which nothing is known yet: see [`refresh`](Self::refresh).
    ///
    /// # Errors
    /// Where the key cannot be read, or TLS cannot be set up.
    pub fn new(config: &LlmRunner) -> Result<Self, String> {
        let read = |path: &std::path::PathBuf| {
            let key = Secret::read(path)
                .map_err(|error| format!("runners.llm.api_key_file {}: {error}", path.display()))?;
            Ok::<_, String>(Secret::new(format!("Bearer {}", key.expose())))
        };
        let authorization = config.api_key_file.as_ref().map(read).transpose()?;
        let silence = Duration::from_secs(config.timeout_s.into());
        let connection = Connection::new(config.url.clone(), authorization, silence);
        Ok(Self {
            connection: Arc::new(connection.map_err(|error| error.to_string())?),
            dialects: match config.api {
                LlmApi::Auto => &[Dialect::Ollama, Dialect::OpenAi],
                LlmApi::Ollama => &[Dialect::Ollama],
                LlmApi::OpenAi => &[Dialect::OpenAi],
            },
            selection: config.models.clone(),
            is_on_gpu: config.gpu,
            seen: RwLock::default(),
        })
    }

    /// Asks the server which models it has; afterwards these are offered and no others, none where
    /// it did not answer.
    ///
    /// # Errors
    /// Why it did not answer.
    pub async fn refresh(&self) -> Result<(), ServerError> {
        let answer = text::models(&self.connection, self.dialects).await;
        let (seen, error) = match answer {
            Ok((dialect, names)) => {
                let models = offered(&names, &self.selection, dialect);
                (Seen { dialect: Some(dialect), models }, None)
            }
            Err(error) => (Seen::default(), Some(error)),
        };
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = seen;
        error.map_or(Ok(()), Err)
    }

    /// The names of the models that can be asked for.
    pub fn models(&self) -> Vec<Name> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.models.keys().cloned().collect()
    }

    /// Whether its jobs reach a GPU of this machine.
    pub const fn is_on_gpu(&self) -> bool {
        self.is_on_gpu
    }

    pub(super) fn plan(&self, job: &Job, limits: Limits) -> Result<Call, Refusal> {
        let params = params::Params::of(job)?;
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let dialect = seen.dialect.ok_or_else(|| {
            Refusal::new(FailureCode::Internal, "the inference server does not answer")
        })?;
        let (model, server_name) = wanted_model(job, params.model.as_deref(), &seen.models)?;
        let generation = Generation {
            connection: Arc::clone(&self.connection),
            dialect,
            model: model.to_string(),
            server_name: server_name.clone(),
            max_tokens: params.max_tokens(job),
            prompt: params.prompt,
            options: params.options,
        };
        Ok(Call { request: Request::Text(generation), limits })
    }
}

/// Under which names the models are offered: their own, without the places that servers put before
/// them, since no name of the market has a slash (`meta-llama/Llama-3.1-8B` is `Llama-3.1-8B`).
fn offered(names: &[String], selection: &Selection, dialect: Dialect) -> Models {
    let named = names.iter().flat_map(|server_name| {
        let name = server_name.rsplit('/').next().unwrap_or_default();
        // With Ollama, a name without a tag means this one.
        let bare = name.strip_suffix(":latest").filter(|_| dialect == Dialect::Ollama);
        [Some(name), bare].into_iter().flatten().map(|name| (name, server_name.as_str()))
    });
    unambiguous(named, selection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str], selection: &str, dialect: Dialect) -> Vec<String> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let selection = serde_json::from_value(selection.into()).unwrap();
        let models = offered(&names, &selection, dialect);
        models.iter().map(|(name, server)| format!("{name}={server}")).collect()
    }

    #[test]
    fn models_are_offered_under_plain_names() {
        let seen = ["llama3.2:latest", "qwen2.5:7b", "hf.co/a/b:Q4", "a b", "", "x/"];
        assert_eq!(
            names(&seen, "any", Dialect::Ollama),
            [
                "b:Q4=hf.co/a/b:Q4",
                "llama3.2=llama3.2:latest",
                "llama3.2:latest=llama3.2:latest",
                "qwen2.5:7b=qwen2.5:7b"
            ]
        );
        assert_eq!(names(&["m:latest"], "any", Dialect::OpenAi), ["m:latest=m:latest"]);
    }

    #[test]
    fn the_owner_selects_and_ambiguous_names_are_nobodys() {
        assert_eq!(names(&["a", "b", "c"], "a, c, d", Dialect::OpenAi), ["a=a", "c=c"]);
        assert_eq!(names(&["x/a", "y/a", "b"], "any", Dialect::OpenAi), ["b=b"]);
        assert_eq!(names(&["a", "a"], "any", Dialect::OpenAi), ["a=a"]);
    }
}
