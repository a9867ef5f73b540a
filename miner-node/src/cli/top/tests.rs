//! What is shown of nodes that are busy, new, strange, or too much for the screen.

use protocol::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::*;

fn at() -> Timestamp {
    "2026-01-24T00:10:05Z".parse().unwrap()
}

fn job(number: usize) -> Value {
    json!({"id": format!("01ARZ3NDEKTSV4RRFFQ69G5F{number:02}"), "workload": "hash", "slot": "cpu",
        "phase": "RUNNING", "age_secs": 65})
}

fn busy() -> Value {
    json!({
        "node_id": "rig7", "version": "0.1.0", "uptime_secs": 3725,
        "facts": {"jobs_pay_per_h": 0.25},
        "engine": {
            "engine": "native", "algorithm": "rx/0", "phase": "mining", "threads": 2,
            "threads_most": 2, "hashrate": {"ten_secs": 812.34, "minute": 800.0},
            "pool": {"url": "stratum+ssl://pool.example:443", "difficulty": 1000},
        },
        "work": {
            "running": 1, "free": 1, "slots": [2, 1, 3], "waiting": 1, "undelivered": 0,
            "obstacles": ["all slots are taken"], "jobs": [job(1)],
        },
        "coordinator": {
            "url": "https://c.example", "registered": true, "balance": "7.5",
            "last_heartbeat": "2026-01-24T00:10:00Z",
        },
        "totals": {
            "jobs": {"completed": 41, "failed": 1}, "earned": "1.25", "cpu_us": 7_200_000_000_u64,
            "durations": {"buckets": [0, 0, 0, 40, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]},
            "mined": {"accepted": 9, "rejected": 1, "stale": 2, "hashes": 100_000},
        },
        "machine": {
            "cpu_load": 1.5, "disk_mb": [51_200, 102_400],
            "cores": [{"index": 0, "busy_secs": 30.0, "idle_secs": 10.0}],
            "memory": {"total_mb": 1000, "available_mb": 250},
            "gpus": [{"index": 0, "name": "RTX", "vram_total_mb": 16_380, "vram_free_mb": 8000,
                "utilization_pct": 97, "temperature_c": 71}],
        },
    })
}

fn snapshot(value: Value) -> Snapshot {
    serde_json::from_value(value).unwrap()
}

/// The picture, a line for each row.
fn picture(now: &Snapshot, size: (u16, u16), trouble: Option<&str>) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| screen::draw(frame, now, None, at(), trouble)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..size.0).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..size.1).map(|y| row(y).trim_end().to_owned()).collect()
}

#[test]
fn a_busy_node_in_a_terminal() {
    let rows = picture(&snapshot(busy()), (100, 30), None);
    for part in [
        "rig7 0.1.0, up 1 h 2 min; https://c.example: registered, heartbeat 5 s ago",
        "2 cpu, 1 gpu, 3 at once; 1 free, 1 running, 1 waiting, 0 reports to deliver",
        "but all slots are taken",
        "01ARZ3NDEKTSV4RRFFQ69G5F01 hash             cpu running    1 min 5 s",
        "native rx/0, mining",
        "812.3 / 800.0 / - H/s in 10 s / 60 s / 15 min, 2 of 2 threads",
        "shares: 9 accepted, 1 rejected, 2 stale, 0 lost; 100000 hashes",
        "1.25 AITBC in all, lately 0.2500 an hour with all slots at work; the wallet holds 7.5",
        "jobs: 41 completed, 1 failed, 0 lost; 2.00 hours of work",
        "of 100 jobs 50 take at most 1 s, 95 1 s, 99 2.5 s",
        "GPU 0 RTX, 97 % busy, 8000 MiB of 15 GiB free, 71 C",
        "cpu 75 %",
        "memory 75 %",
    ] {
        assert!(rows.iter().any(|row| row.contains(part)), "{part}: {rows:#?}");
    }
    assert!(rows[29].contains("q: quit"), "{rows:#?}");
}

#[test]
fn many_jobs_give_way_to_the_rest() {
    let mut many = busy();
    many["work"]["jobs"] = (0..50).map(job).collect();
    let rows = picture(&snapshot(many), (100, 30), None);
    let shown = rows.iter().filter(|row| row.contains("01ARZ3")).count();
    assert!((1..50).contains(&shown), "{rows:#?}");
    let more = format!(".. and {} more", 50 - shown);
    assert!(rows.iter().any(|row| row.contains(&more)), "{more}: {rows:#?}");
    assert!(rows.iter().any(|row| row.contains("1.25 AITBC")), "{rows:#?}");
}

#[test]
fn a_screen_of_any_size_is_drawn() {
    for size in [(1, 1), (3, 2), (20, 5), (80, 24), (300, 100)] {
        assert_eq!(picture(&snapshot(busy()), size, None).len(), usize::from(size.1));
    }
}

#[test]
fn a_node_that_says_little_is_shown_with_what_it_says() {
    let rows = picture(&Snapshot::default(), (80, 24), Some("no node runs here"));
    assert!(rows.iter().any(|row| row.contains("nothing mines here")), "{rows:#?}");
    assert!(rows.iter().any(|row| row.contains("not registered, no heartbeat yet")), "{rows:#?}");
    assert!(rows[23].contains("no node runs here"), "{rows:#?}");
}

#[test]
fn lines_name_their_part_and_move_no_cursor() {
    let mut value = busy();
    value["engine"]["reason"] = "\u{1b}[2Jgone\nhome".into();
    let text = words::lines(&snapshot(value), None, at());
    assert!(!text.contains('\u{1b}'), "{text:?}");
    assert!(text.contains("mining: \u{fffd}[2Jgone\u{fffd}home\n"), "{text:?}");
    for line in text.lines() {
        let part = line.split(' ').next().unwrap();
        let known = ["node", "slots", "jobs", "mining", "earnings", "machine"];
        assert!(known.contains(&part), "{line:?}");
    }
}

#[test]
fn how_busy_it_is_now_is_the_difference_of_two_looks() {
    let (first, mut second) = (snapshot(busy()), snapshot(busy()));
    second.machine.as_mut().unwrap().cores[0].idle_secs += 5.0;
    let machine = |of: &Snapshot| of.machine.clone().unwrap();
    assert_eq!(machine(&first).busy(None), Some(0.75));
    assert_eq!(machine(&second).busy(Some(&machine(&first))), Some(0.0));
    // Nothing has moved yet.
    assert_eq!(machine(&first).busy(Some(&machine(&first))), None);
}

#[test]
fn some_keys_end_it() {
    let key = |code, modifiers| ends(KeyEvent::new(code, modifiers));
    assert!(key(KeyCode::Char('q'), KeyModifiers::NONE) && key(KeyCode::Esc, KeyModifiers::NONE));
    assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(
        !key(KeyCode::Char('c'), KeyModifiers::NONE) && !key(KeyCode::Enter, KeyModifiers::NONE)
    );
}
