//! What a program prints, into a file, up to a limit.

use std::path::Path;

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// Copies `stream` into a new file at `path`; past `limit` bytes it drops the rest and raises
/// `overflow`.
pub(super) async fn capture(
    mut stream: impl AsyncRead + Unpin,
    path: &Path,
    limit: u64,
    overflow: CancellationToken,
) -> std::io::Result<()> {
    // One system call: cheaper here than a detour over another thread.
    let mut file = File::from_std(std::fs::File::create(path)?);
    let mut room = limit;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        let kept = length.min(usize::try_from(room).unwrap_or(usize::MAX));
        file.write_all(&buffer[..kept]).await?;
        // tokio's file buffers; whoever follows the log reads it from the disk.
        file.flush().await?;
        room -= kept as u64;
        if kept < length {
            overflow.cancel();
        }
    }
    Ok(())
}
