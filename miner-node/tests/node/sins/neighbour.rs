//! Somebody on this host who answers `hello` to everyone: on an address of the host, by TCP and UDP,
//! on a socket with a path and on one with an abstract name. Counts the visits.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{self as unix, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

const ANSWER: &[u8] = b"hello";

pub struct Neighbour {
    /// An address of this host, not its loopback if it has another.
    pub address: SocketAddr,
    /// Where the socket with a path is.
    pub path: PathBuf,
    /// The other one's name.
    pub name: String,
    visits: Arc<AtomicUsize>,
}

impl Neighbour {
    /// With a socket below `directory`. Its threads live as long as this process.
    pub fn start(directory: &Path) -> Self {
        let path = directory.join("neighbour");
        let name = format!("neighbour-{}", path.display()).replace('/', "-");
        let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let udp = UdpSocket::bind(("0.0.0.0", port)).unwrap();
        let here = UnixListener::bind(&path).unwrap();
        let address = unix::SocketAddr::from_abstract_name(&name).unwrap();
        let nowhere = UnixListener::bind_addr(&address).unwrap();
        let visits = Arc::new(AtomicUsize::new(0));
        answer(&visits, move || Ok(tcp.accept()?.0));
        answer(&visits, move || Ok(here.accept()?.0));
        answer(&visits, move || Ok(nowhere.accept()?.0));
        answer_datagrams(&visits, udp);
        Self { address: SocketAddr::new(own_address(), port), path, name, visits }
    }

    /// How many came.
    pub fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

/// The address by which this host would be seen from elsewhere. Nothing is sent.
fn own_address() -> std::net::IpAddr {
    let asked = UdpSocket::bind("0.0.0.0:0").unwrap();
    let found = asked.connect("192.0.2.1:9").and_then(|()| asked.local_addr());
    found.map_or(std::net::Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

fn answer<S: Read + Write>(
    visits: &Arc<AtomicUsize>,
    accept: impl Fn() -> io::Result<S> + Send + 'static,
) {
    let visits = Arc::clone(visits);
    thread::spawn(move || {
        while let Ok(mut stream) = accept() {
            visits.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 16]).and_then(|_| stream.write(ANSWER));
        }
    });
}

fn answer_datagrams(visits: &Arc<AtomicUsize>, socket: UdpSocket) {
    let visits = Arc::clone(visits);
    thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
            visits.fetch_add(1, Ordering::SeqCst);
            let _ = socket.send_to(ANSWER, from);
        }
    });
}
