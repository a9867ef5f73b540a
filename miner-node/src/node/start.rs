//! What a node tries out at its start: whether jobs can be isolated here, and which runners work.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tracing::{debug, error, info, warn};

use super::NodeError;
use crate::config::Config;
use crate::runners::{Remark, Runners, Standing, Trial};
use crate::sandbox::{Isolation, Sandbox, Tools};
use crate::workdir::Workspace;

/// The sandbox, if the machine can do it, and the level that it was seen to reach.
pub(super) async fn isolate(
    config: &Config,
    workspace: &Workspace,
    executable: &Path,
) -> Result<(Option<Sandbox>, Option<Isolation>), NodeError> {
    let fail = |source| NodeError::Io { what: "sandbox", source };
    let tools = match Tools::find() {
        Ok(tools) => tools,
        Err(why) => {
            error!(event = "no_sandbox", "no sandbox, so no job can be run: {why}");
            return Ok((None, None));
        }
    };
    let mut policy = config.sandbox_policy();
    policy.reached.push(executable.to_owned());
    let mut sandbox = Sandbox::new(tools, &policy).map_err(fail)?;
    let tries_users = sandbox.isolation().own_user;
    if tries_users {
        workspace.let_others_through(true).map_err(fail)?;
    }
    let probed = sandbox.probe(&workspace.root().join("trial")).await;
    if tries_users && !sandbox.isolation().own_user {
        workspace.let_others_through(false).map_err(fail)?;
    }
    match probed {
        Ok(level) => {
            info!(event = "sandbox", %level, "sandbox works: {level}");
            Ok((Some(sandbox), Some(level)))
        }
        Err(why) => {
            error!(event = "no_sandbox", "no sandbox, so no job can be run: {why}");
            Ok((None, None))
        }
    }
}

/// The runners that are switched on and work.
pub(super) async fn try_runners(
    config: &Config,
    sandbox: &Sandbox,
    workspace: &Workspace,
    executable: &Path,
) -> Runners {
    let owner = protocol::Sha256Hex::of(workspace.root().as_os_str().as_bytes()).to_string();
    let trial = Trial {
        settings: &config.runners,
        sandbox,
        executable,
        root: workspace.root(),
        owner: &owner,
        divides_processors: config.divides_processors(),
    };
    Runners::tried(&trial, tell).await
}

fn tell(remark: Remark) {
    let Remark { runner, state, what } = remark;
    match state {
        Standing::Works => debug!(event = "runner", runner, "{what}"),
        Standing::Partly(fix) => warn!(event = "runner", runner, "{runner}: {what} ({fix})"),
        Standing::Fails(fix) => {
            error!(event = "no_runner", runner, "{runner} is not offered: {what} ({fix})");
        }
    }
}

/// A server that is away is asked again later.
pub(super) fn complain_of_server(remark: Remark) {
    let Remark { runner, what, .. } = remark;
    warn!(event = "no_server", runner, "{what}");
}
