//! Bytes both ways between a job and its target, counted, until one side ends or both are silent.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, timeout};

/// Longest silence on both ways, and longest wait for a reader that does not read.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Carries until both ways have ended, or the job has carried more than it may. `begun` bytes have
/// been carried to the target already; `traffic` is what the job has carried in all, and the most of
/// it, in bytes.
pub(super) async fn tunnel(
    mut job: TcpStream,
    mut far: TcpStream,
    begun: u64,
    traffic: (&AtomicU64, u64),
) -> io::Result<()> {
    traffic.0.fetch_add(begun, Ordering::Relaxed);
    let spoken = Mutex::new(Instant::now());
    let (from_job, to_job) = job.split();
    let (from_far, to_far) = far.split();
    let one_way = |from, to| carry(from, to, traffic, &spoken);
    tokio::try_join!(one_way(from_job, to_far), one_way(from_far, to_job))?;
    Ok(())
}

async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    (carried, most_bytes): (&AtomicU64, u64),
    spoken: &Mutex<Instant>,
) -> io::Result<()> {
    let silent = || io::Error::from(io::ErrorKind::TimedOut);
    let last = || *spoken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut buffer = vec![0; 16 << 10];
    loop {
        let length = match timeout(LONGEST_SILENCE, from.read(&mut buffer)).await {
            Ok(read) => read?,
            // The other way may be busy.
            Err(_) if last().elapsed() < LONGEST_SILENCE => continue,
            Err(_) => return Err(silent()),
        };
        if length == 0 {
            return to.shutdown().await;
        }
        *spoken.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
        let length_bytes = length as u64;
        let before = carried.fetch_add(length_bytes, Ordering::Relaxed);
        if before.saturating_add(length_bytes) > most_bytes {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let writing = to.write_all(&buffer[..length]);
        timeout(LONGEST_SILENCE, writing).await.map_err(|_| silent())??;
    }
}
