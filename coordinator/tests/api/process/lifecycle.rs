//! The service from its start to its end, with and without its database.

use std::time::Duration;

use std::fs;

use protocol::ErrorBody;
use rustix::process::Signal;
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixDatagram};

use super::proxy::Proxy;
use super::service::{Home, Service, binary, http, within};
use crate::support::PostgresDatabase;

async fn code(response: reqwest::Response) -> String {
    response.json::<ErrorBody>().await.unwrap().error.code
}

#[tokio::test]
async fn it_starts_before_its_database_and_outlives_its_absence() {
    let database = PostgresDatabase::create().await;
    let proxy = Proxy::start(database.server()).await;
    let url = proxy.url(&database.url);
    let direct = Home::with_database(&database.url);
    let key = direct.key(&["--scope", "client", "--client", "c"]).await;
    let home = Home::with_database(&url);
    let service = Service::start(&home.settings()).await;
    let away = async || {
        assert_eq!(service.status("/healthz", None).await, 200);
        assert_eq!(service.status("/v1/health", None).await, 200);
        assert_eq!(code(service.get("/readyz", None).await).await, "DB_UNAVAILABLE");
        let refused = service.get("/v1/jobs", Some(&key)).await;
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        assert_eq!(code(refused).await, "DB_UNAVAILABLE");
    };
    away().await;
    proxy.set(true);
    service.log.wait_for("open: ").await;
    assert_eq!(service.status("/readyz", None).await, 200);
    assert_eq!(service.status("/v1/jobs", Some(&key)).await, 200);
    proxy.set(false);
    away().await;
    proxy.set(true);
    assert_eq!(service.status("/readyz", None).await, 200);
    assert_eq!(service.status("/v1/jobs", Some(&key)).await, 200);
}

#[tokio::test]
async fn the_first_signal_ends_it_in_peace() {
    let home = Home::new();
    let key = home.key(&["--scope", "miner", "--wallet", "w"]).await;
    let mut service = Service::open(&home.settings()).await;
    let heartbeat = json!({"miner_id": "m", "wallet": "w", "mode": "cpu", "gpu": 0});
    assert_eq!(service.post("/v1/miner/heartbeat", &key, heartbeat).await.status(), 200);
    // Its head is with the server when the signal comes, its reply is not.
    let poll = format!(
        "GET /v1/miner/next?miner=m&slots=1&wait=30 HTTP/1.1\r\nhost: x\r\n\
         authorization: Bearer {key}\r\n\r\n"
    );
    let mut waiting = connect(&service).await;
    waiting.write_all(poll.as_bytes()).await.unwrap();
    at_work(&service, 2).await;
    service.signal(Signal::TERM);
    let mut reply = String::new();
    within(waiting.read_to_string(&mut reply)).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 204 "), "{reply}");
    assert_eq!(service.ended().await.code(), Some(0));
    service.log.wait_for("down").await;
}

#[tokio::test]
async fn the_second_signal_ends_it_at_once() {
    let home = Home::new();
    let key = home.key(&["--scope", "client", "--client", "c"]).await;
    let mut service = Service::open(&home.settings()).await;
    // A body that never comes keeps a request at work.
    let mut stuck = connect(&service).await;
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\
         expect: 100-continue\r\n\r\n"
    );
    stuck.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body: from now on the request is at work.
    let mut go_on = [0; 12];
    within(stuck.read_exact(&mut go_on)).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    service.signal(Signal::INT);
    service.log.wait_for("going down").await;
    service.signal(Signal::TERM);
    assert_eq!(service.ended().await.code(), Some(1));
    service.log.wait_for("second signal").await;
}

/// Waits until so many requests are at work, the one that asks among them.
async fn at_work(service: &Service, count: u32) {
    let line = format!("aitbc_http_requests_at_work {count}\n");
    within(async {
        while !service.get("/metrics", None).await.text().await.unwrap().contains(&line) {}
    })
    .await;
}

async fn connect(service: &Service) -> TcpStream {
    TcpStream::connect(service.url.strip_prefix("http://").unwrap()).await.unwrap()
}

