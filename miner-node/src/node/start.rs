//! What a node tries out at its start: whether jobs can be isolated here, and which runners work.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tracing::{error, info, warn};

use super::NodeError;
use crate::config::Config;
use crate::runners::{Allowlist, Builtin, Cli, Containers, Python, Runners, Wasm};
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
    executable: PathBuf,
) -> Runners {
    let mut runners = Runners::default();
    let trial = workspace.root().join("trial");
    if config.runners.builtin.enable {
        match Builtin::probe(executable.clone(), sandbox, &trial).await {
            Ok(builtin) => runners.builtin = Some(builtin),
            Err(why) => error!(event = "no_builtin", "built-in work is not offered: {why}"),
        }
    }
    if config.runners.container.enable {
        let owner = protocol::Sha256Hex::of(workspace.root().as_os_str().as_bytes()).to_string();
        match Containers::probe(&config.runners.container, sandbox, &owner).await {
            Ok(containers) => runners.containers = Some(containers),
            Err(why) => error!(event = "no_containers", "no containers are offered: {why}"),
        }
    }
    if config.runners.cli.enable {
        match Allowlist::load(&config.runners.cli.allowlist_dir) {
            Ok(list) => {
                for path in list.absent() {
                    warn!(event = "absent", "allowlisted, but not installed: {}", path.display());
                }
                runners.cli = Cli::new(list);
            }
            Err(error) => error!(event = "bad_allowlist", "{error}"),
        }
    }
    let python = &config.runners.python;
    if python.enable {
        let driver = workspace.root().join("driver.py");
        let complain = |why: String| warn!(event = "bad_task", "{why}");
        match Python::probe(python, driver, sandbox, &trial, complain).await {
            Ok(python) => runners.python = python,
            Err(why) => error!(event = "no_python", "no Python module is offered: {why}"),
        }
    }
    if config.runners.wasm.enable {
        match Wasm::probe(executable, sandbox, &trial).await {
            Ok(wasm) => runners.wasm = Some(wasm),
            Err(why) => error!(event = "no_wasm", "WebAssembly is not offered: {why}"),
        }
    }
    runners
}

/// A server that is away is asked again later.
pub(super) fn complain_of_server(why: &str) {
    warn!(event = "no_server", "{why}");
}
