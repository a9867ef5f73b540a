//! When somebody last used one of this machine's desktops, as logind knows it: of keyboards and mice
//! under Wayland and X, whose devices this process may not read.
//!
//! A desktop tells logind when nobody has touched it for a while, and when somebody does again. One
//! that never told anything tells nothing; sessions on terminals are looked at by themselves.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::timeout;
use zbus::conn::Builder;
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

/// After how many seconds it is asked again: each time two programs of the system have work of it.
const EVERY_S: u64 = 10;

/// How long logind may take for all of it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many sessions are asked for: more desktops no machine has.
const MOST_SESSIONS: usize = 32;

const LOGIND: &str = "org.freedesktop.login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What `ListSessions` gives of each: its name, its user twice, its seat, where it is.
type Listed = (String, u32, String, String, OwnedObjectPath);

/// What is asked, over a connection that is kept.
#[derive(Debug)]
pub(super) struct Logins {
    socket: PathBuf,
    bus: Option<Connection>,
    /// When it was last asked, and what came of it, in seconds since 1970.
    asked_s: Option<u64>,
    last_s: Option<u64>,
}

impl Logins {
    pub(super) fn at(root: &Path) -> Self {
        let socket = root.join("run/dbus/system_bus_socket");
        Self { socket, bus: None, asked_s: None, last_s: None }
    }

    /// In seconds since 1970; `None` where no desktop tells. Not for async code, and where there is
    /// no runtime nobody is asked.
    pub(super) fn last_used_s(&mut self, now_s: u64) -> Option<u64> {
        if self.asked_s.is_some_and(|asked_s| now_s.abs_diff(asked_s) < EVERY_S) {
            return self.last_s;
        }
        self.asked_s = Some(now_s);
        self.last_s = None;
        let runtime = Handle::try_current().ok()?;
        match runtime.block_on(async { timeout(PATIENCE, self.ask(now_s)).await }) {
            Ok(Ok(last_s)) => self.last_s = last_s,
            // There is no logind, or none any more: the next time from the start.
            Ok(Err(_)) | Err(_) => self.bus = None,
        }
        self.last_s
    }

    async fn ask(&mut self, now_s: u64) -> zbus::Result<Option<u64>> {
        let bus = match &self.bus {
            Some(bus) => bus,
            None => {
                let stream = UnixStream::connect(&self.socket)?;
                self.bus.insert(Builder::unix_stream(stream).build().await?)
            }
        };
        let path = "/org/freedesktop/login1";
        let list = bus.call_method(Some(LOGIND), path, Some(MANAGER), "ListSessions", &()).await?;
        let sessions: Vec<Listed> = list.body().deserialize()?;
        let mut last_s = None;
        for (.., path) in sessions.into_iter().take(MOST_SESSIONS) {
            let session = bus.call_method(Some(LOGIND), path, Some(PROPERTIES), "GetAll", &SESSION);
            match session.await {
                Ok(found) => last_s = last_s.max(last_used_s(&found.body().deserialize()?, now_s)),
                // It has ended since.
                Err(zbus::Error::MethodError(..) | zbus::Error::FDO(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(last_s)
    }
}

/// Of a session's properties; `None` where it is no user's desktop, or never told.
fn last_used_s(session: &HashMap<String, OwnedVariant>, now_s: u64) -> Option<u64> {
    let text = |name: &str| session.get(name)?.downcast_ref::<&str>().ok();
    let is_desktop = text("Class")? == "user" && matches!(text("Type")?, "wayland" | "x11" | "mir");
    let idle: bool = session.get("IdleHint")?.downcast_ref().ok()?;
    let since_us: u64 = session.get("IdleSinceHint")?.downcast_ref().ok()?;
    (is_desktop && since_us > 0).then_some(if idle { since_us / 1_000_000 } else { now_s })
}
