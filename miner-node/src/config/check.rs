//! Rules between values, and within them, that their types do not express.

use std::path::Path;

use super::error::ConfigError;
use super::load::Loaded;
use super::mining::{EngineKind, Mining, Xmrig};
use super::{AccelMode, Config, keys};

/// Longest time that the coordinator holds a question.
const MAX_WAIT_S: u32 = 30;

/// Checks a configuration and adds to its warnings.
///
/// # Errors
/// The first rule that is broken.
pub fn check(loaded: &mut Loaded) -> Result<(), ConfigError> {
    let config = &loaded.config;
    if let Err(problem) = config.mining.policy.check() {
        let path = format!("mining.policy.{}", problem.key);
        let origin = loaded.origin(&path).clone();
        return Err(ConfigError::Value { key: path, origin, message: problem.message.to_owned() });
    }
    for (path, broken, message) in rules(config) {
        if broken {
            let origin = loaded.origin(path).clone();
            return Err(ConfigError::Value {
                key: keys::by_path(path).map_or(path.to_owned(), |key| origin.name_of(key)),
                origin,
                message: message.to_owned(),
            });
        }
    }
    if let Some((path, message)) = mining_fault(&config.mining) {
        let origin = loaded.origin(path).clone();
        return Err(ConfigError::Value { key: path.to_owned(), origin, message });
    }
    let warnings = warnings(config, loaded);
    loaded.warnings.extend(warnings);
    Ok(())
}

/// Each rule: the key to blame, whether it is broken, and what to do.
fn rules(config: &Config) -> Vec<(&'static str, bool, &'static str)> {
    let Config { coordinator, poll, heartbeat, resources, sandbox, workspace, accept, .. } = config;
    let (llm, sd) = (&config.runners.llm, &config.runners.sd);
    let relative = |path: &Path| !path.is_absolute();
    let insecure = !coordinator.base_url.is_https()
        && !coordinator.base_url.is_loopback()
        && !coordinator.allow_insecure;
    vec![
        (
            "coordinator.base_url",
            insecure,
            "refusing http:// to another machine, the API key would be readable on the way; use https:// (or set ALLOW_INSECURE=1)",
        ),
        ("coordinator.connect_timeout_s", coordinator.connect_timeout_s == 0, "must be at least 1"),
        ("coordinator.timeout_s", coordinator.timeout_s == 0, "must be at least 1"),
        ("poll.interval_s", poll.interval_s == 0, "must be at least 1"),
        ("poll.wait_s", poll.wait_s > MAX_WAIT_S, "must be at most 30"),
        ("heartbeat.interval_s", heartbeat.interval_s == 0, "must be at least 1"),
        ("heartbeat.jitter_pct", heartbeat.jitter_pct > 50, "must be at most 50"),
        ("heartbeat.backoff.min_s", heartbeat.backoff.min_s == 0, "must be at least 1"),
        (
            "heartbeat.backoff.max_s",
            heartbeat.backoff.max_s < heartbeat.backoff.min_s,
            "must not be less than heartbeat.backoff.min_s",
        ),
        ("resources.max_concurrency", resources.max_concurrency == Some(0), "must be at least 1"),
        ("resources.cpu_nice", resources.cpu_nice > 19, "must be at most 19"),
        ("resources.max_cpu_threads", resources.max_cpu_threads == Some(0), "must be at least 1"),
        ("sandbox.max_processes", sandbox.max_processes == 0, "must be at least 1"),
        ("sandbox.max_open_files", sandbox.max_open_files < 16, "must be at least 16"),
        (
            "sandbox.uid_base",
            sandbox.uid_count > 0 && sandbox.uid_base.checked_add(sandbox.uid_count).is_none(),
            "and uid_count go beyond the largest user id",
        ),
        (
            "sandbox.uid_base",
            sandbox.uid_count > 0 && sandbox.uid_base < 1000,
            "must be at least 1000: those below are the system's",
        ),
        ("workspace.root", relative(&workspace.root), "must be an absolute path"),
        (
            "state_dir",
            config.state_dir.as_deref().is_some_and(relative),
            "must be an absolute path",
        ),
        (
            "runners.cli.allowlist_dir",
            relative(&config.runners.cli.allowlist_dir),
            "must be an absolute path",
        ),
        ("runners.llm.timeout_s", llm.timeout_s == 0, "must be at least 1"),
        ("runners.llm.refresh_s", llm.refresh_s == 0, "must be at least 1"),
        ("runners.sd.timeout_s", sd.timeout_s == 0, "must be at least 1"),
        ("runners.sd.refresh_s", sd.refresh_s == 0, "must be at least 1"),
        (
            "runners.sd.url",
            sd.api_auth_file.is_some() && !sd.url.is_https() && !sd.url.is_loopback(),
            "refusing http:// to another machine, the password of runners.sd.api_auth_file would be readable on the way; use https://",
        ),
        (
            "runners.llm.url",
            llm.api_key_file.is_some() && !llm.url.is_https() && !llm.url.is_loopback(),
            "refusing http:// to another machine, the key of runners.llm.api_key_file would be readable on the way; use https://",
        ),
        (
            "runners.python.venv",
            config.runners.python.venv.as_deref().is_some_and(relative),
            "must be an absolute path",
        ),
        (
            "runners.python.task_paths",
            config.runners.python.task_paths.iter().any(|path| relative(path)),
            "must be absolute paths",
        ),
        (
            "listen.token_file",
            config.listen.token_file.as_deref().is_some_and(relative),
            "must be an absolute path",
        ),
        ("egress.max_mb", config.egress.max_mb == 0, "must be at least 1"),
        ("accept.min_price", accept.min_price.is_negative(), "must not be negative"),
        ("accept.max_runtime_s", accept.max_runtime_s == 0, "must be at least 1"),
    ]
}

