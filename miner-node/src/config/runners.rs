//! The section `runners`: what runs jobs.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{BaseUrl, Selection};

/// What runs jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runners {
    /// Work that the node itself knows (`hash`, `torch_bench`).
    pub builtin: BuiltinRunner,
    /// Allowlisted programs.
    pub cli: CliRunner,
    /// The owner's Python modules.
    pub python: PythonRunner,
    /// WebAssembly modules that jobs bring.
    pub wasm: WasmRunner,
    /// A server that generates text.
    pub llm: LlmRunner,
    /// A server that paints.
    pub sd: SdRunner,
    /// Images in the owner's podman or docker.
    pub container: ContainerRunner,
}

/// Work that the node itself knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuiltinRunner {
    /// Whether it is offered.
    pub enable: bool,
}

/// Allowlisted programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CliRunner {
    /// Whether it is offered.
    pub enable: bool,
    /// The directory of the allowlist: one YAML file per program; empty: nothing may run.
    pub allowlist_dir: PathBuf,
}

/// The owner's Python modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PythonRunner {
    /// Whether they are offered.
    pub enable: bool,
    /// The virtual environment that runs them; absent: the system's Python.
    pub venv: Option<PathBuf>,
    /// The directories of the modules that jobs may name; none: none may run.
    pub task_paths: Vec<PathBuf>,
}

/// WebAssembly modules that jobs bring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WasmRunner {
    /// Whether it is offered.
    pub enable: bool,
}

impl Default for BuiltinRunner {
    fn default() -> Self {
        Self { enable: true }
    }
}

impl Default for CliRunner {
    fn default() -> Self {
        Self { enable: true, allowlist_dir: PathBuf::from("/etc/aitbc/miner/allowlist.d") }
    }
}

impl Default for PythonRunner {
    fn default() -> Self {
        Self { enable: true, venv: None, task_paths: Vec::new() }
    }
}

impl Default for WasmRunner {
    fn default() -> Self {
        Self { enable: true }
    }
}

/// A server that generates text (`llm_gen`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LlmRunner {
    /// Whether it is offered.
    pub enable: bool,
    /// Where it is.
    pub url: BaseUrl,
    /// How it is spoken to.
    pub api: LlmApi,
    /// A file that holds the key that it wants to see, if it wants one.
    pub api_key_file: Option<PathBuf>,
    /// Which of its models are offered.
    pub models: Selection,
    /// Whether it works on this machine's GPU, so that its jobs take a GPU's slot.
    pub gpu: bool,
    /// The longest silence while it works, in seconds: loading a model takes time.
    pub timeout_s: u32,
    /// How often it is asked for its models, in seconds.
    pub refresh_s: u32,
}

/// How a server that generates text is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LlmApi {
    /// As it understands: Ollama's way first.
    #[default]
    Auto,
    /// `/api/generate` and `/api/chat`.
    Ollama,
    /// `/v1/chat/completions`.
    OpenAi,
}

impl Default for LlmRunner {
    fn default() -> Self {
        Self {
            enable: false,
            url: "http://127.0.0.1:11434".parse().expect("a valid constant"),
            api: LlmApi::Auto,
            api_key_file: None,
            models: Selection::Any,
            gpu: true,
            timeout_s: 300,
            refresh_s: 60,
        }
    }
}

/// A server that paints (`sd_infer`): the HTTP API of AUTOMATIC1111's web UI.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SdRunner {
    /// Whether it is offered.
    pub enable: bool,
    /// Where it is.
    pub url: BaseUrl,
    /// A file that holds `user:password`, as the server's `--api-auth` has it, if it wants that.
    pub api_auth_file: Option<PathBuf>,
    /// Which of its models are offered.
    pub models: Selection,
    /// Whether it works on this machine's GPU, so that its jobs take a GPU's slot.
    pub gpu: bool,
    /// The most steps that a job may ask for.
    pub max_steps: u32,
    /// The longest side of an image that a job may ask for, in pixels.
    pub max_side_px: u32,
    /// The longest silence while it works, in seconds.
    pub timeout_s: u32,
    /// How often it is asked for its models, in seconds.
    pub refresh_s: u32,
}

impl Default for SdRunner {
    fn default() -> Self {
        Self {
            enable: false,
            url: "http://127.0.0.1:7860".parse().expect("a valid constant"),
            api_auth_file: None,
            models: Selection::Any,
            gpu: true,
            max_steps: 100,
            max_side_px: 1024,
            timeout_s: 600,
            refresh_s: 60,
        }
    }
}

/// Images in the owner's podman or docker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainerRunner {
    /// Whether it is offered.
    pub enable: bool,
    /// `auto`, `podman`, `docker`, or where the program is.
    pub engine: String,
    /// The images that may run, each as `NAME@sha256:DIGEST`.
    pub images: Vec<String>,
    /// Whether an engine with root's rights will do.
    pub allow_rootful: bool,
    /// Whether an image that is not here may be fetched.
    pub pull: bool,
}

impl Default for ContainerRunner {
    fn default() -> Self {
        Self {
            enable: false,
            engine: "auto".to_owned(),
            images: Vec::new(),
            allow_rootful: false,
            pull: false,
        }
    }
}
