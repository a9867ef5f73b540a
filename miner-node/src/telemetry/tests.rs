//! Lines as they are written, through the real subscriber.

use std::sync::Arc;

use serde_json::Value;
use tracing::{debug, error, info, info_span, warn};

use super::*;

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn clock() -> Timestamp {
    "2026-01-24T00:00:30Z".parse().unwrap()
}

fn lines(level: LogLevel, format: LogFormat, speak: impl FnOnce()) -> Vec<String> {
    let buffer = Buffer::default();
    let secret = Some(Secret::new("k1.very-secret"));
    let mut layer = LineLayer::new(level, format, secret, clock, Box::new(buffer.clone()));
    layer.node_id = Some("rig7-gpu0".parse().unwrap());
    tracing::subscriber::with_default(Registry::default().with(layer), speak);
    let bytes = buffer.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn text_keeps_the_seeds_words() {
    let written = lines(LogLevel::Info, LogFormat::Text, || {
        info!(event = "boot", "[BOOT] AITBC miner starting (id={})", "rig7-gpu0");
        info!(
            event = "job_start",
            job_id = "J1",
            mode = "cpu",
            "[JOB] start id=J1 mode=cpu type=hash"
        );
        warn!(attempt = 2, "initial heartbeat failed");
        debug!("unheard");
    });
    assert_eq!(
        written,
        [
            "2026-01-24T00:00:30Z [BOOT] AITBC miner starting (id=rig7-gpu0)",
            "2026-01-24T00:00:30Z [JOB] start id=J1 mode=cpu type=hash",
            "2026-01-24T00:00:30Z [WARN] initial heartbeat failed attempt=2",
        ]
    );
}

#[test]
fn json_is_one_object_a_line() {
    let written = lines(LogLevel::Info, LogFormat::Json, || {
        let span = info_span!("job", job_id = "J1", workload = "hash");
        let _entered = span.enter();
        info!(event = "job_done", bytes = 12_u64, "two\nlines");
    });
    assert_eq!(written.len(), 1);
    let line: Value = serde_json::from_str(&written[0]).unwrap();
    assert_eq!(
        line,
        serde_json::json!({
            "ts": "2026-01-24T00:00:30Z", "level": "info", "node_id": "rig7-gpu0", "job_id": "J1",
            "event": "job_done", "attrs": {"bytes": 12, "workload": "hash", "message": "two\nlines"},
        })
    );
}

#[test]
fn levels_select() {
    let speak = || {
        debug!("d");
        info!("i");
        warn!("w");
        error!("e");
        info!(target: "hyper::client", "foreign");
    };
    for (level, count) in
        [(LogLevel::Debug, 4), (LogLevel::Info, 3), (LogLevel::Warn, 2), (LogLevel::Error, 1)]
    {
        assert_eq!(lines(level, LogFormat::Text, speak).len(), count, "{level:?}");
    }
}

#[test]
fn no_line_holds_the_api_key() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let written = lines(LogLevel::Debug, format, || {
            info!(header = "Bearer k1.very-secret", "sent k1.very-secret");
        });
        assert!(written[0].contains("Bearer ***") && !written[0].contains("very-secret"));
    }
}

#[test]
fn strangers_cannot_begin_a_line() {
    let written = lines(LogLevel::Info, LogFormat::Text, || {
        info!(error = "x\n2026-01-24T00:00:30Z [BOOT] forged\u{1b}[2J", "job failed");
    });
    assert_eq!(written.len(), 1);
    assert!(written[0].contains(r"x\n2026") && !written[0].contains('\u{1b}'));
}
