//! The `sd` runner (`sd_infer`): a job's prompt becomes a request to the owner's painting server, and
//! the PNG that comes of it the artifact `image.png`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::job::RunnerKind;
use protocol::{FailureCode, Job, Name};
use serde::Deserialize;

use super::served::unambiguous;
use super::{Refusal, wanted_model};
use crate::config::{SdRunner, Secret, Selection};
use crate::sandbox::Limits;
use crate::servers::images::{Checkpoint, IMAGE, Painting, Studio};
use crate::servers::{Call, Connection, Request, ServerError};

/// The workload of this runner.
pub const WORKLOAD: &str = "sd_infer";

/// The kind of runner that such jobs ask for: to their clients it is a Python pipeline.
pub const KIND: RunnerKind = RunnerKind::Python;

/// The longest prompt, in bytes.
const LONGEST_PROMPT: usize = 16 << 10;

/// The smallest side of an image, and of what its sides have to be multiples, in pixels.
const SMALLEST_SIDE: u32 = 64;
const SIDE_STEP: u32 = 8;

/// The runner.
#[derive(Debug)]
pub struct Sd {
    studio: Arc<Studio>,
    selection: Selection,
    is_on_gpu: bool,
    max_steps: u32,
    max_side_px: u32,
    /// What the server was last seen to have, by the names under which it is offered; `None` where
    /// it did not answer.
    seen: RwLock<Option<BTreeMap<Name, String>>>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    model: Option<String>,
    prompt: String,
    #[serde(default)]
    negative_prompt: String,
    #[serde(default = "usual_steps")]
    steps: u32,
    #[serde(default = "usual_side")]
    width: u32,
    #[serde(default = "usual_side")]
    height: u32,
    seed: Option<u32>,
    cfg_scale: Option<f64>,
    #[serde(alias = "sampler_name")]
    sampler: Option<String>,
}

const fn usual_steps() -> u32 {
    20
}

const fn usual_side() -> u32 {
    512
}

impl Sd {
    /// A runner as configured, of which nothing is known yet: see [`refresh`](Self::refresh).
    ///
    /// # Errors
    /// Where the password cannot be read, or TLS cannot be set up.
    pub fn new(config: &SdRunner) -> Result<Self, String> {
        let read = |path: &std::path::PathBuf| {
            let secret = Secret::read(path)
                .map_err(|error| format!("runners.sd.api_auth_file {}: {error}", path.display()))?;
            Ok::<_, String>(Secret::new(format!("Basic {}", STANDARD.encode(secret.expose()))))
        };
        let authorization = config.api_auth_file.as_ref().map(read).transpose()?;
        let silence = Duration::from_secs(config.timeout_s.into());
        let connection = Connection::new(config.url.clone(), authorization, silence);
        Ok(Self {
            studio: Arc::new(Studio::new(connection.map_err(|error| error.to_string())?)),
            selection: config.models.clone(),
            is_on_gpu: config.gpu,
            max_steps: config.max_steps,
            max_side_px: config.max_side_px,
            seen: RwLock::default(),
        })
    }

    /// Asks the server which models it has; afterwards these are offered and no others, none where
    /// it did not answer.
    ///
    /// # Errors
    /// Why it did not answer.
    pub async fn refresh(&self) -> Result<(), ServerError> {
        let (seen, outcome) = match self.studio.checkpoints().await {
            Ok(list) => (Some(offered(&list, &self.selection)), Ok(())),
            Err(error) => (None, Err(error)),
        };
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = seen;
        outcome
    }

    /// The names of the models that can be asked for.
    pub fn models(&self) -> Vec<Name> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.iter().flat_map(|models| models.keys().cloned()).collect()
    }

    /// Whether its jobs reach a GPU of this machine.
    pub const fn is_on_gpu(&self) -> bool {
        self.is_on_gpu
    }

    pub(super) fn plan(&self, job: &Job, limits: Limits) -> Result<Call, Refusal> {
        let params: Params = serde_json::from_value(job.params.clone().into())
            .map_err(|error| refused(&error.to_string()))?;
        check(&params)?;
        self.check_size(&params)?;
        if !job.artifacts.iter().any(|rule| rule.path.as_str() == IMAGE) {
            let why = format!("the image would be lost: artifacts does not name {IMAGE}");
            return Err(Refusal::new(FailureCode::Input, why));
        }
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let models = seen.as_ref().ok_or_else(|| {
            Refusal::new(FailureCode::Internal, "the painting server does not answer")
        })?;
        let (model, checkpoint) = wanted_model(job, params.model.as_deref(), models)?;
        let painting = Painting {
            studio: Arc::clone(&self.studio),
            model: model.to_string(),
            checkpoint: checkpoint.clone(),
            prompt: params.prompt,
            negative_prompt: params.negative_prompt,
            steps: params.steps,
            width: params.width,
            height: params.height,
            seed: params.seed,
            cfg_scale: params.cfg_scale,
            sampler: params.sampler,
        };
        Ok(Call { request: Request::Image(painting), limits })
    }

    /// More than the owner gives is refused, not made less.
    fn check_size(&self, params: &Params) -> Result<(), Refusal> {
        let Params { steps, width, height, .. } = *params;
        let deny = |why: String| Err(Refusal::new(FailureCode::Deny, why));
        if steps > self.max_steps {
            return deny(format!("{steps} steps; this node gives {} at most", self.max_steps));
        }
        if width.max(height) > self.max_side_px {
            let most = self.max_side_px;
            return deny(format!("{width} x {height} pixels; this node gives {most} x {most}"));
        }
        Ok(())
    }
}

