//! The commands that ask the node about itself, as an owner types them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::machine::Machine;

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn vector() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/vectors/receipt.json");
    fs::read_to_string(path).unwrap()
}

#[test]
fn help_tells_commands_aliases_and_exit_codes() {
    let output = Machine::new().run(&["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for part in ["run", "probe", "doctor", "--central-server", "Exit codes", "API_KEY_FILE"] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn usage_and_configuration_errors_end_with_2() {
    let machine = Machine::new();
    assert_eq!(machine.code(&["--log-level", "loud", "config", "show"]), 2);
    assert_eq!(machine.code(&["no-such-command"]), 2);
    let wrong = Machine::new().variable("HEARTBEAT_SECS", "abc").run(&["config", "check"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(stderr(&wrong).contains("HEARTBEAT_SECS"), "{wrong:?}");
    let unknown = Machine::new().conf("HEARTBEAT_SEC=3\n").run(&["config", "check"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("miner.conf:1; did you mean HEARTBEAT_SECS?"), "{unknown:?}");
    let plain = Machine::new().variable("COORD_URL", "http://example.net").run(&["run", "--once"]);
    assert_eq!(plain.status.code(), Some(2));
    assert!(stderr(&plain).contains("refusing http://"));
}

#[test]
fn config_show_says_where_from_and_hides_secrets() {
    let machine = Machine::new().conf("API_KEY=k1.very-secret\nMINER_ID=\"$(hostname)-gpu0\"\n");
    let shown = machine.json(&["--wallet", "w", "config", "show", "--origin", "--json"]);
    assert_eq!(shown["coordinator.auth_token"]["value"], "***");
    assert_eq!(shown["wallet"]["origin"], "flag --wallet");
    let host = rustix::system::uname();
    let expected = format!("{}-gpu0", host.nodename().to_string_lossy());
    assert_eq!(shown["node_id"]["value"], expected);
    assert_eq!(shown["node_id"]["origin"], format!("{}:2", machine.path("miner.conf")));
    for arguments in [["config", "show"].as_slice(), &["config", "check"], &["doctor"], &["probe"]]
    {
        let output = machine.run(arguments);
        let all = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        assert!(!all.contains("very-secret"), "{arguments:?}: {all}");
    }
}

#[test]
fn warnings_go_to_standard_error() {
    let machine = Machine::new();
    machine.write("miner.conf", "API_KEY=CHANGE_ME\n", 0o644);
    let output = machine.run(&["config", "show", "--json"]);
    assert!(output.status.success());
    assert!(stderr(&output).contains("chmod 600") && stderr(&output).contains("placeholder"));
    assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok());
}

#[test]
fn a_reader_may_leave_early() {
    let machine = Machine::new();
    let mut child = machine
        .command(&["config", "show"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && !stderr(&output).contains("panicked"), "{output:?}");
}

#[test]
fn probe_shows_the_machine() {
    let probe = Machine::new().nvidia_smi("exit 9").json(&["probe", "--json"]);
    let threads = fs::read_to_string("/proc/cpuinfo").unwrap();
    let threads = threads.lines().filter(|line| line.starts_with("processor")).count();
    assert_eq!(probe["cpu"]["per_core"].as_array().unwrap().len(), threads);
    for key in ["total_mb", "available_mb", "cached_mb"] {
        assert!(probe["memory"][key].is_u64(), "{key}");
    }
    let network = probe["network"].as_array().unwrap();
    let loopback = network.iter().find(|interface| interface["name"] == "lo").unwrap();
    assert!(loopback["addresses"].as_array().unwrap().contains(&"127.0.0.1".into()));
    assert!(loopback["rx_bytes"].is_u64() && loopback["tx_bytes"].is_u64());
}

#[test]
fn accel_mode_times_gpu_or_none() {
    let list = "echo '0, Fake RTX, 16384, 16000, 1, 40, 545.23'";
    for (wanted, script, gpu, mode, warned) in [
        ("auto", list, true, "gpu", false),
        ("gpu", list, true, "gpu", false),
        ("cpu", list, true, "cpu", false),
        ("cuda", list, true, "cpu", true),
        ("auto", "exit 9", false, "cpu", false),
        ("gpu", "exit 9", false, "cpu", true),
        ("cpu", "exit 9", false, "cpu", false),
        ("cuda", "exit 9", false, "cpu", true),
    ] {
        let machine = Machine::new().nvidia_smi(script).variable("ACCEL_MODE", wanted);
        let output = machine.run(&["probe", "--json"]);
        let probe: Value = serde_json::from_slice(&output.stdout).unwrap();
        let case = format!("{wanted}, {script}: {probe}");
        assert_eq!((&probe["gpu"], &probe["mode"]), (&gpu.into(), &mode.into()), "{case}");
        let said = probe["notes"].to_string() + &stderr(&output);
        assert_eq!(said.contains("ACCEL_MODE"), warned, "{case}");
    }
}

#[test]
fn keygen_makes_a_private_file_once() {
    let machine = Machine::new();
    let file = machine.path("new/signing.key");
    let made = machine.run(&["keygen", "--out", &file]);
    assert!(made.status.success(), "{made:?}");
    let public = String::from_utf8(made.stdout).unwrap();
    assert!(protocol::signing::parse_key(public.trim()).is_ok());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&file).unwrap();
    assert!(!public.contains(secret.trim()));
    assert_eq!(machine.code(&["keygen", "--out", &file]), 1);
    assert_eq!(fs::read_to_string(&file).unwrap(), secret);
}

#[test]
fn receipts_are_verified_offline() {
    let machine = Machine::new();
    machine.write("good.json", &vector(), 0o644);
    machine.write("bad.json", &vector().replace("wallet_demo", "wallet_demp"), 0o644);
    let good = machine.run(&["receipt", "verify", &machine.path("good.json")]);
    assert!(good.status.success(), "{good:?}");
    assert!(String::from_utf8_lossy(&good.stdout).contains("valid rcpt-vector-1"));
    // A key may begin with a hyphen.
    let other = "-1qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    for option in ["--miner-key", "--coordinator-key"] {
        let pinned = ["receipt", "verify", &machine.path("good.json"), option, other];
        assert_eq!(machine.code(&pinned), 1, "{option}");
    }
    let bad = machine.run(&["receipt", "verify", &machine.path("bad.json")]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(stderr(&bad).contains("NOT valid"));
    assert_eq!(machine.code(&["receipt", "verify", &machine.path("missing.json")]), 1);
}

#[test]
fn the_doctor_finds_a_coordinator_that_is_not_there() {
    let findings = Machine::new()
        // Port 0 is nobody's.
        .variable("COORD_URL", "http://127.0.0.1:0")
        .json(&["doctor", "--json"]);
    let network =
        findings.as_array().unwrap().iter().find(|one| one["check"] == "network").unwrap();
    assert_eq!(network["status"], "fail");
    assert!(network["fix"].as_str().unwrap().contains("COORD_URL"));
}

#[test]
fn the_log_level_selects_lines_and_standalone_needs_nobody() {
    for (level, heard) in [("debug", true), ("info", false)] {
        let machine = Machine::new();
        let mut child = machine
            .command(&["--log-level", level, "run", "--standalone"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Seen while the node still runs: lines are not held back.
        let before: Vec<String> = lines
            .by_ref()
            .map(Result::unwrap)
            .take_while(|line| !line.contains("[BOOT]"))
            .collect();
        assert_eq!(before.iter().any(|line| line.contains("[DEBUG]")), heard, "{before:?}");
        let process = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn one_node_per_work_directory() {
    let machine = Machine::new();
    let mut first =
        machine.command(&["run", "--standalone"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("[BOOT]")));
    let second = machine.run(&["run", "--standalone"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("another node"), "{second:?}");
    first.kill().unwrap();
    first.wait().unwrap();
}

#[test]
fn a_hash_of_randomx_is_the_reference_implementations() {
    // Key and input of its own test suite: "test key 000", "This is a test".
    let key = ["--key", "74657374206b657920303030"];
    let hash = ["pow", "hash", "--input", "5468697320697320612074657374"];
    let output = Machine::new().run(&[&hash[..], &key[..]].concat());
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "639183aae1bf4c9a35884cb46b09cad9175f04efd7684e7262a0ac1c2f0b4e3f\n");
    let output = Machine::new().run(&["pow", "hash", "--key", "0", "--input", "00"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--key: "));
}

#[test]
fn a_hash_of_ghostrider_is_raptoreums() {
    // The first block: its hash is below its target.
    let header = "0400000000000000000000000000000000000000000000000000000000000000000000005394264c\
                  a7175792acc6512bc1ddbc5b6a087cab0a54ee72ddac6824c28ba48740533960ff1f00206a040000";
    for name in ["gr", "ghostrider"] {
        let output = Machine::new().run(&["pow", "hash", "--algo", name, "--input", header]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, "48aaa5cf0346b054f1313a72e0e911b18151e3e12b65d562856d146d36181d00\n");
    }
    let output = Machine::new().run(&["pow", "hash", "--algo", "gr", "--input", &header[2..]]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--input has 79 bytes"));
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason() {
    let machine = Machine::new();
    let refused = |flags: &str, code: i32, why: &str| {
        let words: Vec<_> = ["pow", "bench"].into_iter().chain(flags.split(' ')).collect();
        let output = machine.run(&words);
        assert_eq!(output.status.code(), Some(code), "{flags}: {output:?}");
        assert!(stderr(&output).contains(why), "{flags}: {output:?}");
        assert_eq!(output.stdout, b"", "{flags}");
    };
    for (flags, why) in [
        ("--algo rx/9", "unknown algorithm \"rx/9\"; this build has: rx/0, gr"),
        ("--threads 0", "invalid value '0' for '--threads <N>': 0 is not in 1..=1024"),
        ("--threads 1025", "1025 is not in 1..=1024"),
        ("--threads two", "invalid value 'two' for '--threads <N>'"),
        ("--seconds 0", "invalid value '0' for '--seconds <SECONDS>': 0 is not in 1..=86400"),
        ("--seconds 86401", "86401 is not in 1..=86400"),
        ("--seconds 1.5", "invalid value '1.5' for '--seconds <SECONDS>'"),
        ("--algo gr --rotation 20", "20 is not in 0..20"),
        ("--rotation 3", "rx/0 has no --rotation"),
        ("--algo gr --light", "gr has no dataset: leave --light out"),
        ("--algo gr --secure-jit", "gr compiles nothing: leave --secure-jit out"),
        ("--algo gr --reserved-pages", "leave --reserved-pages out"),
    ] {
        refused(flags, 2, why);
    }
    // Where their owner has reserved some, there is nothing to refuse.
    if mining::host::free_huge_bytes() == 0 {
        let why = "no memory for RandomX's cache (256 MiB of reserved large pages)";
        refused("--reserved-pages --seconds 1", 1, why);
    }
}

#[test]
fn a_dataset_that_does_not_fit_is_not_begun() {
    let machine = Machine::new();
    machine.write("meminfo", "MemTotal: 8000000 kB\nMemAvailable: 1024000 kB\n", 0o644);
    let little = format!("mount --bind {} /proc/meminfo", machine.path("meminfo"));
    let output = machine.run_broken(&["pow", "bench", "--seconds", "1"], &little);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let why = "1000 MiB of memory are available, a dataset wants 3072: use --light";
    assert!(stderr(&output).contains(why) && output.stdout.is_empty(), "{output:?}");
}
