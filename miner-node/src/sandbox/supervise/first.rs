//! The first process of a run's namespace: when it is gone, all are.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, pidfd_send_signal,
    waitid,
};
use tokio::time::timeout;

use super::super::{SandboxError, process_tree};
use super::LONGEST_DEATH;

/// Dropping it kills it: as long as it waits for its limits, it does not end with its monitor.
pub(super) struct FirstProcess {
    pub(super) pid: Pid,
    descriptor: OwnedFd,
}

impl FirstProcess {
    /// `None` where it is gone already. Where it cannot be watched, it is killed.
    pub(super) fn open(pid: Pid) -> io::Result<Option<Self>> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => Ok(Some(Self { pid, descriptor })),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => {
                // Its monitor has just reported it and is alive, so that the number is its own.
                let _ = kill_process(pid, Signal::KILL);
                Err(error.into())
            }
        }
    }

    /// Kills it, waits for it, and returns the processor time of everything that it reaped.
    pub(super) async fn gone(self) -> Result<Duration, SandboxError> {
        // Mostly the kernel did so already when the monitor ended; this costs nothing.
        let _ = pidfd_send_signal(&self.descriptor, Signal::KILL);
        let waiting = tokio::task::spawn_blocking(move || self.reap());
        let reaped = timeout(LONGEST_DEATH, waiting).await.map_err(|_| SandboxError::Stuck)?;
        Ok(reaped.unwrap_or_default())
    }

    fn reap(self) -> Duration {
        let descriptor = self.descriptor.as_fd();
        let ended = |options| waitid(WaitId::PidFd(descriptor), WaitIdOptions::EXITED | options);
        // Looked at before it is reaped: afterwards its times are gone. Where the monitor reaped
        // it, there is nothing to be had.
        let cpu = match ended(WaitIdOptions::NOWAIT) {
            Ok(_) => process_tree::cpu_time(self.pid).unwrap_or_default(),
            Err(_) => Duration::ZERO,
        };
        let _ = ended(WaitIdOptions::empty());
        cpu
    }
}

impl Drop for FirstProcess {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = pidfd_send_signal(&self.descriptor, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_gone_is_told_from_who_cannot_be_watched() {
        let gone = Pid::from_raw(i32::MAX).unwrap();
        assert!(FirstProcess::open(gone).unwrap().is_none());
    }
}
