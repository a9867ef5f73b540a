//! One connection of a job: its request, the rules, the name, the address, then bytes both ways.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::address::is_public;
use super::internet::{Outside, Question};
use super::request::{Connect, LONGEST_HEAD, Refused, parse};
use super::rule::{Host, Rules, Target};
use super::tunnel::tunnel;

/// How long the head of a request may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// How long resolving a name and connecting may take, each.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Addresses of one name that are tried.
const MOST_ADDRESSES: usize = 4;

const FORBIDDEN: &str = "403 Forbidden";
const BAD_GATEWAY: &str = "502 Bad Gateway";
const UNAVAILABLE: &str = "503 Service Unavailable";
const GATEWAY_TIMEOUT: &str = "504 Gateway Timeout";

/// A job's proxy.
#[derive(Debug)]
pub(super) struct Proxy<O> {
    pub(super) rules: Arc<Rules>,
    pub(super) outside: Arc<O>,
    /// Names that the job may ask for at once.
    pub(super) questions: Arc<Semaphore>,
    /// Names that all jobs may ask for at once.
    pub(super) node_questions: Arc<Semaphore>,
    /// Bytes to and from targets.
    pub(super) carried: AtomicU64,
    /// The most of these.
    pub(super) most_bytes: u64,
}

impl<O: Outside> Proxy<O> {
    /// Whether the job has used up its traffic.
    pub(super) fn is_spent(&self) -> bool {
        self.carried.load(Ordering::Relaxed) > self.most_bytes
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(&self, mut job: TcpStream) -> io::Result<()> {
        let head = timeout(HEAD_PATIENCE, read_head(&mut job)).await;
        let reached = match head {
            Ok(head) => match head? {
                Ok((connect, rest)) => self.reach(&connect.target).await.map(|far| (far, rest)),
                Err(refused) => Err(refused),
            },
            Err(_) => Err(Refused::new("408 Request Timeout", "the request did not come")),
        };
        match reached {
            Ok((mut far, rest)) => {
                job.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                far.write_all(&rest).await?;
                tunnel(job, far, rest.len() as u64, (&self.carried, self.most_bytes)).await
            }
            Err(refused) => {
                job.write_all(&refused.response()).await?;
                job.shutdown().await
            }
        }
    }

    /// A connection to `target`, at an address that was looked at: there is no second resolution
    /// that could say something else.
    async fn reach(&self, target: &Target) -> Result<TcpStream, Refused> {
        if !self.rules.allow(target) {
            return Err(Refused::new(FORBIDDEN, format!("egress.allow does not name {target}")));
        }
        if self.is_spent() {
            let most_mb = self.most_bytes >> 20;
            let why = format!("the job's traffic is used up: egress.max_mb is {most_mb}");
            return Err(Refused::new(FORBIDDEN, why));
        }
        let found = self.addresses(&target.host).await?;
        let public: Vec<_> = found.into_iter().filter(|address| is_public(*address)).collect();
        if public.is_empty() {
            return Err(Refused::new(FORBIDDEN, format!("{target} has no public address")));
        }
        let mut why = Refused::new(BAD_GATEWAY, "nobody answers");
        for address in public.into_iter().take(MOST_ADDRESSES) {
            let connecting = self.outside.connect(SocketAddr::new(address, target.port));
            match timeout(CONNECT_PATIENCE, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => why = Refused::new(BAD_GATEWAY, format!("{target}: {error}")),
                Err(_) => why = Refused::new(GATEWAY_TIMEOUT, format!("{target} does not answer")),
            }
        }
        Err(why)
    }

    async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Refused> {
        let name = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let question = timeout(CONNECT_PATIENCE, self.question()).await.ok().flatten();
        let busy = || Refused::new(UNAVAILABLE, "too many names are being asked for");
        let question = question.ok_or_else(busy)?;
        match timeout(CONNECT_PATIENCE, self.outside.resolve(name, question)).await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(Refused::new(BAD_GATEWAY, format!("{name}: {error}"))),
            Err(_) => Err(Refused::new(GATEWAY_TIMEOUT, format!("{name} is not resolved"))),
        }
    }

    /// Waits for the right to ask for a name. `None` never happens.
    async fn question(&self) -> Option<Question> {
        let of_job = Arc::clone(&self.questions).acquire_owned().await.ok()?;
        let of_node = Arc::clone(&self.node_questions).acquire_owned().await.ok()?;
        Some(Question { _of_job: of_job, _of_node: of_node })
    }
}

/// The request, and what came right behind it.
async fn read_head(job: &mut TcpStream) -> io::Result<Result<(Connect, Vec<u8>), Refused>> {
    let mut bytes = Vec::with_capacity(LONGEST_HEAD);
    loop {
        match parse(&bytes) {
            Ok(Some(connect)) => {
                let rest = bytes.split_off(connect.length);
                return Ok(Ok((connect, rest)));
            }
            Ok(None) => {}
            Err(refused) => return Ok(Err(refused)),
        }
        if job.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
