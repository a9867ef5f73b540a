//! The doctor's look at a coordinator, against a real socket, plain and with TLS.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::*;
use crate::config::{Config, Secret};

const KEY: &str = "k1.secret";

/// A server of two endpoints; it ends with the test's process.
fn serve(tls: Option<Arc<ServerConfig>>, date: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            match &tls {
                Some(config) => {
                    let connection = ServerConnection::new(config.clone()).unwrap();
                    reply(StreamOwned::new(connection, stream), date);
                }
                None => reply(stream, date),
            }
        }
    });
    port
}

fn reply(mut stream: impl Read + Write, date: &str) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        // The doctor's first connection says nothing, and a refused handshake neither.
        match stream.read(&mut byte) {
            Ok(1) => request.push(byte[0]),
            _ => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let (status, body) = if request.starts_with("GET /api/v1/health ") {
        ("200 OK", r#"{"status":"ok"}"#)
    } else if !request.contains(&format!("Bearer {KEY}")) {
        (
            "401 Unauthorized",
            r#"{"error":{"code":"UNAUTHORIZED_KEY","message":"unknown key","details":{}}}"#,
        )
    } else {
        (
            "200 OK",
            r#"{"wallet":"w1","balance":"0.5","pending":"0","currency":"AITBC","updated_at":"2026-01-24T00:00:00Z"}"#,
        )
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nDate: {date}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).unwrap();
    stream.flush().unwrap();
}

fn now_as_http_date() -> &'static str {
    let now = jiff::Timestamp::from_microsecond(crate::clock::now().micros()).unwrap();
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    Box::leak(date.into_boxed_str())
}

fn config(scheme: &str, port: u16, key: Option<&str>) -> Config {
    let mut config = Config::default();
    config.coordinator.base_url = format!("{scheme}://127.0.0.1:{port}/api").parse().unwrap();
    config.coordinator.auth_token = key.map(Secret::new);
    config
}

fn examined(config: &Config) -> Vec<Finding> {
    // Another test of this process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(connection::check(config))
}

fn statuses(findings: &[Finding]) -> Vec<(&str, Status)> {
    findings.iter().map(|finding| (finding.check, finding.status)).collect()
}

#[test]
fn a_finding_is_a_line_and_its_fix_another() {
    let findings =
        [Finding::ok("clock", "2 ms off"), Finding::fail("key", "refused", "ask for one")];
    assert_eq!(
        text(&findings),
        "ok    clock        2 ms off\nfail  key          refused\n                   fix: ask for one\n"
    );
}

#[test]
fn all_is_well() {
    let port = serve(None, now_as_http_date());
    let mut config = config("http", port, Some(KEY));
    let all = ["network", "coordinator", "clock", "key"].map(|check| (check, Status::Ok));
    assert_eq!(statuses(&examined(&config)), all);
    config.wallet = Some("w2".parse().unwrap());
    let findings = examined(&config);
    assert_eq!(findings[3].status, Status::Warn, "{findings:?}");
    assert!(findings[3].detail.contains("w1") && findings[3].detail.contains("w2"));
}

#[test]
fn a_key_that_is_refused_and_a_clock_that_is_off() {
    let port = serve(None, "Sat, 24 Jan 2026 00:00:00 GMT");
    let findings = examined(&config("http", port, Some("k2.other")));
    assert_eq!(findings[2].status, Status::Fail, "{findings:?}");
    assert_eq!((findings[3].check, findings[3].status), ("key", Status::Fail));
    assert!(findings[3].detail.contains("UNAUTHORIZED_KEY"));
    assert!(findings.iter().all(|finding| !finding.detail.contains("k2.other")));
    let findings = examined(&config("http", port, None));
    assert_eq!(findings[3].detail, "no API key is set");
}

#[test]
fn nobody_listens() {
    // Bound and let go; on an address that no other test uses, so nothing answers there.
    let port = TcpListener::bind("127.0.7.7:0").unwrap().local_addr().unwrap().port();
    let mut config = config("http", port, Some(KEY));
    config.coordinator.base_url = format!("http://127.0.7.7:{port}").parse().unwrap();
    let findings = examined(&config);
    assert_eq!(statuses(&findings), [("network", Status::Fail)]);
}

#[test]
fn certificates_are_verified_always() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let port = serve(Some(Arc::new(tls)), now_as_http_date());
    let mut config = config("https", port, Some(KEY));

    let findings = examined(&config);
    assert_eq!(statuses(&findings), [("network", Status::Ok), ("coordinator", Status::Fail)]);
    assert!(findings[1].fix.as_ref().unwrap().contains("ca_file"), "{findings:?}");

    let directory = TempDir::new().unwrap();
    let authority = directory.path().join("ca.pem");
    std::fs::write(&authority, made.cert.pem()).unwrap();
    config.coordinator.ca_file = Some(authority);
    let findings = examined(&config);
    let all = ["network", "coordinator", "clock", "key"].map(|check| (check, Status::Ok));
    assert_eq!(statuses(&findings), all, "{findings:?}");

    config.coordinator.ca_file = Some(directory.path().join("missing.pem"));
    let findings = examined(&config);
    assert!(findings[1].detail.contains("missing.pem"), "{findings:?}");
}

#[test]
fn a_coordinator_may_ask_for_the_node_s_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut known = rustls::RootCertStore::empty();
    known.add(made.cert.der().clone()).unwrap();
    let tls = ServerConfig::builder()
        .with_client_cert_verifier(
            rustls::server::WebPkiClientVerifier::builder(Arc::new(known)).build().unwrap(),
        )
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let port = serve(Some(Arc::new(tls)), now_as_http_date());
    let mut config = config("https", port, Some(KEY));
    let directory = TempDir::new().unwrap();
    let (authority, own) = (directory.path().join("ca.pem"), directory.path().join("own.pem"));
    std::fs::write(&authority, made.cert.pem()).unwrap();
    std::fs::write(&own, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
    config.coordinator.ca_file = Some(authority);

    let findings = examined(&config);
    assert_eq!(findings[1].status, Status::Fail);
    assert!(findings[1].fix.as_ref().unwrap().contains("client_cert_file"), "{findings:?}");

    config.coordinator.client_cert_file = Some(own);
    assert!(examined(&config).iter().all(|finding| finding.status == Status::Ok));
}

#[test]
fn a_broken_configuration_is_a_finding() {
    let error = ConfigError::TooLarge { path: "/x".into(), limit: 5 };
    assert_eq!(main(Err(error), true), ExitCode::from(USAGE));
}
