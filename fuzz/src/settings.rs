//! What owners and operators write: settings, `miner.conf`, variables, the script of a mock.

use std::collections::BTreeMap;
use std::path::PathBuf;

use coordinator::config::Overrides;
use miner_node::config::environment::Environment;
use miner_node::config::grammar;
use miner_node::config::load::{Places, load};
use miner_node::config::show;
use mock_coordinator::script;

use crate::files;

/// `coordinator.yaml`: what is taken is in order, and can be written down and read again.
pub fn settings(data: &[u8]) {
    use coordinator::config::load;
    let file = files::put("coordinator.yaml", data);
    match load(Some(&file), Overrides::default()) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(config) => {
            assert_eq!(config.problems(), Vec::<String>::new());
            let text = serde_json::to_string(&config).expect("settings are JSON");
            if is_yaml_too(&text) {
                let file = files::put("again.yaml", text.as_bytes());
                let again = load(Some(&file), Overrides::default()).expect("it was written by us");
                assert_eq!(serde_json::to_string(&again).ok(), Some(text));
            }
        }
    }
}

/// `miner.yaml`.
pub fn miner_yaml(data: &[u8]) {
    node(vec![files::put("miner.yaml", data)], machine());
}

/// `miner.conf`, as a whole and value by value.
pub fn miner_conf(data: &[u8]) {
    node(vec![files::put("miner.conf", data)], machine());
    let Ok(text) = str::from_utf8(data) else { return };
    let machine = machine();
    for assignment in grammar::assignments(text).flatten() {
        let raw = assignment.raw;
        if let Ok(value) = grammar::value(raw, &machine)
            && !raw.contains(['$', '`', '\\'])
        {
            assert_eq!(grammar::plain(raw), Some(value.text.as_str()));
        }
    }
    for line in text.lines() {
        let quoted = line.replace('\\', r"\\").replace('"', "\\\"").replace('$', "\\$");
        let read = grammar::value(&format!("\"{quoted}\" # a comment"), &machine);
        assert_eq!(read.map(|value| value.text).as_deref(), Ok(line));
    }
}

/// The environment of a node: a variable on each line.
pub fn environment(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut machine = machine();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    machine.variables.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // The service manager says where credentials are: what lies there is its own.
    machine.variables.remove("CREDENTIALS_DIRECTORY");
    node(Vec::new(), machine);
}

fn machine() -> Environment {
    let variables = [("HOME", "/nowhere"), ("MINER_API_KEY", "k1.secret")];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let variables = BTreeMap::from_iter(variables.map(owned));
    Environment { variables, hostname: "rig7".to_owned(), is_root: true }
}

fn node(files: Vec<PathBuf>, environment: Environment) {
    let places = Places { files: Some(files), flags: Vec::new() };
    match load(&places, &environment) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(loaded) => {
            let shown = show::yaml(&loaded, true);
            assert!(shown.contains("base_url"), "{shown}");
            assert!(show::json(&loaded, true).is_object());
        }
    }
}

/// The script of a mock.
pub fn mock_script(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(script) = script::parse(text) else { return };
    let text = serde_json::to_string(&script).expect("a script is JSON");
    if is_yaml_too(&text) {
        assert_eq!(script::parse(&text).as_ref(), Ok(&script));
    }
}

/// JSON is YAML, but for characters that YAML does not take as they are.
fn is_yaml_too(json: &str) -> bool {
    json.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
