//! The signals that end `mine`: the first one in peace, the second one at once.

use std::io;
use std::process;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// What a shell says of a program that SIGINT has ended.
const INTERRUPTED: i32 = 130;

/// Follows them from now on. What is returned tells of the first.
///
/// # Errors
/// Where signals cannot be had.
pub(super) fn follow(runtime: &Handle) -> io::Result<oneshot::Receiver<()>> {
    let _inside = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Under nohup it goes on when its terminal goes.
    let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut hangup = match is_ignored(&own, 1) {
        true => None,
        false => Some(signal(SignalKind::hangup())?),
    };
    let (tell, first) = oneshot::channel();
    runtime.spawn(async move {
        let mut tell = Some(tell);
        loop {
            let hangup = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup => {}
            }
            match tell.take() {
                // It may be about to end.
                Some(tell) => drop(tell.send(())),
                None => process::exit(INTERRUPTED),
            }
        }
    });
    Ok(first)
}

/// Whether a signal is ignored, by what the kernel says of a process (proc_pid_status(5)).
fn is_ignored(status: &str, number: u32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_recognised() {
        assert!(is_ignored("SigBlk:\t0\nSigIgn:\t0000000000001001\n", 1));
        assert!(!is_ignored("SigIgn:\t0000000000001000\n", 1));
        assert!(!is_ignored("", 1));
    }
}
