//! The list of all keys: their place in the YAML file, their names in `miner.conf` and in the
//! environment, and what kind of value each takes. A test holds it against [`super::Config`].

/// A key of the configuration.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Its place in the YAML file, with points.
    pub path: &'static str,
    /// What it takes where values are plain text.
    pub kind: Kind,
    /// Its short names in `miner.conf` and the environment; the first that is set counts.
    pub names: &'static [&'static str],
    /// Whether its value must not be shown.
    pub secret: bool,
}

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number that is not negative.
    Number,
    /// 1, true, yes, on; 0, false, no, off.
    Flag,
    /// Names with commas between them.
    List,
}

const fn key(path: &'static str, kind: Kind, names: &'static [&'static str]) -> Key {
    Key { path, kind, names, secret: false }
}

/// Every key, section by section.
pub static KEYS: &[Key] = &[
    key("node_id", Kind::Text, &["MINER_ID", "CYXWIZ_NODE_ID"]),
    key("wallet", Kind::Text, &["WALLET_ADDR", "CYXWIZ_WALLET_ADDRESS"]),
    key("region", Kind::Text, &[]),
    key("state_dir", Kind::Text, &[]),
    key("accel_mode", Kind::Text, &["ACCEL_MODE"]),
    key("coordinator.base_url", Kind::Text, &["COORD_URL", "CYXWIZ_CENTRAL_SERVER"]),
    Key { path: "coordinator.auth_token", kind: Kind::Text, names: &["API_KEY"], secret: true },
    key("coordinator.auth_token_file", Kind::Text, &["API_KEY_FILE"]),
    key("coordinator.ca_file", Kind::Text, &[]),
    key("coordinator.client_cert_file", Kind::Text, &[]),
    key("coordinator.allow_insecure", Kind::Flag, &["ALLOW_INSECURE"]),
    key("coordinator.connect_timeout_s", Kind::Number, &[]),
    key("coordinator.timeout_s", Kind::Number, &[]),
    key("poll.interval_s", Kind::Number, &["JOB_POLL_SECS"]),
    key("poll.wait_s", Kind::Number, &[]),
    key("heartbeat.interval_s", Kind::Number, &["HEARTBEAT_SECS"]),
    key("heartbeat.jitter_pct", Kind::Number, &[]),
    key("heartbeat.backoff.min_s", Kind::Number, &[]),
    key("heartbeat.backoff.max_s", Kind::Number, &[]),
    key("runners.builtin.enable", Kind::Flag, &[]),
    key("runners.cli.enable", Kind::Flag, &[]),
    key("runners.cli.allowlist_dir", Kind::Text, &[]),
    key("runners.python.enable", Kind::Flag, &[]),
    key("runners.python.venv", Kind::Text, &[]),
    key("runners.python.task_paths", Kind::List, &[]),
    key("runners.wasm.enable", Kind::Flag, &[]),
    key("runners.llm.enable", Kind::Flag, &[]),
    key("runners.llm.url", Kind::Text, &[]),
    key("runners.llm.api", Kind::Text, &[]),
    key("runners.llm.api_key_file", Kind::Text, &[]),
    key("runners.llm.models", Kind::Text, &[]),
    key("runners.llm.gpu", Kind::Flag, &[]),
    key("runners.llm.timeout_s", Kind::Number, &[]),
    key("runners.llm.refresh_s", Kind::Number, &[]),
    key("runners.sd.enable", Kind::Flag, &[]),
    key("runners.sd.url", Kind::Text, &[]),
    key("runners.sd.api_auth_file", Kind::Text, &[]),
    key("runners.sd.models", Kind::Text, &[]),
    key("runners.sd.gpu", Kind::Flag, &[]),
    key("runners.sd.max_steps", Kind::Number, &[]),
    key("runners.sd.max_side_px", Kind::Number, &[]),
    key("runners.sd.timeout_s", Kind::Number, &[]),
    key("runners.sd.refresh_s", Kind::Number, &[]),
    key("runners.container.enable", Kind::Flag, &[]),
    key("runners.container.engine", Kind::Text, &[]),
    key("runners.container.images", Kind::List, &[]),
    key("runners.container.allow_rootful", Kind::Flag, &[]),
    key("runners.container.pull", Kind::Flag, &[]),
    key("resources.max_concurrency", Kind::Number, &["MAX_CONCURRENCY"]),
    key("resources.max_concurrent_cpu", Kind::Number, &[]),
    key("resources.max_concurrent_gpu", Kind::Number, &[]),
    key("resources.cpu_nice", Kind::Number, &[]),
    key("resources.max_ram_mb", Kind::Number, &[]),
    key("resources.max_cpu_threads", Kind::Number, &[]),
    key("resources.max_disk_mb", Kind::Number, &[]),
    key("resources.max_input_mb", Kind::Number, &[]),
    key("resources.max_output_mb", Kind::Number, &[]),
    key("sandbox.require", Kind::List, &[]),
    key("sandbox.max_processes", Kind::Number, &[]),
    key("sandbox.max_open_files", Kind::Number, &[]),
    key("sandbox.uid_base", Kind::Number, &[]),
    key("sandbox.uid_count", Kind::Number, &[]),
    key("sandbox.ionice", Kind::Text, &[]),
    key("sandbox.cpu_affinity", Kind::Text, &[]),
    key("workspace.root", Kind::Text, &["WORK_DIR"]),
    key("workspace.min_free_mb", Kind::Number, &[]),
    key("workspace.input_cache_mb", Kind::Number, &[]),
    key("workspace.keep_success_h", Kind::Number, &[]),
    key("workspace.keep_failed_h", Kind::Number, &[]),
    key("shutdown.grace_s", Kind::Number, &[]),
    key("logging.level", Kind::Text, &[]),
    key("logging.format", Kind::Text, &[]),
    key("logging.path", Kind::Text, &[]),
    key("egress.allow", Kind::List, &[]),
    key("egress.max_mb", Kind::Number, &[]),
    key("accept.workloads", Kind::Text, &[]),
    key("accept.clients", Kind::Text, &[]),
    key("accept.min_price", Kind::Text, &[]),
    key("accept.max_runtime_s", Kind::Number, &[]),
    key("accept.input_hosts", Kind::List, &[]),
    key("mining.enabled", Kind::Flag, &[]),
    key("mining.engine", Kind::Text, &[]),
    key("mining.algo", Kind::Text, &[]),
    key("mining.pools", Kind::List, &[]),
    key("mining.threads", Kind::Number, &[]),
    key("mining.pages", Kind::Text, &[]),
    key("mining.light", Kind::Flag, &[]),
    key("mining.secure_jit", Kind::Flag, &[]),
    key("mining.priority", Kind::Text, &[]),
    key("mining.xmrig.path", Kind::Text, &[]),
    key("mining.xmrig.url", Kind::Text, &[]),
    key("mining.xmrig.token_file", Kind::Text, &[]),
    key("mining.xmrig.donate_level", Kind::Number, &[]),
    key("mining.policy.mining", Kind::Flag, &[]),
    key("mining.policy.compute", Kind::Flag, &[]),
    key("mining.policy.load_pct", Kind::Number, &[]),
    key("mining.policy.quiet_s", Kind::Number, &[]),
    key("mining.policy.busy_pct", Kind::Number, &[]),
    key("mining.policy.input_s", Kind::Number, &[]),
    key("mining.policy.in_use_pct", Kind::Number, &[]),
    key("mining.policy.compute_in_use", Kind::Flag, &[]),
    key("mining.policy.quantum_s", Kind::Number, &[]),
    key("mining.policy.cpu_pct", Kind::Number, &[]),
    key("mining.policy.cpu_threads", Kind::Number, &[]),
    key("mining.policy.gpu_intensity", Kind::Number, &[]),
    key("mining.policy.schedule", Kind::List, &[]),
    key("mining.policy.on_battery", Kind::Flag, &[]),
    key("mining.policy.max_temperature_c", Kind::Number, &[]),
    key("mining.policy.max_power_w", Kind::Number, &[]),
    key("mining.policy.cpu_pressure_pct", Kind::Number, &[]),
    key("mining.policy.memory_pressure_pct", Kind::Number, &[]),
    key("mining.policy.memory_floor_mb", Kind::Number, &[]),
    key("mining.policy.memory_for_jobs", Kind::Flag, &[]),
    key("mining.policy.memory_after_min", Kind::Number, &[]),
    key("mining.policy.job_threads", Kind::Number, &[]),
    key("mining.policy.critical_priority", Kind::Number, &[]),
    key("mining.policy.low_priority", Kind::Number, &[]),
    key("mining.policy.slice_s", Kind::Number, &[]),
    key("mining.policy.job_target_s", Kind::Number, &[]),
    key("mining.policy.step_pct", Kind::Number, &[]),
    key("mining.policy.hash_value", Kind::Text, &[]),
    key("mining.policy.job_value", Kind::Text, &[]),
    key("mining.policy.energy_price", Kind::Text, &[]),
    key("mining.policy.tariff", Kind::List, &[]),
    key("mining.policy.watts", Kind::Number, &[]),
    key("mining.policy.margin_pct", Kind::Number, &[]),
    key("listen.address", Kind::Text, &[]),
    key("listen.token_file", Kind::Text, &[]),
];

/// What the long names of the environment begin with.
pub const PREFIX: &str = "AITBC_";

impl Key {
    /// The name that every key has in the environment: `AITBC_HEARTBEAT__INTERVAL_S`.
    pub fn long_name(&self) -> String {
        format!("{PREFIX}{}", self.path.replace('.', "__").to_uppercase())
    }

    /// All names in `miner.conf` and the environment, those that count more first.
    pub fn all_names(&self) -> impl Iterator<Item = String> {
        let (first, aliases) = match self.names {
            [] => (None, [].as_slice()),
            [first, aliases @ ..] => (Some(*first), aliases),
        };
        first
            .map(str::to_owned)
            .into_iter()
            .chain([self.long_name()])
            .chain(aliases.iter().map(|name| (*name).to_owned()))
    }
}

/// The key at a place in the YAML file.
pub fn by_path(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The key that has a name in `miner.conf` or the environment.
pub fn by_name(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.all_names().any(|known| known == name))
}

/// Whether keys lie below a place in the YAML file.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The place in the YAML file that looks most like `path`.
pub fn nearest_path(path: &str) -> Option<String> {
    let leaf = path.rsplit('.').next().unwrap_or(path);
    // A right name in a wrong section is nearer than any misspelling.
    let misplaced = KEYS.iter().find(|key| key.path.rsplit('.').next() == Some(leaf));
    misplaced
        .map(|key| key.path.to_owned())
        .or_else(|| nearest(path, KEYS.iter().map(|key| key.path.to_owned())))
}

/// The name in `miner.conf` or the environment that looks most like `name`.
pub fn nearest_name(name: &str) -> Option<String> {
    nearest(name, KEYS.iter().flat_map(Key::all_names))
}

/// Whether one name is the other with a letter or two mistyped.
pub fn is_slip(name: &str, key: &str) -> bool {
    strsim::damerau_levenshtein(name, key) <= 2
}

fn nearest(text: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|name| {
            (
                strsim::normalized_damerau_levenshtein(&text.to_uppercase(), &name.to_uppercase()),
                name,
            )
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::Config;

    fn leaves(prefix: &str, value: &Value, found: &mut Vec<String>) {
        let Value::Object(section) = value else {
            found.push(prefix.to_owned());
            return;
        };
        for (name, value) in section {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            leaves(&path, value, found);
        }
    }

    #[test]
    fn the_list_and_the_type_agree() {
        let mut fields = Vec::new();
        leaves("", &serde_json::to_value(Config::default()).unwrap(), &mut fields);
        let mut listed: Vec<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
        fields.sort();
        listed.sort();
        assert_eq!(listed, fields);
    }

    #[test]
    fn no_two_keys_share_a_name() {
        let mut names: Vec<_> = KEYS.iter().flat_map(Key::all_names).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn nearest_finds_slips_and_wrong_sections() {
        assert_eq!(nearest_name("HEARTBEAT_SEC").as_deref(), Some("HEARTBEAT_SECS"));
        assert_eq!(nearest_name("Coord_Url").as_deref(), Some("COORD_URL"));
        assert_eq!(nearest_path("heartbeat.intervall_s").as_deref(), Some("heartbeat.interval_s"));
        assert_eq!(nearest_path("workspace.cpu_nice").as_deref(), Some("resources.cpu_nice"));
        assert_eq!(nearest_name("XYZZY_PLUGH_FROTZ"), None);
    }
}
