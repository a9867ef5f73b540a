//! Looks at made-up machines.

use std::fs;
use std::path::Path;

use protocol::Timestamp;

use super::*;

fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn now() -> Timestamp {
    "2026-11-22T16:00:00Z".parse().unwrap()
}

#[test]
fn nothing_is_made_up() {
    let facts = Observer::at(Path::new("/no/such/place"), vec![0, 1]).look(now(), 5);
    let unknown = Facts {
        at_ms: 5,
        unix_s: 1_795_363_200,
        local: facts.local,
        processors: vec![0, 1],
        ..Facts::default()
    };
    assert_eq!(facts, unknown);
}

#[test]
fn a_laptop() {
    let supply = "sys/class/power_supply";
    let files = [
        (format!("{supply}/AC/type"), "Mains\n"),
        (format!("{supply}/AC/online"), "0\n"),
        (format!("{supply}/BAT0/type"), "Battery\n"),
        (format!("{supply}/BAT0/status"), "Discharging\n"),
        (format!("{supply}/hidpp_battery_0/type"), "Battery\n"),
        (format!("{supply}/hidpp_battery_0/scope"), "Device\n"),
        (format!("{supply}/hidpp_battery_0/status"), "Discharging\n"),
        ("sys/class/hwmon/hwmon3/name".to_owned(), "coretemp\n"),
        ("sys/class/hwmon/hwmon3/temp1_input".to_owned(), "64000\n"),
        ("sys/class/hwmon/hwmon3/temp2_input".to_owned(), "71500\n"),
        ("sys/class/hwmon/hwmon3/temp3_input".to_owned(), "999000\n"),
        ("sys/class/hwmon/hwmon4/name".to_owned(), "nvme\n"),
        ("sys/class/hwmon/hwmon4/temp1_input".to_owned(), "88000\n"),
        ("sys/class/powercap/intel-rapl:0/name".to_owned(), "package-0\n"),
        ("sys/class/powercap/intel-rapl:0/energy_uj".to_owned(), "1000000\n"),
        ("proc/meminfo".to_owned(), "MemAvailable: 4194304 kB\n"),
        ("proc/pressure/memory".to_owned(), "some avg10=1.50 avg60=0 avg300=0 total=9\n"),
    ];
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let root = machine(&files);
    let mut observer = Observer::at(root.path(), vec![0]);
    let facts = observer.look(now(), 0);
    assert_eq!(facts.on_battery, Some(true));
    assert_eq!(facts.temperature_c, Some(71.5));
    assert_eq!((facts.available_mb, facts.memory_pressure_pct), (Some(4096), Some(1.5)));
    assert_eq!((facts.power_w, facts.cpu_pressure_pct, facts.others_load), (None, None, None));

    let write = |path: &str, text: &str| fs::write(root.path().join(path), text).unwrap();
    write("sys/class/power_supply/AC/online", "1\n");
    write("sys/class/powercap/intel-rapl:0/energy_uj", "31000000\n");
    let facts = observer.look(now(), 2000);
    assert_eq!((facts.on_battery, facts.power_w), (Some(false), Some(15.0)));
}

#[test]
fn a_control_group_has_less_memory_than_its_machine() {
    let root = machine(&[
        ("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n"),
        ("proc/self/cgroup", "0::/node\n"),
        ("sys/fs/cgroup/node/memory.max", "1073741824\n"),
        ("sys/fs/cgroup/node/memory.current", "536870912\n"),
    ]);
    let facts = Observer::at(root.path(), vec![0]).look(now(), 0);
    assert_eq!(facts.available_mb, Some(512));
}

#[test]
fn a_machine_without_battery_never_runs_on_one() {
    let root = machine(&[("sys/class/power_supply/AC/type", "Mains\n")]);
    let mut observer = Observer::at(root.path(), vec![0]);
    assert_eq!(observer.look(now(), 0).on_battery, Some(false));
    let root = machine(&[
        ("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n"),
        ("sys/class/thermal/thermal_zone0/temp", "50000\n"),
    ]);
    let facts = Observer::at(root.path(), vec![0]).look(now(), 0);
    assert_eq!((facts.on_battery, facts.temperature_c), (None, Some(50.0)));
}

#[test]
fn keys_are_heard_of_and_sensors_are_not() {
    let root = machine(&[
        ("sys/class/input/event3/device/capabilities/key", "0\n"),
        ("sys/class/input/event4/device/capabilities/key", "402000000 3803078f800d001 0\n"),
        ("dev/input/event3", "tremor"),
        ("dev/input/event4", ""),
        ("dev/input/mice", "x"),
        // No terminal, whatever it is called.
        ("dev/tty1", ""),
    ]);
    let mut observer = Observer::at(root.path(), vec![0]);
    let at = |secs: i64| Timestamp::from_micros(now().micros() + secs * 1_000_000);
    let mut idle = |secs| observer.look(at(secs), 0).input_idle_s;
    // Before the first look anything may have happened.
    assert_eq!((idle(0), idle(30)), (Some(0), Some(30)));
    fs::write(root.path().join("dev/input/event4"), "key").unwrap();
    assert_eq!((idle(40), idle(45)), (Some(0), Some(5)));
    fs::write(root.path().join("dev/input/event3"), "another tremor").unwrap();
    assert_eq!(idle(50), Some(10));
}

#[test]
fn the_time_zone_of_this_machine_is_its_watch() {
    let Some(local) = local(now()) else { return };
    assert!(local.weekday < 7 && local.minute < 24 * 60, "{local:?}");
}
