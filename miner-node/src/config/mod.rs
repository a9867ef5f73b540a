//! What the node's owner decides, as one value: [`Config`], with a default for every key.
//!
//! Where the values come from, and in which order they win, is in [`load()`]; the list of all keys
//! with their other names is in [`keys`].

use std::path::PathBuf;

use protocol::Name;
use serde::{Deserialize, Serialize};

pub mod accept;
pub mod base_url;
mod check;
pub mod coordinator;
pub mod environment;
pub mod error;
pub mod grammar;
pub mod keys;
pub mod listen;
pub mod load;
pub mod logging;
pub mod mining;
pub mod origin;
pub mod resources;
pub mod runners;
pub mod sandbox;
pub mod secret;
pub mod selection;
pub mod setting;
pub mod show;
pub mod sources;
#[cfg(test)]
mod tests;
pub mod token;
pub mod workspace;

pub use accept::{Accept, Egress};
pub use base_url::BaseUrl;
pub use coordinator::{Backoff, Coordinator, Heartbeat, Poll};
pub use environment::Environment;
pub use error::ConfigError;
pub use listen::{Listen, ListenAddress};
pub use load::{Loaded, Places, load};
pub use logging::{LogFormat, LogLevel, Logging};
pub use mining::Mining;
pub use resources::{Resources, SlotPlan};
pub use runners::{
    BuiltinRunner, CliRunner, ContainerRunner, LlmApi, LlmRunner, PythonRunner, Runners, SdRunner,
    WasmRunner,
};
pub use sandbox::Sandbox;
pub use secret::Secret;
pub use selection::Selection;
pub use workspace::Workspace;

/// Everything that can be set, each value being the one that counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The node's stable label; absent: the one that is kept in `state_dir`, made at first run.
    pub node_id: Option<Name>,
    /// The wallet that is credited; absent: the one that the API key belongs to.
    pub wallet: Option<Name>,
    /// Where the node stands, in the owner's words; jobs may ask for a region.
    pub region: Option<Name>,
    /// Where the signing key and the node's id are kept; absent: in `workspace.root`.
    pub state_dir: Option<PathBuf>,
    /// Whether GPUs are used.
    pub accel_mode: AccelMode,
    /// The coordinator.
    pub coordinator: Coordinator,
    /// Asking for work.
    pub poll: Poll,
    /// Signs of life.
    pub heartbeat: Heartbeat,
    /// What runs jobs.
    pub runners: Runners,
    /// How much of the machine jobs may take.
    pub resources: Resources,
    /// How they are isolated.
    pub sandbox: Sandbox,
    /// Where jobs live on disk, and for how long.
    pub workspace: Workspace,
    /// Ending the node.
    pub shutdown: Shutdown,
    /// What the node says about itself.
    pub logging: Logging,
    /// What jobs may reach.
    pub egress: Egress,
    /// Which jobs the owner consents to.
    pub accept: Accept,
    /// What idle processors mine.
    pub mining: Mining,
    /// Where the node tells about itself.
    pub listen: Listen,
}

/// Whether GPUs are used (`ACCEL_MODE`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelMode {
    /// GPUs where there are any.
    #[default]
    Auto,
    /// The same; their absence is worth a warning.
    Gpu,
    /// Never.
    Cpu,
}

/// Ending the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long running jobs may go on after the first signal, in seconds.
    pub grace_s: u32,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { grace_s: 60 }
    }
}

impl Config {
    /// Where the signing key and the node's id are kept.
    pub fn state_dir(&self) -> &std::path::Path {
        self.state_dir.as_deref().unwrap_or(&self.workspace.root)
    }

    /// Whether jobs have to keep off some processors: those that the owner has for other things, or
    /// those on which something is mined.
    pub const fn divides_processors(&self) -> bool {
        self.mining.enabled || self.sandbox.cpu_affinity.is_some()
    }

    /// What the owner decided about how jobs run.
    pub fn sandbox_policy(&self) -> crate::sandbox::Policy {
        let Sandbox { uid_base, uid_count, .. } = self.sandbox;
        crate::sandbox::Policy {
            nice: self.resources.cpu_nice,
            disk_turn: self.sandbox.ionice,
            processors: self
                .sandbox
                .cpu_affinity
                .as_ref()
                .map_or_else(Vec::new, |list| list.numbers().to_vec()),
            users: (uid_count > 0)
                .then_some(crate::sandbox::UserRange { first: uid_base, count: uid_count }),
            reached: self
                .workspace
                .root
                .parent()
                .map(std::path::Path::to_owned)
                .into_iter()
                .collect(),
            required: self.sandbox.require.clone(),
            ..crate::sandbox::Policy::default()
        }
    }
}
