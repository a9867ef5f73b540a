//! Those who ask, one connection each: so many at a time, none for longer than it takes, and none
//! that the end of the node has to wait for.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many are served at once; the next ones wait.
const MOST: usize = 32;

/// How long a request's head may take to come, and how much it may be.
const HEAD_TIME: Duration = Duration::from_secs(5);
const HEAD_BYTES: usize = 16 << 10;

/// After how long a connection is told to end, whatever it is at: who sends or reads nothing would
/// keep it for ever.
const LONGEST: Duration = Duration::from_secs(60);

/// How long the last answer may take then, and when the node ends.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// Serves those who come to `listener`, until `end`.
pub(super) async fn serve(mut listener: impl Listener, router: Router, end: &CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST));
    let connections = TaskTracker::new();
    let serving = async {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (stream, _) = listener.accept().await;
            connections.spawn(connection(stream, router.clone(), end.clone(), place));
        }
    };
    tokio::select! {
        () = serving => {}
        () = end.cancelled() => {}
    }
    connections.close();
    connections.wait().await;
}

async fn connection<S>(
    stream: S,
    router: Router,
    end: CancellationToken,
    _place: OwnedSemaphorePermit,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut served = pin!(served);
    tokio::select! {
        // Whoever went away or spoke nonsense is no concern of anybody's.
        _ = served.as_mut() => return,
        () = sleep(LONGEST) => {}
        () = end.cancelled() => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(LAST_ANSWER, served).await;
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::{get, put};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{UnixListener, UnixStream};
    use tokio::sync::Notify;
    use tokio::task::JoinHandle;

    use super::*;

    /// Longer than anything here may take, by a clock that does not wait.
    const NEVER: Duration = Duration::from_secs(3600);

    fn serving(path: &Path, router: Router, end: &CancellationToken) -> JoinHandle<()> {
        let (listener, end) = (UnixListener::bind(path).unwrap(), end.clone());
        tokio::spawn(async move { serve(listener, router, &end).await })
    }

    async fn sent(path: &Path, text: &str) -> UnixStream {
        let mut stream = UnixStream::connect(path).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    async fn answer(mut stream: UnixStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    const ASK: &str = "GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn who_does_not_go_on_is_let_go() {
        let root = tempfile::tempdir().unwrap();
        let (path, end) = (root.path().join("s"), CancellationToken::new());
        let router = Router::new().route("/", put(async |_: String| "done"));
        let server = serving(&path, router, &end);
        for stalled in
            ["", "PUT / HT", "PUT / HTTP/1.1\r\nhost: here\r\ncontent-length: 9\r\n\r\na"]
        {
            let mut stream = sent(&path, stalled).await;
            let gone = timeout(NEVER, stream.read_to_end(&mut Vec::new())).await;
            assert!(gone.is_ok(), "{stalled:?}");
        }
        end.cancel();
        server.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_holds_up_the_end() {
        let root = tempfile::tempdir().unwrap();
        let (path, end) = (root.path().join("s"), CancellationToken::new());
        let arrived = Arc::new(Notify::new());
        let told = Arc::clone(&arrived);
        let stuck = async move || {
            told.notify_one();
            std::future::pending::<()>().await;
        };
        let server = serving(&path, Router::new().route("/", get(stuck)), &end);
        let _idle = sent(&path, "").await;
        let _asking = sent(&path, ASK).await;
        arrived.notified().await;
        end.cancel();
        timeout(LAST_ANSWER * 2, server).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_served_at_once_and_the_next_ones_wait() {
        let root = tempfile::tempdir().unwrap();
        let (path, end) = (root.path().join("s"), CancellationToken::new());
        let (go, inside) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let (gate, count) = (go.clone(), Arc::clone(&inside));
        let held = async move || {
            count.fetch_add(1, Ordering::SeqCst);
            gate.cancelled().await;
            "done"
        };
        let server = serving(&path, Router::new().route("/", get(held)), &end);
        let mut streams = Vec::new();
        for _ in 0..=MOST {
            streams.push(sent(&path, ASK).await);
        }
        let mut last = pin!(answer(streams.pop().unwrap()));
        assert!(timeout(LAST_ANSWER, last.as_mut()).await.is_err());
        assert_eq!(inside.load(Ordering::SeqCst), MOST);
        go.cancel();
        for stream in streams {
            assert!(answer(stream).await.ends_with("done"));
        }
        assert!(last.await.ends_with("done"));
        end.cancel();
        server.await.unwrap();
    }
}
