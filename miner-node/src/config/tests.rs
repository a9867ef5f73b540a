//! The places together: what wins, what is refused and in which words. The parts have their own
//! tests beside them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::origin::Origin;
use super::*;

/// The seed's sample file, verbatim (with its typographic dash).
const SEED_SAMPLE: &str = r#"# AITBC Miner config
COORD_URL="https://coordinator.example.net"      # Coordinator base URL
WALLET_ADDR="wallet1qxy2kgdygjrsqtzq2n0yrf..."   # Your payout address
API_KEY="REPLACE_WITH_WALLET_API_KEY"            # Wallet‑issued key for auth
MINER_ID="$(hostname)-gpu0"                      # Any stable node label
WORK_DIR="/tmp/aitbc-work"                       # Scratch space
HEARTBEAT_SECS=20                                # Health ping interval
JOB_POLL_SECS=3                                  # Fetch cadence
MAX_CONCURRENCY=1                                # Inference job slots
# GPU modes: auto|gpu|cpu
ACCEL_MODE="auto"
"#;

struct Case {
    directory: TempDir,
    places: Places,
    environment: Environment,
}

impl Case {
    fn new() -> Self {
        let environment =
            Environment { hostname: "rig7".to_owned(), is_root: true, ..Environment::default() };
        let places = Places { files: Some(Vec::new()), flags: Vec::new() };
        Self { directory: TempDir::new().unwrap(), places, environment }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn file(mut self, name: &str, text: &str) -> Self {
        let path = self.write(name, text, 0o600);
        self.places.files.as_mut().unwrap().push(path);
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flag(mut self, path: &'static str, flag: &'static str, value: &str) -> Self {
        self.places.flags.push((path, flag, value.to_owned()));
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.places, &self.environment)
    }

    fn loaded(&self) -> Loaded {
        self.load().unwrap()
    }

    fn error(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

fn conf(text: &str) -> Case {
    Case::new().file("miner.conf", text)
}

fn yaml(text: &str) -> Case {
    Case::new().file("miner.yaml", text)
}

fn warns(loaded: &Loaded, part: &str) -> bool {
    loaded.warnings.iter().any(|warning| warning.contains(part))
}

#[test]
fn the_seeds_sample_is_read_as_it_stands() {
    let loaded = conf(SEED_SAMPLE).loaded();
    let config = &loaded.config;
    assert_eq!(config.coordinator.base_url.to_string(), "https://coordinator.example.net");
    assert_eq!(config.wallet.as_ref().unwrap().as_str(), "wallet1qxy2kgdygjrsqtzq2n0yrf...");
    assert_eq!(config.node_id.as_ref().unwrap().as_str(), "rig7-gpu0");
    assert_eq!(config.workspace.root, Path::new("/tmp/aitbc-work"));
    assert_eq!((config.heartbeat.interval_s, config.poll.interval_s), (20, 3));
    assert_eq!(config.resources.max_concurrency, Some(1));
    assert_eq!(config.accel_mode, AccelMode::Auto);
    assert!(warns(&loaded, "placeholder") && warns(&loaded, "set state_dir"));
}

#[test]
fn nothing_set_is_the_default() {
    let loaded = Case::new().loaded();
    assert_eq!(loaded.config, Config::default());
    assert_eq!((loaded.warnings, loaded.origins.len()), (Vec::<String>::new(), 0));
}

#[test]
fn each_place_overrides_the_one_before() {
    let mut case = yaml("heartbeat: {interval_s: 11}\nregion: eu\n");
    assert_eq!(case.loaded().config.heartbeat.interval_s, 11);
    case = case.file("miner.conf", "HEARTBEAT_SECS=12\n");
    assert_eq!(case.loaded().config.heartbeat.interval_s, 12);
    case = case.variable("AITBC_HEARTBEAT__INTERVAL_S", "13");
    assert_eq!(case.loaded().config.heartbeat.interval_s, 13);
    case = case.flag("heartbeat.interval_s", "--heartbeat", "14");
    let loaded = case.loaded();
    assert_eq!(loaded.config.heartbeat.interval_s, 14);
    assert_eq!(loaded.origin("heartbeat.interval_s"), &Origin::Flag("--heartbeat"));
    assert_eq!(loaded.origin("region").to_string(), case.path("miner.yaml").display().to_string());
    assert_eq!(loaded.origin("poll.wait_s"), &Origin::Default);
}

#[test]
fn names_of_cyxwiz_are_aliases() {
    let case = Case::new()
        .variable("CYXWIZ_CENTRAL_SERVER", "localhost:50051")
        .variable("CYXWIZ_NODE_ID", "node-7")
        .variable("CYXWIZ_WALLET_ADDRESS", "w7");
    let config = case.loaded().config;
    assert_eq!(config.coordinator.base_url.to_string(), "http://localhost:50051");
    assert_eq!(config.node_id.unwrap().as_str(), "node-7");
    assert_eq!(config.wallet.unwrap().as_str(), "w7");
    let loaded = case.variable("MINER_ID", "mine").loaded();
    assert_eq!(loaded.config.node_id.as_ref().unwrap().as_str(), "mine");
    assert!(warns(&loaded, "CYXWIZ_NODE_ID"));
}

#[test]
fn the_environment_follows_the_same_grammar() {
    let case = Case::new()
        .variable("MINER_API_KEY", "k1.secret")
        .variable("MINER_ID", "'${MINER_API_KEY}'")
        // What systemd makes of a comment behind a quoted value.
        .variable("COORD_URL", "https://c.example.net # Coordinator base URL");
    let config = case.loaded().config;
    assert_eq!(config.node_id.unwrap().as_str(), "k1.secret");
    assert_eq!(config.coordinator.base_url.to_string(), "https://c.example.net");
}

/// What systemd 252 makes of [`SEED_SAMPLE`] as `EnvironmentFile=`.
const SEED_ENVIRONMENT: [(&str, &str); 9] = [
    ("COORD_URL", "https://coordinator.example.net# Coordinator base URL"),
    ("WALLET_ADDR", "wallet1qxy2kgdygjrsqtzq2n0yrf...# Your payout address"),
    ("API_KEY", "REPLACE_WITH_WALLET_API_KEY# Wallet‑issued key for auth"),
    ("MINER_ID", "$(hostname)-gpu0# Any stable node label"),
    ("WORK_DIR", "/tmp/aitbc-work# Scratch space"),
    ("HEARTBEAT_SECS", "20                                # Health ping interval"),
    ("JOB_POLL_SECS", "3                                  # Fetch cadence"),
    ("MAX_CONCURRENCY", "1                                # Inference job slots"),
    ("ACCEL_MODE", "auto"),
];

#[test]
fn the_seeds_unit_with_the_seeds_file_starts_the_node() {
    let with_environment = |case: Case| {
        SEED_ENVIRONMENT.iter().fold(case, |case, (name, value)| case.variable(name, value))
    };
    let expected = conf(SEED_SAMPLE).loaded().config;
    assert_eq!(with_environment(conf(SEED_SAMPLE)).loaded().config, expected);
    // The node may be told of no file, or not be allowed to read it.
    assert_eq!(with_environment(Case::new()).loaded().config, expected);
    // No blank in the comment: then only the file tells what is value and what comment.
    let case = conf("COORD_URL=\"https://c.example.net/#/a\" #here\n")
        .variable("COORD_URL", "https://c.example.net/#/a#here");
    assert!(case.error().contains("COORD_URL"), "a fragment is no part of a base URL");
    let case = conf("MINER_ID='a#b' #here\n").variable("MINER_ID", "a#b#here");
    assert_eq!(case.loaded().config.node_id.unwrap().as_str(), "a#b");
    assert_eq!(
        conf("MINER_ID=a\n").variable("MINER_ID", "a#b").loaded().config.node_id.unwrap().as_str(),
        "a",
    );
}

#[test]
fn commands_are_left_alone_with_a_warning() {
    let loaded = conf("MINER_ID=$(id)\n").loaded();
    assert_eq!(loaded.config.node_id.as_ref().unwrap().as_str(), "$(id)");
    assert!(warns(&loaded, "$(id) is not run"));
}

#[test]
fn unknown_keys_name_key_file_and_neighbour() {
    let case = conf("\nHEARTBEAT_SEC=3\n");
    let file = case.path("miner.conf");
    let expected =
        format!("unknown key HEARTBEAT_SEC in {}:2; did you mean HEARTBEAT_SECS?", file.display());
    assert_eq!(case.error(), expected);
    let case = yaml("heartbeat:\n  intervall_s: 3\n");
    let expected = format!(
        "unknown key heartbeat.intervall_s in {}; did you mean heartbeat.interval_s?",
        case.path("miner.yaml").display()
    );
    assert_eq!(case.error(), expected);
    let error = Case::new().variable("AITBC_ACCEPT__MAX_RUNTIME", "3").error();
    assert!(error.contains("AITBC_ACCEPT__MAX_RUNTIME_S"), "{error}");
}

#[test]
fn another_programs_variables_are_none_of_ours() {
    let case = Case::new()
        .variable("AITBC_DATABASE__URL", "x")
        .variable("AITBC_COORDINATOR__LISTEN__PORT", "8011")
        .variable("PATH", "/bin");
    let loaded = case.loaded();
    assert_eq!((loaded.config, loaded.warnings.len()), (Config::default(), 0));
    let error = Case::new().variable("AITBC_COORDINATOR__TIMEOUT", "3").error();
    assert!(error.contains("AITBC_COORDINATOR__TIMEOUT_S"), "{error}");
}

#[test]
fn wrong_values_name_key_and_place() {
    for (case, key, message) in [
        (conf("HEARTBEAT_SECS=abc\n"), "HEARTBEAT_SECS", "\"abc\" is not a whole number"),
        (conf("ALLOW_INSECURE=perhaps\n"), "ALLOW_INSECURE", "is not 1 or 0"),
        (conf("HEARTBEAT_SECS=99999999999\n"), "HEARTBEAT_SECS", "expected u32"),
        (conf("MINER_ID=\"a b\"\n"), "MINER_ID", "printable ASCII"),
        (conf("COORD_URL=ftp://x\n"), "COORD_URL", "must start with https://"),
        (conf("MINER_ID=\"open\n"), "MINER_ID", "no closing"),
        (conf("JOB_POLL_SECS=0\n"), "JOB_POLL_SECS", "at least 1"),
        (conf("WORK_DIR=relative\n"), "WORK_DIR", "absolute"),
        (yaml("heartbeat: 5\n"), "heartbeat", "is a section"),
        (yaml("logging: {level: loud}\n"), "logging.level", "unknown variant"),
        (yaml("accept: {min_price: x}\n"), "accept.min_price", "not a plain decimal"),
        (yaml("resources: {cpu_nice: 20}\n"), "resources.cpu_nice", "at most 19"),
        (yaml("heartbeat: {backoff: {min_s: 9, max_s: 3}}\n"), "heartbeat.backoff.max_s", "min_s"),
    ] {
        let error = case.error();
        let file = case.places.files.as_ref().unwrap()[0].display().to_string();
        assert!(error.contains(key) && error.contains(message), "{error}");
        assert!(error.contains(&file), "{error}");
    }
    let error = Case::new().variable("HEARTBEAT_SECS", "abc").error();
    assert!(error.starts_with("HEARTBEAT_SECS in environment HEARTBEAT_SECS"), "{error}");
}

#[test]
fn broken_files_are_named() {
    assert!(yaml("a: [").error().contains("miner.yaml"));
    assert!(conf("COORD_URL\n").error().ends_with("miner.conf:1: expected KEY=value"));
    let mut case = Case::new();
    case.places.files = Some(vec![case.path("missing.conf")]);
    assert!(case.error().contains("missing.conf"));
    assert_eq!(yaml("# nothing\n\nheartbeat:\n").loaded().config, Config::default());
}

#[test]
fn a_secret_file_open_to_others_is_reported() {
    for (mode, warned) in [(0o600, false), (0o640, true), (0o604, true), (0o644, true)] {
        let mut case = Case::new();
        let path = case.write("miner.conf", "API_KEY=k1.secret\n", mode);
        case.places.files = Some(vec![path]);
        assert_eq!(warns(&case.loaded(), "chmod 600"), warned, "{mode:o}");
    }
    let mut case = Case::new();
    let path = case.write("miner.conf", "HEARTBEAT_SECS=5\n", 0o644);
    case.places.files = Some(vec![path]);
    assert!(!warns(&case.loaded(), "chmod 600"));
}

#[test]
fn the_api_key_comes_from_the_strongest_place() {
    let token =
        |case: &Case| case.loaded().config.coordinator.auth_token.unwrap().expose().to_owned();
    let case = conf("API_KEY=CHANGE_ME\n");
    assert_eq!(token(&case), "CHANGE_ME");
    case.write("api_key", "from-credential\n", 0o600);
    let directory = case.directory.path().display().to_string();
    let case = case.variable("CREDENTIALS_DIRECTORY", &directory);
    assert_eq!(token(&case), "from-credential");
    // What systemd hands over where nobody has put anything there.
    case.write("api_key", "\n", 0o600);
    assert_eq!(token(&case), "CHANGE_ME");
    case.write("api_key", "from-credential\n", 0o600);
    let key_file = case.write("key", "from-file\n", 0o600).display().to_string();
    let case = case.variable("API_KEY_FILE", &key_file);
    assert_eq!(token(&case), "from-file");
    let case = yaml("coordinator: {auth_token: 'env:MINER_AUTH'}\n");
    assert!(case.error().contains("MINER_AUTH is not set"));
    assert_eq!(token(&case.variable("MINER_AUTH", "from-variable")), "from-variable");
}

#[test]
fn an_empty_key_file_is_an_error() {
    let case = Case::new();
    let path = case.write("key", "\n", 0o600).display().to_string();
    let error = case.variable("API_KEY_FILE", &path).error();
    assert!(error.contains("is empty"), "{error}");
}

#[test]
fn plain_http_stays_on_this_machine() {
    let case = conf("COORD_URL=http://example.net\n");
    assert!(case.error().contains("refusing http://"));
    let loaded = case.variable("ALLOW_INSECURE", "1").loaded();
    assert!(warns(&loaded, "unencrypted"));
    assert!(conf("COORD_URL=http://127.0.0.1:8080/\n").loaded().warnings.is_empty());
}

#[test]
fn other_words_for_accel_mode_mean_cpu() {
    for (word, mode, warned) in [
        ("auto", AccelMode::Auto, false),
        ("gpu", AccelMode::Gpu, false),
        ("CPU", AccelMode::Cpu, false),
        ("cuda", AccelMode::Cpu, true),
    ] {
        let loaded = conf(&format!("ACCEL_MODE={word}\n")).loaded();
        assert_eq!(
            (loaded.config.accel_mode, warns(&loaded, "ACCEL_MODE")),
            (mode, warned),
            "{word}"
        );
    }
}

#[test]
fn consent_in_yaml() {
    let text = "accept:\n  workloads: [hash, torch_bench]\n  clients: any\n  min_price: 0.02\n  input_hosts: [data.example.net]\n";
    let accept = yaml(text).loaded().config.accept;
    assert_eq!(accept.workloads.to_string(), "[hash, torch_bench]");
    assert_eq!((accept.clients, accept.min_price.to_string()), (Selection::Any, "0.02".to_owned()));
    assert_eq!(accept.input_hosts, ["data.example.net"]);
    let env = Case::new().variable("AITBC_ACCEPT__INPUT_HOSTS", "a.example, b.example").loaded();
    assert_eq!(env.config.accept.input_hosts, ["a.example", "b.example"]);
}

#[test]
fn secrets_are_never_shown() {
    let secret = "k1.very-secret-indeed";
    let case = conf(&format!("API_KEY={secret}\nMINER_ID=a\n"));
    let loaded = case.loaded();
    let shown = [
        show::yaml(&loaded, true),
        show::json(&loaded, true).to_string(),
        show::json(&loaded, false).to_string(),
        format!("{loaded:?}"),
        yaml(&format!("coordinator: {{auth_token: [{secret}]}}")).error(),
    ];
    for text in shown {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn what_is_shown_can_be_read_back() {
    let loaded =
        yaml("accept: {workloads: [hash]}\nregion: eu\nheartbeat: {backoff: {max_s: 30}}\n")
            .loaded();
    let again = yaml(&show::yaml(&loaded, true)).loaded();
    assert_eq!(again.config, loaded.config);
}

#[test]
fn slots_follow_the_owners_limits() {
    let slots = |all: Option<u32>, cpu: Option<u32>, gpu: Option<u32>, gpus: u32| {
        let resources = Resources {
            max_concurrency: all,
            max_concurrent_cpu: cpu,
            max_concurrent_gpu: gpu,
            ..Resources::default()
        };
        let SlotPlan { cpu, gpu, total } = resources.slots(gpus);
        (cpu, gpu, total)
    };
    assert_eq!(slots(None, None, None, 0), (1, 0, 1));
    assert_eq!(slots(None, None, None, 2), (1, 2, 3));
    assert_eq!(slots(Some(1), None, None, 0), (1, 0, 1));
    assert_eq!(slots(Some(1), None, None, 2), (1, 1, 1));
    assert_eq!(slots(Some(4), None, None, 2), (4, 2, 4));
    assert_eq!(slots(None, Some(8), Some(0), 2), (8, 0, 8));
    assert_eq!(slots(None, Some(0), None, 1), (0, 1, 1));
}

#[test]
fn the_sample_yaml_has_every_key_with_its_default() {
    let sample = include_str!("../../../etc/miner.yaml");
    let loaded = yaml(sample).loaded();
    assert_eq!(loaded.config, Config::default());
    for key in keys::KEYS {
        let leaf = key.path.rsplit('.').next().unwrap();
        assert!(sample.lines().any(|line| line.trim().starts_with(&format!("{leaf}:"))), "{leaf}");
    }
}

#[test]
fn the_sample_conf_has_every_short_key_and_the_defaults() {
    let sample = include_str!("../../../etc/miner.conf");
    let loaded = conf(sample).loaded();
    let mut expected = Config {
        node_id: Some("rig7-gpu0".parse().unwrap()),
        wallet: Some("REPLACE_WITH_YOUR_WALLET".parse().unwrap()),
        ..Config::default()
    };
    expected.coordinator.base_url = "https://coordinator.example.net".parse().unwrap();
    expected.coordinator.auth_token = Some(Secret::new("REPLACE_WITH_WALLET_API_KEY"));
    expected.resources.max_concurrency = Some(1);
    assert_eq!(loaded.config, expected);
    for name in keys::KEYS.iter().filter_map(|key| key.names.first()) {
        assert!(sample.contains(&format!("{name}=")), "{name}");
    }
}
