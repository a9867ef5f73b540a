//! Names and connections of the real network. Tests have another.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// The right to ask for a name, to be held until the answer is there, however long the asker waits.
#[derive(Debug)]
pub struct Question {
    pub(super) _of_job: OwnedSemaphorePermit,
    pub(super) _of_node: OwnedSemaphorePermit,
}

/// Where names are resolved and connections made.
pub trait Outside: Send + Sync + 'static {
    /// The addresses of `name`, asked once.
    fn resolve(
        &self,
        name: &str,
        question: Question,
    ) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;

    /// A connection to exactly this address.
    fn connect(&self, address: SocketAddr) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

/// The real one, as the host sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Internet;

impl Outside for Internet {
    async fn resolve(&self, name: &str, question: Question) -> io::Result<Vec<IpAddr>> {
        let spellings = spellings(name);
        // The system's resolver holds a thread for as long as it likes; nobody can call it off.
        let asked = tokio::task::spawn_blocking(move || {
            let _question = question;
            let mut answer = Err(io::ErrorKind::NotFound.into());
            for spelling in spellings {
                answer = (spelling.as_str(), 0).to_socket_addrs();
                if answer.is_ok() {
                    break;
                }
            }
            answer
        });
        let addresses = asked.await.map_err(io::Error::other)??;
        Ok(addresses.map(|address| address.ip()).collect())
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        // A public address of this very host: its other services are not out there.
        if stream.local_addr()?.ip() == stream.peer_addr()?.ip() {
            let why = "the address is the node's own";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(stream)
    }
}

/// What the system's resolver is asked for, one after the other. Without the dot it would try the
/// domains of the host's search list, too: another name than the one that the rules allow. Names of
/// one label, as the host's own files have them, are not known with a dot.
fn spellings(name: &str) -> Vec<String> {
    let bare = (!name.contains('.')).then(|| name.to_owned());
    std::iter::once(format!("{name}.")).chain(bare).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_list_of_the_host_is_not_used() {
        assert_eq!(spellings("api.example"), ["api.example."]);
        assert_eq!(spellings("localhost"), ["localhost.", "localhost"]);
    }
}
