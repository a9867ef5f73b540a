//! What a node is answered: HTTP from whoever listens at the coordinator's address.

use std::net::SocketAddr;
use std::time::Duration;

use miner_node::config;
use miner_node::coordinator::{CallError, Coordinator, Remedy};
use protocol::ErrorBody;
use protocol::client::{JobView, PublicKeys};
use protocol::job::SlotKind;
use protocol::miner::{
    Acked, Failed, Heartbeat, HeartbeatReply, LogReply, ProgressReply, Registered, Uploaded,
};
use protocol::proof::Credited;
use protocol::{Job, Receipt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Map;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static LINE: Line = Line::open();
}

/// The longest pause that a reply can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A whole reply, from its status line on; its body is tried as each type that a node reads.
pub fn replies(data: &[u8]) {
    let blank = data.windows(4).position(|four| four == b"\r\n\r\n");
    body(&data[blank.map_or(0, |at| at + 4)..]);
    let Err(error) = LINE.with(|line| line.call(data)) else { return };
    assert!(!error.to_string().is_empty());
    match error.remedy() {
        Remedy::Retry(Some(pause)) => assert!(pause <= LONGEST_PAUSE),
        Remedy::Lower(_) | Remedy::Register | Remedy::Drop => assert!(error.code().is_some()),
        Remedy::Retry(None) | Remedy::Owner | Remedy::GiveUp => {}
    }
}

fn body(bytes: &[u8]) {
    reply::<Registered>(bytes);
    reply::<HeartbeatReply>(bytes);
    reply::<Job>(bytes);
    reply::<Acked>(bytes);
    reply::<ProgressReply>(bytes);
    reply::<LogReply>(bytes);
    reply::<Uploaded>(bytes);
    reply::<Failed>(bytes);
    reply::<Credited>(bytes);
    reply::<ErrorBody>(bytes);
    reply::<JobView>(bytes);
    reply::<PublicKeys>(bytes);
    reply::<Receipt>(bytes);
}

fn reply<T: DeserializeOwned + Serialize + PartialEq>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        let text = serde_json::to_vec(&value).expect("it is made of JSON");
        assert!(serde_json::from_slice::<T>(&text).ok() == Some(value));
    }
}

/// A node's client, and a listener that answers it with whatever it is told.
struct Line {
    runtime: Runtime,
    listener: TcpListener,
    client: Coordinator,
    heartbeat: Heartbeat,
}

impl Line {
    fn open() -> Self {
        // It fails only where a provider is installed already, and then there is one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = runtime.block_on(TcpListener::bind(anywhere)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let config = config::Coordinator {
            base_url: format!("http://{address}").parse().expect("an address"),
            ..config::Coordinator::default()
        };
        let client = Coordinator::new(&config).expect("a client");
        let heartbeat = Heartbeat {
            miner_id: "m1".parse().expect("a name"),
            wallet: None,
            mode: SlotKind::Cpu,
            gpu: false,
            status: None,
            inflight: None,
            queue_len: None,
            active_jobs: Vec::new(),
            metrics: Map::new(),
            mining: Map::new(),
            capabilities: None,
        };
        Self { runtime, listener, client, heartbeat }
    }

    fn call(&self, answer: &[u8]) -> Result<HeartbeatReply, CallError> {
        let answering = async {
            // The client may have lost interest: then nobody minds that this fails.
            let Ok((mut stream, _)) = self.listener.accept().await else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        };
        self.runtime.block_on(async {
            let mut answering = std::pin::pin!(answering);
            tokio::select! {
                replied = self.client.heartbeat(&self.heartbeat) => replied,
                // The connection is closed by now: an answer, or the lack of one, is at hand.
                () = async { answering.as_mut().await; std::future::pending().await } => unreachable!(),
            }
        })
    }
}