async fn survives(home: Home) {
    let key = home.key(&["--scope", "client", "--client", "c"]).await;
    let mut service = Service::open(&home.settings()).await;
    let keys: serde_json::Value = service.get("/v1/keys", None).await.json().await.unwrap();
    let job = service.post("/v1/jobs", &key, json!({"workload": "hash"})).await;
    assert_eq!(job.status(), 201);
    let job: serde_json::Value = job.json().await.unwrap();
    service.signal(Signal::KILL);
    service.ended().await;
    let service = Service::open(&home.settings()).await;
    let path = format!("/v1/jobs/{}", job["job_id"].as_str().unwrap());
    let kept: serde_json::Value = service.get(&path, Some(&key)).await.json().await.unwrap();
    assert_eq!(kept, job);
    let same: serde_json::Value = service.get("/v1/keys", None).await.json().await.unwrap();
    assert_eq!(same, keys, "the key that attests receipts is made once");
}

#[tokio::test]
async fn what_was_answered_survives_kill_9_on_sqlite() {
    survives(Home::new()).await;
}

#[tokio::test]
async fn what_was_answered_survives_kill_9_on_postgres() {
    let database = PostgresDatabase::create().await;
    survives(Home::with_database(&database.url)).await;
}

#[tokio::test]
async fn a_schema_of_a_newer_build_is_left_alone() {
    let home = Home::new();
    assert_eq!(home.run(&["migrate"]).await.code, 0);
    let file = format!("sqlite:{}", home.path().join("coordinator.db").display());
    let mut db = SqliteConnection::connect(&file).await.unwrap();
    let newer = "insert into _sqlx_migrations
                     (version, description, success, checksum, execution_time)
                 values (9999, 'from the future', 1, x'00', 1)";
    sqlx::query(newer).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    for command in [&["serve", "--port", "0"][..], &["migrate"], &["ledger", "audit"]] {
        let output = home.run(command).await;
        assert_eq!(output.code, 1, "{command:?}: {output:?}");
        assert!(output.err.contains("9999"), "{command:?}: {output:?}");
    }
}

