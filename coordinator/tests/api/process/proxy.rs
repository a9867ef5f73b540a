//! A network between a coordinator and its PostgreSQL that a test can cut.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards to a server while it is up; otherwise it hangs up.
pub struct Proxy {
    port: u16,
    up: watch::Sender<bool>,
    silenced: watch::Sender<()>,
}

impl Proxy {
    /// A proxy in front of `server` (`host:port`), down.
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (up, is_up) = watch::channel(false);
        let (silenced, silence) = watch::channel(());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *is_up.borrow() {
                    tokio::spawn(forward(client, server.clone(), is_up.clone(), silence.clone()));
                }
            }
        });
        Self { port, up, silenced }
    }

    /// A URL of the same database, through this proxy.
    pub fn url(&self, database: &str) -> String {
        let (start, host) = database.split_once("://").unwrap();
        let (user, host) = host.rsplit_once('@').unwrap();
        let (_, name) = host.split_once('/').unwrap();
        format!("{start}://{user}@127.0.0.1:{}/{name}", self.port)
    }

    pub fn set(&self, up: bool) {
        self.up.send(up).unwrap();
    }

    /// Nothing comes through the connections of today any more, and nobody is told; new ones work.
    pub fn silence(&self) {
        self.silenced.send(()).unwrap();
    }
}

async fn forward(
    mut client: TcpStream,
    server: String,
    mut is_up: watch::Receiver<bool>,
    mut silence: watch::Receiver<()>,
) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    silence.mark_unchanged();
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
        _ = is_up.wait_for(|up| !up) => return,
        _ = silence.changed() => {}
    }
    // Both ends stay open.
    let _ = is_up.wait_for(|up| !up).await;
}
