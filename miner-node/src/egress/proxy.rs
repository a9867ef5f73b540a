//! One connection of a job: its request, the rules, the name, the address, then bytes both ways.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::is_public;
use super::internet::Outside;
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
const GATEWAY_TIMEOUT: &str = "504 Gateway Timeout";

/// A job's proxy.
#[derive(Debug)]
pub(super) struct Proxy<O> {
    pub(super) rules: Arc<Rules>,
    pub(super) outside: Arc<O>,
    /// Bytes to and from targets.
    pub(super) carried: AtomicU64,
}

impl<O: Outside> Proxy<O> {
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
                tunnel(job, far, rest.len() as u64, &self.carried).await
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
        match timeout(CONNECT_PATIENCE, self.outside.resolve(name)).await {
            Ok(Ok(addresses)) => Ok(addresses),
            Ok(Err(error)) => Err(Refused::new(BAD_GATEWAY, format!("{name}: {error}"))),
            Err(_) => Err(Refused::new(GATEWAY_TIMEOUT, format!("{name} is not resolved"))),
        }
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