fn check(params: &Params) -> Result<(), Refusal> {
    let side = |side: u32| side >= SMALLEST_SIDE && side.is_multiple_of(SIDE_STEP);
    let scale = params.cfg_scale.unwrap_or(1.0);
    let sampler = params.sampler.as_deref().unwrap_or("Euler");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || " +-_.".contains(c);
    let rules = [
        (params.prompt.trim().is_empty(), "prompt is empty"),
        (
            params.prompt.len().max(params.negative_prompt.len()) > LONGEST_PROMPT,
            "prompts are at most 16 KiB",
        ),
        (params.steps == 0, "steps must be at least 1"),
        (
            !side(params.width) || !side(params.height),
            "width and height must be multiples of 8, at least 64",
        ),
        (!(0.0..=30.0).contains(&scale), "cfg_scale must be 0 to 30"),
        (
            sampler.is_empty() || sampler.len() > 64 || !sampler.chars().all(is_plain),
            "sampler must be the plain name of one",
        ),
    ];
    match rules.into_iter().find(|(is_broken, _)| *is_broken) {
        Some((_, why)) => Err(refused(why)),
        None => Ok(()),
    }
}

fn refused(why: &str) -> Refusal {
    Refusal::new(FailureCode::Input, format!("params: {why}"))
}

/// The models whose names can stand in a job.
fn offered(list: &[Checkpoint], selection: &Selection) -> BTreeMap<Name, String> {
    let named = list.iter().map(|model| (model.model_name.as_str(), model.title.as_str()));
    unambiguous(named, selection)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::job;
    use super::*;

    fn sd() -> Sd {
        // Another test may have been faster; it is the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sd = Sd::new(&SdRunner::default()).unwrap();
        let list = [("a", "a.safetensors [1]"), ("b", "x/b [2]"), ("b", "y/b [3]"), ("c d", "e")];
        let list = list.map(|(name, title)| Checkpoint {
            model_name: name.to_owned(),
            title: title.to_owned(),
        });
        *sd.seen.write().unwrap() = Some(offered(&list, &Selection::Any));
        sd
    }

    fn plan(params: Value) -> Result<Painting, Refusal> {
        let mut job = job("sd_infer");
        job.params = params.as_object().unwrap().clone();
        job.artifacts = serde_json::from_value(json!([{"path": "image.png"}])).unwrap();
        match sd().plan(&job, Limits::trial())?.request {
            Request::Image(painting) => Ok(painting),
            Request::Text(_) => panic!("no image"),
        }
    }

    #[test]
    fn jobs_say_what_to_paint() {
        assert_eq!(sd().models(), ["a".parse().unwrap()]);
        let painting = plan(json!({"model": "a", "prompt": "a cat", "seed": 7, "width": 768,
            "sampler_name": "DPM++ 2M", "cfg_scale": 7}))
        .unwrap();
        assert_eq!(painting.checkpoint, "a.safetensors [1]");
        assert_eq!((painting.steps, painting.width, painting.height), (20, 768, 512));
        assert_eq!((painting.seed, painting.sampler.as_deref()), (Some(7), Some("DPM++ 2M")));
    }

    #[test]
    fn everything_else_is_refused() {
        for (more, code) in [
            (json!({"model": "b"}), FailureCode::Unsupported),
            (json!({"model": null}), FailureCode::Input),
            (json!({"prompt": " "}), FailureCode::Input),
            (json!({"prompt": "x".repeat(20_000)}), FailureCode::Input),
            (json!({"steps": 0}), FailureCode::Input),
            (json!({"steps": 101}), FailureCode::Deny),
            (json!({"width": 2048}), FailureCode::Deny),
            (json!({"height": 4_294_967_288_u32}), FailureCode::Deny),
            (json!({"height": 100}), FailureCode::Input),
            (json!({"cfg_scale": 31}), FailureCode::Input),
            (json!({"sampler": "a\nb"}), FailureCode::Input),
            (json!({"batch_size": 9}), FailureCode::Input),
            (json!({"override_settings": {}}), FailureCode::Input),
            (json!({"script_name": "x"}), FailureCode::Input),
        ] {
            let mut params = json!({"model": "a", "prompt": "a cat"});
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert_eq!(plan(params).unwrap_err().code, code, "{more}");
        }
    }

    #[test]
    fn an_image_that_nobody_would_get_is_not_painted() {
        let mut job = job("sd_infer");
        job.params = json!({"model": "a", "prompt": "a cat"}).as_object().unwrap().clone();
        let refusal = sd().plan(&job, Limits::trial()).unwrap_err();
        assert!(refusal.message.contains("image.png"), "{refusal}");
    }
}
