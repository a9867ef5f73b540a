//! The way out of the sandbox: real jobs, the real door, the real proxy. Only the internet behind it
//! is made up.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use miner_node::egress::{Egress, Outside, Question, Rules};
use miner_node::sandbox::{
    Command, Door, Ending, Interrupt, Limits, Places, Policy, Sandbox, Tools,
};
use protocol::JobState;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::rig::Rig;

/// Asks the proxy, as programs find it, for a connection, says `hello` and prints what it hears.
const ASK: &str = "import os, socket, sys, urllib.parse; \
    proxy = urllib.parse.urlsplit(os.environ['HTTPS_PROXY']); \
    end = bytes([13, 10, 13, 10]); \
    ask = lambda target: (\
        s := socket.create_connection((proxy.hostname, proxy.port)), \
        s.sendall(b'CONNECT ' + target.encode() + b' HTTP/1.1' + end), \
        head := s.makefile('rb').readline(), \
        s.sendall(b'hello') if b' 200 ' in head else None, \
        s.shutdown(socket.SHUT_WR), \
        print(target, head.split()[1].decode(), s.makefile('rb').read().split(end)[-1][-5:].decode())); \
    [ask(target) for target in sys.argv[1:]]";

/// One public server, which is here, and one name for it.
struct Street {
    server: SocketAddr,
    visited: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Outside for Street {
    async fn resolve(&self, name: &str, _: Question) -> io::Result<Vec<IpAddr>> {
        assert_eq!(name, "api.example");
        Ok(vec!["93.184.216.34".parse().unwrap()])
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.visited.lock().unwrap().push(address);
        TcpStream::connect(self.server).await
    }
}

async fn capitals() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = [0; 5];
            stream.read_exact(&mut text).await.unwrap();
            stream.write_all(&text.to_ascii_uppercase()).await.unwrap();
        }
    });
    address
}

fn python() -> PathBuf {
    std::fs::canonicalize("/usr/bin/python3").expect("apt install python3")
}

#[tokio::test]
async fn a_job_reaches_what_is_allowed_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let visited = Arc::new(Mutex::default());
    let street = Street { server: capitals().await, visited: Arc::clone(&visited) };
    let rules = Rules::new(vec!["api.example:443".parse().unwrap()]);
    let egress = Egress::new(rules, street, 1).unwrap();
    let (way, out) = egress.way().unwrap();
    let executable = PathBuf::from(env!("CARGO_BIN_EXE_miner-node"));
    let places = Places { door: Some(Door { way: out, executable }), ..Places::below(root.path()) };
    for directory in [&places.work, &places.input] {
        std::fs::create_dir(directory).unwrap();
    }
    let targets = ["api.example:443", "other.example:443", "127.0.0.1:443", "api.example:443"];
    let args = ["-c", ASK].iter().chain(&targets).map(|arg| (*arg).to_owned()).collect();
    let command = Command {
        program: python(),
        args,
        env: Vec::new(),
        shown: Vec::new(),
        limits: Limits::trial(),
    };
    let sandbox = Sandbox::new(Tools::find().unwrap(), &Policy::default()).unwrap();
    let ended = CancellationToken::new();
    let interrupt = Interrupt::default();
    let run = async {
        let run = sandbox.run(&command, &places, &interrupt).await;
        ended.cancel();
        run
    };
    let (run, carried) = tokio::join!(run, way.serve(&ended));
    let errors = std::fs::read_to_string(&places.stderr).unwrap();
    assert_eq!(run.unwrap().ending, Ending::Exited(0), "{errors}");
    let heard = std::fs::read_to_string(&places.stdout).unwrap();
    let lines: Vec<_> = heard.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(lines, ["200", "403", "403", "200"], "{heard}");
    assert_eq!(heard.matches("HELLO").count(), 2, "{heard}");
    assert_eq!((carried.bytes, carried.is_spent), (20, false));
    let there: SocketAddr = "93.184.216.34:443".parse().unwrap();
    assert_eq!(*visited.lock().unwrap(), [there, there]);
}

/// A job that asks for the network, and says what became of it.
fn asking(target: &str) -> Value {
    json!({
        "command": "python", "args": ["-c", ASK, target], "max_attempts": 1,
        "limits": {"network": "egress"},
    })
}

fn allow_python(rig: &Rig) {
    let rules = "[['-c', '(?s).*'], {matches: '[a-z0-9.:]+'}]";
    let path = python();
    let path = path.display();
    rig.allow(
        "python",
        &format!("command: {{path: {path}, name: python}}\nnetwork: egress\nargs: {rules}\n"),
    );
}

#[tokio::test]
async fn a_node_without_a_way_out_is_given_no_job_that_wants_one() {
    let mut rig = Rig::new().await;
    allow_python(&rig);
    rig.config.poll.wait_s = 0;
    let id = rig.submit(asking("api.example:443")).await;
    let node = rig.run().await;
    rig.mock.journal.wait_for(|call| call.is("GET /v1/miner/next") && call.status == 204).await;
    assert_eq!(rig.mock.job(id).await.unwrap().state, JobState::Queued);
    node.end().await;
}

#[tokio::test]
async fn an_allowed_name_of_this_host_is_refused() {
    let mut rig = Rig::new().await;
    allow_python(&rig);
    let target = format!("localhost:{}", capitals().await.port());
    rig.config.egress.allow = vec![target.parse().unwrap()];
    let node = rig.run().await;
    let id = rig.submit(asking(&target)).await;
    let result = rig.result(id).await;
    let text = result.result.unwrap().to_string();
    assert!(text.contains(&format!("{target} 403")), "{text}");
    assert_eq!(result.metrics["egress_bytes"], 0);
    node.end().await;
}
