//! The proxy with real connections; only the names and the network behind it are made up.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;

/// A network in which every public address is the same server, which is here.
#[derive(Debug, Default)]
struct Town {
    /// What each question for a name is answered, one after the other.
    names: Mutex<HashMap<&'static str, Vec<Vec<IpAddr>>>>,
    server: Mutex<Option<SocketAddr>>,
    asked: Mutex<Vec<String>>,
    visited: Mutex<Vec<SocketAddr>>,
}

impl Outside for Arc<Town> {
    async fn resolve(&self, name: &str, _: Question) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut names = self.names.lock().unwrap();
        let answers = names.get_mut(name).filter(|answers| !answers.is_empty());
        answers.map(|answers| answers.remove(0)).ok_or_else(|| io::Error::other("no such name"))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.visited.lock().unwrap().push(address);
        let server = self.server.lock().unwrap().ok_or(io::ErrorKind::ConnectionRefused)?;
        TcpStream::connect(server).await
    }
}

/// A job's connection to its proxy in that town.
struct Scene {
    town: Arc<Town>,
    proxy: Arc<Proxy<Arc<Town>>>,
    of_node: Arc<Semaphore>,
    rest: Vec<JoinHandle<()>>,
}

impl Scene {
    async fn new(allow: &[&str], names: &[(&'static str, &[&str])]) -> Self {
        let town = Arc::new(Town::default());
        for (name, answers) in names {
            let addresses = |answer: &&str| {
                answer.split(' ').map(|address| address.parse().unwrap()).collect::<Vec<_>>()
            };
            town.names.lock().unwrap().insert(name, answers.iter().map(addresses).collect());
        }
        let rules = Rules::new(allow.iter().map(|rule| rule.parse().unwrap()).collect());
        let egress = Egress::new(rules, Arc::clone(&town), 1).unwrap();
        let (way, _out) = egress.way().unwrap();
        Self { town, proxy: way.proxy, of_node: way.connections, rest: Vec::new() }
    }

    /// A server that turns what it hears into capitals until the end.
    async fn serve(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        *self.town.server.lock().unwrap() = Some(listener.local_addr().unwrap());
        self.rest.push(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    stream.write_all(&buffer[..length].to_ascii_uppercase()).await.unwrap();
                }
            }
        }));
    }

    /// What the job hears that says `text` and nothing more.
    async fn say(&mut self, text: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut job = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let proxy = Arc::clone(&self.proxy);
        let served = tokio::spawn(async move { proxy.serve(accepted).await });
        job.write_all(text.as_bytes()).await.unwrap();
        job.shutdown().await.unwrap();
        let mut heard = String::new();
        job.read_to_string(&mut heard).await.unwrap();
        let _ = served.await.unwrap();
        heard
    }

    async fn connect(&mut self, target: &str) -> String {
        self.say(&format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nhello")).await
    }

    fn visited(&self) -> Vec<String> {
        self.town.visited.lock().unwrap().iter().map(SocketAddr::to_string).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.rest.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test]
async fn what_is_allowed_is_carried_and_counted() {
    let mut scene = Scene::new(&["api.example:443"], &[("api.example", &["93.184.216.34"])]).await;
    scene.serve().await;
    let heard = scene.connect("API.example:443").await;
    assert_eq!(heard, "HTTP/1.1 200 Connection established\r\n\r\nHELLO");
    assert_eq!(scene.visited(), ["93.184.216.34:443"]);
    assert_eq!(scene.proxy.carried.load(Ordering::Relaxed), 10);
}

#[tokio::test]
async fn what_no_rule_names_is_not_even_resolved() {
    let mut scene = Scene::new(&["api.example:443"], &[("evil.example", &["93.184.216.34"])]).await;
    scene.serve().await;
    for target in ["evil.example:443", "api.example:80", "93.184.216.34:443", "127.0.0.1:443"] {
        let heard = scene.connect(target).await;
        assert!(heard.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{target}: {heard}");
        assert!(heard.contains("egress.allow"), "{heard}");
    }
    assert_eq!((scene.visited().len(), scene.town.asked.lock().unwrap().len()), (0, 0));
}

#[tokio::test]
async fn a_name_that_leads_back_leads_nowhere() {
    let back =
        "127.0.0.1 10.0.0.1 169.254.169.254 ::1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::";
    let mut scene = Scene::new(&["api.example:443"], &[("api.example", &[back])]).await;
    scene.serve().await;
    let heard = scene.connect("api.example:443").await;
    assert!(heard.starts_with("HTTP/1.1 403") && heard.contains("no public address"), "{heard}");
    assert_eq!(scene.visited().len(), 0);
}

#[tokio::test]
async fn an_allowed_address_that_leads_back_leads_nowhere() {
    let mut scene = Scene::new(&["127.0.0.1:80", "[::1]:80"], &[]).await;
    scene.serve().await;
    for target in ["127.0.0.1:80", "[::1]:80"] {
        assert!(scene.connect(target).await.starts_with("HTTP/1.1 403"));
    }
    assert_eq!(scene.visited().len(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_not_asked_twice() {
    // The second answer is what a rebinding name server gives to whoever asks again to connect.
    let answers: &[&str] = &["93.184.216.34", "127.0.0.1"];
    let mut scene = Scene::new(&["api.example:443"], &[("api.example", answers)]).await;
    scene.serve().await;
    assert!(scene.connect("api.example:443").await.contains(" 200 "));
    assert_eq!(scene.visited(), ["93.184.216.34:443"]);
    assert_eq!(*scene.town.asked.lock().unwrap(), ["api.example"]);
    assert!(scene.connect("api.example:443").await.contains(" 403 "));
    assert_eq!(scene.visited().len(), 1);
}

#[tokio::test]
async fn of_several_addresses_only_the_public_ones_are_tried() {
    let answers: &[&str] = &["192.168.0.1 93.184.216.34 fe80::1 1.1.1.1"];
    let mut scene = Scene::new(&["*.example:443"], &[("api.example", answers)]).await;
    assert!(scene.connect("api.example:443").await.starts_with("HTTP/1.1 502"));
    assert_eq!(scene.visited(), ["93.184.216.34:443", "1.1.1.1:443"]);
}

#[tokio::test]
async fn everything_but_connect_has_an_answer_that_says_why() {
    let mut scene = Scene::new(&["api.example:80"], &[]).await;
    for (text, status) in [
        ("GET http://api.example/ HTTP/1.1\r\n\r\n", "405"),
        ("CONNECT api.example HTTP/1.1\r\n\r\n", "400"),
        ("\x16\x03\x01\x02", "400"),
        ("CONNECT api.example:80 HTTP/1.1\r\n\r\n", "502"),
    ] {
        let heard = scene.say(text).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status} ")), "{text}: {heard}");
    }
    assert_eq!(scene.visited().len(), 0);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut() {
    let mut scene = Scene::new(&["api.example:80"], &[]).await;
    let heard = scene.say(&format!("CONNECT a:1 HTTP/1.1\r\nA: {}", "x".repeat(8192))).await;
    assert!(heard.starts_with("HTTP/1.1 431"), "{heard}");
    assert_eq!(scene.say("CONNECT a:1 HTT").await, "");
}

#[tokio::test]
async fn who_may_not_ask_for_a_name_hears_so() {
    let mut scene = Scene::new(&["api.example:443"], &[("api.example", &["1.1.1.1"])]).await;
    scene.serve().await;
    let (own, all) = (Arc::clone(&scene.proxy.questions), Arc::clone(&scene.proxy.node_questions));
    for (questions, most) in [(own, MOST_QUESTIONS), (all, MOST_QUESTIONS_OF_NODE)] {
        let held = questions.acquire_many(u32::try_from(most).unwrap()).await.unwrap();
        tokio::time::pause();
        let heard = scene.connect("api.example:443").await;
        assert!(heard.starts_with("HTTP/1.1 503 "), "{heard}");
        assert_eq!(scene.town.asked.lock().unwrap().len(), 0);
        tokio::time::resume();
        drop(held);
    }
    assert!(scene.connect("api.example:443").await.contains(" 200 "));
    let free =
        (scene.proxy.questions.available_permits(), scene.proxy.node_questions.available_permits());
    assert_eq!(free, (MOST_QUESTIONS, MOST_QUESTIONS_OF_NODE));
}

#[tokio::test]
async fn traffic_has_an_end() {
    let name: (_, &[&str]) = ("api.example", &["1.1.1.1", "1.1.1.1"]);
    let mut scene = Scene::new(&["api.example:443"], &[name]).await;
    scene.serve().await;
    // As if all but 10 bytes had been carried before: that much is still allowed.
    scene.proxy.carried.store((1 << 20) - 10, Ordering::Relaxed);
    let heard = scene.connect("api.example:443").await;
    assert!(heard.ends_with("HELLO") && !scene.proxy.is_spent(), "{heard}");
    let heard = scene.connect("api.example:443").await;
    assert!(!heard.contains("HELLO") && scene.proxy.is_spent(), "{heard}");
    let heard = scene.connect("api.example:443").await;
    assert!(heard.starts_with("HTTP/1.1 403") && heard.contains("egress.max_mb"), "{heard}");
    assert_eq!(scene.visited().len(), 2);
}

#[tokio::test]
async fn connections_count_against_those_of_all_jobs() {
    let mut scene = Scene::new(&["api.example:443"], &[("api.example", &["1.1.1.1"])]).await;
    scene.serve().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (proxy, of_node) = (Arc::clone(&scene.proxy), Arc::clone(&scene.of_node));
    let accepting = tokio::spawn(accept(listener, proxy, of_node));
    let mut job = TcpStream::connect(address).await.unwrap();
    job.write_all(b"CONNECT api.example:443 HTTP/1.1\r\n\r\n").await.unwrap();
    job.read_exact(&mut [0; 12]).await.unwrap();
    // This one, and the one that is being waited for.
    assert_eq!(scene.of_node.available_permits(), MOST_OF_NODE - 2);
    accepting.abort();
    let _ = accepting.await;
    let all = scene.of_node.acquire_many(u32::try_from(MOST_OF_NODE).unwrap()).await.unwrap();
    assert_eq!(all.num_permits(), MOST_OF_NODE);
}

#[test]
fn a_lack_of_descriptors_passes() {
    for (errno, is_passing) in [
        (Errno::MFILE, true),
        (Errno::NFILE, true),
        (Errno::CONNABORTED, true),
        (Errno::INVAL, false),
    ] {
        assert_eq!(passes(&errno.into()), is_passing, "{errno}");
    }
}