#[tokio::test]
async fn keys_made_and_revoked_beside_it_count() {
    let home = Home::new();
    let service = Service::open(&home.settings()).await;
    let key = home.key(&["--scope", "miner", "--wallet", "w"]).await;
    assert_eq!(service.status("/v1/wallet/balance", Some(&key)).await, 200);
    let (id, secret) = key.split_once('.').unwrap();
    let listed = home.run(&["keys", "list"]).await.out;
    assert!(listed.contains(id) && listed.contains("wallet w") && !listed.contains(secret));
    assert_eq!(home.run(&["keys", "revoke", id]).await.code, 0);
    // Another process revoked it: this one believes it for a second at most.
    within(async {
        // Slowly: the key's rate is limited, too.
        while service.status("/v1/wallet/balance", Some(&key)).await == 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(code(service.get("/v1/wallet/balance", Some(&key)).await).await, "UNAUTHORIZED_KEY");
    assert!(home.run(&["keys", "list"]).await.out.contains("revoked"));
}

#[tokio::test]
async fn secrets_show_neither_in_the_log_nor_in_files() {
    let home = Home::new();
    let key = home.key(&["--scope", "client", "--client", "c"]).await;
    let settings = [&home.settings()[..], &["--log-level", "debug"]].concat();
    let mut service = Service::open(&settings).await;
    assert_eq!(service.post("/v1/jobs", &key, json!({"workload": "hash"})).await.status(), 201);
    let by_other_header = http().get(format!("{}/v1/jobs", service.url)).header("x-api-key", &key);
    assert_eq!(by_other_header.send().await.unwrap().status(), 200);
    service.log.wait_for("replied").await;
    service.signal(Signal::TERM);
    service.ended().await;
    let secret = key.split_once('.').unwrap().1;
    let attestor = fs::read_to_string(home.path().join("receipt.key")).unwrap();
    for kept in [secret, attestor.trim()] {
        assert!(!service.log.text().contains(kept));
        assert!(!service.out.text().contains(kept));
        for file in ["coordinator.db", "coordinator.db-wal"] {
            let bytes = fs::read(home.path().join(file)).unwrap_or_default();
            assert!(!bytes.windows(kept.len()).any(|window| window == kept.as_bytes()), "{file}");
        }
    }
}

#[tokio::test]
async fn it_speaks_tls_with_its_own_certificate() {
    let home = Home::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (home.path().join("cert.pem"), home.path().join("key.pem"));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.display().to_string(), key.display().to_string());
    let settings = [&home.settings()[..], &["--tls-cert", &cert, "--tls-key", &key]].concat();
    let service = Service::open(&settings).await;
    let port = service.url.rsplit_once(':').unwrap().1;
    assert!(service.url.starts_with("https://"));
    drop(http());
    let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
    let health = client.get(format!("https://localhost:{port}/v1/health")).send().await.unwrap();
    assert_eq!(health.status(), 200);
    assert_eq!(health.headers()["content-type"], protocol::JSON_CONTENT_TYPE);
    // Plain HTTP gets nothing there.
    let plain = http().get(format!("http://localhost:{port}/v1/health")).send().await;
    assert!(plain.is_err());
}

#[tokio::test]
async fn with_mutual_tls_strangers_are_not_served() {
    let home = Home::new();
    let file = |name: &str| home.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(file("cert.pem"), made.cert.pem()).unwrap();
    fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let (authority, ours) = authority_and_member();
    fs::write(file("clients.pem"), authority).unwrap();
    let config = format!(
        "data_dir: {}\nlisten: {{tls_cert: {}, tls_key: {}, tls_client_ca: {}, port: 0}}\n",
        home.path().display(),
        file("cert.pem"),
        file("key.pem"),
        file("clients.pem")
    );
    fs::write(file("coordinator.yaml"), config).unwrap();
    let service = Service::open(&["--config", &file("coordinator.yaml")]).await;
    let port = service.url.rsplit_once(':').unwrap().1;
    drop(http());
    let get = async |identity: Option<&str>| {
        let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        let mut client = reqwest::Client::builder().no_proxy().tls_certs_only([root]);
        if let Some(pem) = identity {
            client = client.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        let url = format!("https://localhost:{port}/v1/health");
        within(client.build().unwrap().get(url).send()).await.map(|reply| reply.status())
    };
    assert_eq!(get(Some(&ours)).await.unwrap(), 200);
    assert!(get(None).await.is_err());
    let (_, another_s) = authority_and_member();
    assert!(get(Some(&another_s)).await.is_err());
}

/// An authority's certificate, and a certificate of it with its key, both PEM.
fn authority_and_member() -> (String, String) {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let own = rcgen::KeyPair::generate().unwrap();
    let names = vec!["miner".to_owned()];
    let member = rcgen::CertificateParams::new(names).unwrap().signed_by(&own, &issuer).unwrap();
    (authority, member.pem() + &own.serialize_pem())
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let home = Home::new();
    let service = Service::open(&home.settings()).await;
    let mut connection = connect(&service).await;
    let endless = format!("GET /healthz HTTP/1.1\r\nx-long: {}", "a".repeat(256 * 1024));
    // The server may hang up while this is written.
    connection.write_all(endless.as_bytes()).await.ok();
    let mut reply = Vec::new();
    within(connection.read_to_end(&mut reply)).await.ok();
    let reply = String::from_utf8_lossy(&reply);
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 431 "), "{reply}");
    assert_eq!(service.status("/healthz", None).await, 200);
}

#[tokio::test]
async fn systemd_hears_when_it_serves_that_it_lives_and_when_it_ends() {
    let home = Home::new();
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("notify");
    let ear = UnixDatagram::bind(&place).unwrap();
    let hear = async |word: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = within(ear.recv(&mut buffer)).await.unwrap();
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == word) {
                return;
            }
        }
    };
    let mut child = binary(["serve", "--port", "0"])
        .args(home.settings())
        .env("NOTIFY_SOCKET", &place)
        .env("WATCHDOG_USEC", "300000")
        .spawn()
        .unwrap();
    for word in ["READY=1", "WATCHDOG=1", "WATCHDOG=1"] {
        hear(word).await;
    }
    let pid = child.id().and_then(|id| rustix::process::Pid::from_raw(id.try_into().unwrap()));
    rustix::process::kill_process(pid.unwrap(), Signal::TERM).unwrap();
    hear("STOPPING=1").await;
    assert!(within(child.wait()).await.unwrap().success());
}