/// What keeps the node from mining as it is told to: the key to blame, and why.
fn mining_fault(mining: &Mining) -> Option<(&'static str, String)> {
    let fault = |path, message: &str| Some((path, message.to_owned()));
    for pool in &mining.pools {
        if let Err(error) = mining.checked(pool) {
            return Some(("mining.pools", error.to_string()));
        }
    }
    let Xmrig { path, url, token_file, donate_level } = &mining.xmrig;
    if mining.threads.is_some_and(|threads| threads == 0 || threads > 1024) {
        return fault("mining.threads", "must be from 1 to 1024");
    }
    if *donate_level > 99 {
        return fault("mining.xmrig.donate_level", "must be at most 99");
    }
    if path.is_some() && url.is_some() {
        return fault("mining.xmrig.url", "and mining.xmrig.path exclude each other");
    }
    if path.as_deref().is_some_and(|path| !path.is_absolute()) {
        return fault("mining.xmrig.path", "must be an absolute path");
    }
    if url.as_ref().is_some_and(|url| !url.is_https() && !url.is_loopback()) {
        let why = "refusing http:// to another machine, its token would be readable on the way";
        return fault("mining.xmrig.url", why);
    }
    if url.is_some() && token_file.is_none() {
        let why = "is needed: without one, XMRig lets nobody pause it";
        return fault("mining.xmrig.token_file", why);
    }
    if !mining.enabled {
        return None;
    }
    if mining.engine == EngineKind::Xmrig && path.is_none() && url.is_none() {
        return fault("mining.engine", "xmrig needs mining.xmrig.path or mining.xmrig.url");
    }
    if mining.pools.is_empty() && (mining.engine == EngineKind::Native || path.is_some()) {
        let why = "is true, but mining.pools is empty: there is nobody to mine for";
        return fault("mining.enabled", why);
    }
    None
}

fn warnings(config: &Config, loaded: &Loaded) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.coordinator.auth_token.as_ref().is_some_and(super::Secret::is_placeholder) {
        warnings.push(format!(
            "API_KEY in {} is still the sample's placeholder; a real coordinator refuses it",
            loaded.origin("coordinator.auth_token")
        ));
    }
    if config.coordinator.allow_insecure
        && !config.coordinator.base_url.is_https()
        && !config.coordinator.base_url.is_loopback()
    {
        warnings.push(format!(
            "ALLOW_INSECURE: the API key and all jobs travel unencrypted to {}",
            config.coordinator.base_url.host()
        ));
    }
    let (llm, sd) = (&config.runners.llm, &config.runners.sd);
    for (key, enable, url) in
        [("runners.llm.url", llm.enable, &llm.url), ("runners.sd.url", sd.enable, &sd.url)]
    {
        if enable && !url.is_https() && !url.is_loopback() {
            let host = url.host();
            warnings.push(format!("{key}: prompts and answers travel unencrypted to {host}"));
        }
    }
    if is_temporary(config.state_dir()) {
        warnings.push(format!(
            "the signing key is kept in {}, which does not outlast a reboot; set state_dir",
            config.state_dir().display()
        ));
    }
    if config.accel_mode == AccelMode::Cpu
        && config.resources.max_concurrent_gpu.is_some_and(|n| n > 0)
    {
        warnings.push("ACCEL_MODE=cpu: resources.max_concurrent_gpu has no effect".to_owned());
    }
    warnings
}

fn is_temporary(path: &Path) -> bool {
    ["/tmp", "/dev/shm", "/run"].iter().any(|temporary| path.starts_with(temporary))
}
