//! Who sits at a desktop, asked of a logind of our own on a real message bus.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use miner_node::facts::Observer;
use protocol::Timestamp;
use tempfile::TempDir;
use zbus::{Connection, OwnedObjectPath, interface};

use crate::rig::eventually;

/// 2026-11-22 16:00, in seconds since 1970.
const NOW: u64 = 1_795_363_200;

/// A message bus that lets everybody do everything.
const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow eavesdrop="true"/>
  </policy>
</busconfig>"#;

struct Bus(Child);

impl Bus {
    #[expect(clippy::disallowed_methods, reason = "it stands for the machine's own")]
    async fn at(root: &Path) -> Self {
        let directory = root.join("run/dbus");
        fs::create_dir_all(&directory).unwrap();
        let socket = directory.join("system_bus_socket");
        let config = directory.join("bus.conf");
        fs::write(&config, CONFIG.replace("SOCKET", socket.to_str().unwrap())).unwrap();
        let bus = std::process::Command::new("dbus-daemon")
            .args(["--nofork", "--nopidfile", "--nosyslog", "--config-file"])
            .arg(&config)
            .stdin(Stdio::null())
            .spawn();
        let bus = Self(bus.expect("dbus-daemon: apt install dbus-daemon"));
        // It is there before anybody listens at it.
        eventually(async || UnixStream::connect(&socket).ok().map(drop)).await;
        bus
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

type Listed = (String, u32, String, String, OwnedObjectPath);

struct Manager(Vec<Listed>);

#[interface(name = "org.freedesktop.login1.Manager")]
impl Manager {
    fn list_sessions(&self) -> Vec<Listed> {
        self.0.clone()
    }
}

#[derive(Clone)]
struct Session {
    class: &'static str,
    kind: &'static str,
    /// Its hint, and since when, in seconds since 1970.
    idle: Arc<Mutex<(bool, u64)>>,
}

#[interface(name = "org.freedesktop.login1.Session")]
impl Session {
    #[zbus(property)]
    fn class(&self) -> String {
        self.class.to_owned()
    }

    #[zbus(property, name = "Type")]
    fn kind(&self) -> String {
        self.kind.to_owned()
    }

    #[zbus(property)]
    fn idle_hint(&self) -> bool {
        self.idle.lock().unwrap().0
    }

    #[zbus(property)]
    fn idle_since_hint(&self) -> u64 {
        self.idle.lock().unwrap().1 * 1_000_000
    }
}

fn session(class: &'static str, kind: &'static str, idle: bool, since: u64) -> Session {
    Session { class, kind, idle: Arc::new(Mutex::new((idle, since))) }
}

/// A logind with these sessions, and one that has ended since it was listed.
async fn logind(root: &Path, sessions: &[Session]) -> Connection {
    let path = |number: usize| format!("/org/freedesktop/login1/session/_{number}");
    let listed = |number| {
        let path = OwnedObjectPath::try_from(path(number)).unwrap();
        (number.to_string(), 1000, "somebody".to_owned(), "seat0".to_owned(), path)
    };
    let socket = root.join("run/dbus/system_bus_socket");
    let stream = UnixStream::connect(socket).unwrap();
    let manager = Manager((0..=sessions.len()).map(listed).collect());
    let mut logind = zbus::conn::Builder::unix_stream(stream)
        .serve_at("/org/freedesktop/login1", manager)
        .name("org.freedesktop.login1");
    for (number, session) in sessions.iter().enumerate() {
        logind = logind.serve_at(path(number), session.clone());
    }
    logind.build().await.unwrap()
}

/// What is seen `secs` after [`NOW`].
async fn idle_s(observer: &mut Option<Observer>, secs: u64) -> Option<u64> {
    let mut looking = observer.take().unwrap();
    let now = Timestamp::from_micros(i64::try_from(NOW + secs).unwrap() * 1_000_000);
    let looked = tokio::task::spawn_blocking(move || {
        let facts = looking.look(now, secs * 1000);
        (looking, facts.input_idle_s)
    });
    let (looked, idle_s) = looked.await.unwrap();
    *observer = Some(looked);
    idle_s
}

fn machine() -> (TempDir, Option<Observer>) {
    let root = tempfile::tempdir().unwrap();
    let observer = Observer::at(root.path(), vec![0]);
    (root, Some(observer))
}

#[tokio::test]
async fn a_desktop_tells_when_it_was_left_and_when_somebody_is_back() {
    let (root, mut observer) = machine();
    let _bus = Bus::at(root.path()).await;
    let desktop = session("user", "wayland", true, NOW - 100);
    let older = session("user", "x11", true, NOW - 900);
    let _logind = logind(root.path(), &[older, desktop.clone()]).await;
    assert_eq!(idle_s(&mut observer, 0).await, Some(100));
    *desktop.idle.lock().unwrap() = (false, NOW + 3);
    // It is not asked at every look.
    assert_eq!(idle_s(&mut observer, 5).await, Some(105));
    assert_eq!(idle_s(&mut observer, 15).await, Some(0));
    assert_eq!(idle_s(&mut observer, 20).await, Some(5));
    *desktop.idle.lock().unwrap() = (true, NOW + 20);
    assert_eq!(idle_s(&mut observer, 80).await, Some(60));
}

#[tokio::test]
async fn what_is_no_desktop_or_never_told_tells_nothing() {
    let (root, mut observer) = machine();
    assert_eq!(idle_s(&mut observer, 0).await, None);
    let bus = Bus::at(root.path()).await;
    // A bus without logind.
    assert_eq!(idle_s(&mut observer, 20).await, None);
    let sessions = [
        session("greeter", "wayland", false, NOW),
        session("user", "tty", false, NOW),
        session("user", "x11", false, 0),
    ];
    let told = logind(root.path(), &sessions).await;
    assert_eq!(idle_s(&mut observer, 40).await, None);
    drop(told);
    let told = logind(root.path(), &[session("user", "x11", true, NOW)]).await;
    assert_eq!(idle_s(&mut observer, 60).await, Some(60));
    // The bus is started anew, and logind with it.
    drop(told);
    drop(bus);
    fs::remove_file(root.path().join("run/dbus/system_bus_socket")).unwrap();
    assert_eq!(idle_s(&mut observer, 80).await, None);
    let _bus = Bus::at(root.path()).await;
    let _told = logind(root.path(), &[session("user", "x11", true, NOW)]).await;
    assert_eq!(idle_s(&mut observer, 100).await, Some(100));
}
