//! The positive control: each sin is committed, in small, where nothing holds it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Pid;
use tempfile::TempDir;

use super::{Scene, Sin, host, python};

/// Where a program is.
pub fn file(sin: &Sin) -> PathBuf {
    let programs = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/sins/programs");
    PathBuf::from(programs).join(format!("{}.py", sin.program))
}

/// Commits it; fails where it does not succeed.
pub fn commit(scene: &Scene, sin: &Sin) {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("key"), "id.very-secret").unwrap();
    let text = run(scene, sin, &place);
    assert!(!text.is_empty(), "{} says nothing", sin.name());
    for line in text.lines() {
        let done = line.starts_with("did ") || is_missing(line);
        assert!(done, "{}, outside: {line}", sin.name());
    }
    if sin.program == "leaver" && sin.is_last() {
        let clean = Sin { outside: &["clean", "MARK"], ..*sin };
        let mark = scene.mark_of(sin);
        start(&clean, &["clean".to_owned(), mark], &place);
    }
    // What it left behind shows that it was no empty threat.
    let mark = scene.mark_of(sin);
    let left = host::processes(&mark);
    if ["escapee", "fork_bomb", "memory_family"].contains(&sin.program) {
        assert!(!left.is_empty(), "{} left nobody behind", sin.name());
    }
    kill_all(left, &mark);
}

/// Until nobody is left: a bomb may be forking still, and what it forks is in no earlier list.
fn kill_all(mut left: Vec<Pid>, mark: &str) {
    while !left.is_empty() {
        for pid in left {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        left = host::processes(mark);
    }
}

/// What this host does not have, or does not grant to this user, nobody can abuse.
fn is_missing(line: &str) -> bool {
    let missing = ["ENOENT", "ENOSYS", "ENODEV", "ENXIO", "EAFNOSUPPORT", "EPROTONOSUPPORT"];
    let denied = ["EPERM", "EACCES"];
    let ordinary = !rustix::process::geteuid().is_root();
    let error = line.rsplit(' ').next().unwrap_or_default();
    let is = missing.contains(&error) || (ordinary && denied.contains(&error));
    if is {
        eprintln!("not to be shown on this host: {line}");
    }
    is
}

fn run(scene: &Scene, sin: &Sin, place: &TempDir) -> String {
    start(sin, &scene.fill_in(sin, sin.outside), place)
}

#[expect(clippy::disallowed_methods, reason = "outside of the sandbox is the point here")]
fn start(sin: &Sin, arguments: &[String], place: &TempDir) -> String {
    // Not through a pipe: who is left behind would hold it open.
    let out = place.path().join("out.txt");
    let mut child = Command::new(python())
        .arg(file(sin))
        .args(arguments)
        .current_dir(place)
        .env("API_KEY", "id.very-secret")
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(&out).unwrap())
        .spawn()
        .unwrap();
    // Who does not listen is not spoken to.
    let _ = child.stdin.take().unwrap().write_all(b"hello");
    let status = child.wait().unwrap();
    assert!(status.success(), "{}, outside: {status}", sin.name());
    let text = std::fs::read_to_string(out).unwrap();
    // Of what is printed without end, the end.
    text.lines().filter(|line| !line.starts_with("xxx")).map(|line| format!("{line}\n")).collect()
}
