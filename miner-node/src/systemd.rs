//! What systemd is told of a unit with `Type=notify`: ready, alive, about to end. Started by anybody
//! else, nothing happens.

use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::interval;

/// Says that the node works.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the node ends, which takes at most `patience`.
pub fn stopping(patience: Duration) {
    let micros = u32::try_from(patience.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
}

/// Says for ever that the node lives, as often as the unit's `WatchdogSec=` wants to hear it. It
/// says so from where everything else runs: if that stands still, so does this.
pub async fn keep_alive() {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return pending().await;
    };
    let mut beats = interval(limit / 3);
    loop {
        beats.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(event = "systemd", "systemd cannot be told {}: {error}", words(state));
    }
}

fn words(state: &[NotifyState<'_>]) -> String {
    state.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
