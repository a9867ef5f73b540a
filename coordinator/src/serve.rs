//! The service as a process: it listens, opens when its database is there, and goes down in two
//! stages.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Listen;
use crate::tls::TlsFiles;

/// How long a connection may take for a request's head, and may stay open between requests.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// The most bytes of a request's head.
const HEAD_BYTES: usize = 64 * 1024;

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    /// Where: the real port, also where port 0 was asked for.
    pub addr: SocketAddr,
    /// Watches the files of the certificate.
    watch: Option<AbortOnDropHandle<()>>,
    handle: Handle<SocketAddr>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Listens, with TLS if a certificate is named.
    ///
    /// # Errors
    /// Where the port or the certificate cannot be used.
    pub fn start(listen: &Listen, router: Router) -> io::Result<Self> {
        let files = TlsFiles::of(listen);
        let tls = files.as_ref().map(TlsFiles::load).transpose()?.map(RustlsConfig::from_config);
        let listener = TcpListener::bind((listen.host, listen.port))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let handle = Handle::new();
        let watch = files
            .zip(tls.clone())
            .map(|(files, running)| AbortOnDropHandle::new(tokio::spawn(files.watch(running))));
        let service = router.into_make_service();
        let task = match tls {
            Some(tls) => {
                let server = axum_server::from_tcp_rustls(listener, tls)?.http1_only();
                let mut server = server.handle(handle.clone());
                limit_heads(server.http_builder());
                tokio::spawn(server.serve(service))
            }
            None => {
                let mut server = axum_server::from_tcp(listener)?.http1_only();
                limit_heads(server.http_builder());
                tokio::spawn(server.handle(handle.clone()).serve(service))
            }
        };
        Ok(Self { addr, watch, handle, task })
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        let scheme = if self.watch.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// Takes no more connections, and ends when the requests at work have, or after `grace`.
    ///
    /// # Errors
    /// Where it had ended with an error before.
    pub async fn stop(self, grace: Duration) -> io::Result<()> {
        self.handle.graceful_shutdown(Some(grace));
        self.task.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

type HttpBuilder = hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>;

fn limit_heads(builder: &mut HttpBuilder) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES);
}
