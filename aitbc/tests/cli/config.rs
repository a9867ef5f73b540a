//! Which coordinator and key count; what is refused before a call is made.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use axum::response::IntoResponse as _;
use clap::{Command, CommandFactory as _};
use coordinator::config::Listen;
use coordinator::serve::Server;
use serde_json::json;

use crate::program::Program;
use crate::stub::{Stub, reply};

const FILE: &str = ".config/aitbc/config.yaml";

async fn wallet() -> Stub {
    Stub::start(|_| {
        reply(
            200,
            json!({"wallet": "w", "balance": "1", "pending": "0", "currency": "AITBC",
            "updated_at": "2026-01-24T00:00:00Z"}),
        )
    })
    .await
}

#[tokio::test]
async fn flags_win_over_the_environment_over_the_profile() {
    let stub = wallet().await;
    let program = Program::new();
    program.file("other.key", "flag.key\n", 0o600);
    let profile = format!("profiles: {{m: {{url: '{}/p', key: profile.key}}}}\n", stub.url);
    program.file(FILE, &profile, 0o600);
    let balance = ["wallet", "balance"];
    program.run(&balance).await.code(0);
    let program = program.variable("AITBC_KEY", "variable.key");
    program.run(&balance).await.code(0);
    let named = ["--key-file", "other.key", "--url", &stub.url, "wallet", "balance"];
    program.run(&named).await.code(0);
    let sent: Vec<_> = stub
        .seen()
        .iter()
        .map(|seen| (seen.path.clone(), seen.header("authorization").unwrap().to_owned()))
        .collect();
    let wanted = [
        ("/p/v1/wallet/balance", "Bearer profile.key"),
        ("/p/v1/wallet/balance", "Bearer variable.key"),
        ("/v1/wallet/balance", "Bearer flag.key"),
    ];
    assert_eq!(sent, wanted.map(|(path, key)| (path.to_owned(), key.to_owned())));
}

#[tokio::test]
async fn a_profiles_key_goes_nowhere_else() {
    let stub = wallet().await;
    let program = Program::new();
    program.file(FILE, "profiles: {m: {url: 'https://a.example', key: profile.key}}\n", 0o600);
    program.run(&["--url", &stub.url, "wallet", "balance"]).await.code(0);
    assert_eq!(stub.seen()[0].header("authorization"), None);
    let shown = program.run(&["--url", &stub.url, "config", "show"]).await.ok();
    assert!(shown.contains("key from\tnone: the profile's is for its own url\n"), "{shown}");
}

#[tokio::test]
async fn keys_that_others_can_read_are_refused() {
    let program = Program::new();
    let path = program.file("open.key", "a.b\n", 0o644);
    let ended = program.run(&["--key-file", &path, "jobs"]).await.code(2);
    ended.says(&format!("run: chmod 600 {path}"));
    program.file("empty.key", "\n", 0o600);
    program.run(&["--key-file", "empty.key", "jobs"]).await.code(2).says("holds no API key");
    program.run(&["--key-file", "none.key", "jobs"]).await.code(2).says("none.key: ");
    program.file(FILE, "profiles: {m: {key: a.b}}\n", 0o644);
    program.run(&["jobs"]).await.code(2).says("chmod 600");
    // Without a key in it anybody may read it.
    program.file(FILE, "profiles: {m: {url: 'http://127.0.0.1:1'}}\n", 0o644);
    program.run(&["jobs"]).await.code(6).says("cannot be reached");
}

#[tokio::test]
async fn a_coordinator_may_ask_for_a_certificate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let program = Program::new();
    let authority = program.file(".config/aitbc/ca.pem", &made.cert.pem(), 0o644);
    let secret = made.signing_key.serialize_pem();
    let key = program.file("tls.key", &secret, 0o600);
    program.file(".config/aitbc/own.pem", &(made.cert.pem() + &secret), 0o600);
    let listen = Listen {
        port: 0,
        tls_cert: Some(authority.clone().into()),
        tls_key: Some(key.into()),
        tls_client_ca: Some(authority.into()),
        ..Listen::default()
    };
    let house = axum::Router::new().fallback(|| async { reply(200, json!({"items": []})) });
    let server = Server::start(&listen, house).unwrap();
    let url = server.url();
    let profile = |more: &str| {
        let text = format!("profiles: {{m: {{url: '{url}', ca_file: ca.pem{more}}}}}\n");
        program.file(FILE, &text, 0o600);
    };
    profile("");
    program.run(&["jobs"]).await.code(6).says("cannot be reached");
    profile(", client_cert_file: own.pem");
    program.run(&["jobs"]).await.code(0);
    assert!(program.run(&["config", "show"]).await.ok().contains("own.pem"));
    // To another address goes nothing that is for this one.
    let elsewhere = program.run(&["--url", "https://127.0.0.1:1", "config", "show"]).await.ok();
    assert!(!elsewhere.contains("own.pem"), "{elsewhere}");
    profile(", client_cert_file: ca.pem");
    program.run(&["jobs"]).await.code(2).says("chmod 600");
    program.file(".config/aitbc/bad.pem", "no certificate\n", 0o600);
    profile(", client_cert_file: bad.pem");
    program.run(&["jobs"]).await.code(2).says("holds no certificate with its private key");
}

#[tokio::test]
async fn slips_are_told_with_the_nearest_name() {
    let program = Program::new();
    program.file(FILE, "profiles: {market: {}, lab: {}}\n", 0o600);
    let ended = program.run(&["--profile", "markte", "jobs"]).await.code(2);
    ended.says("there is no profile \"markte\" (did you mean `market`?)");
    program.file(FILE, "profiles: {market: {ulr: x}}\n", 0o600);
    program.run(&["jobs"]).await.code(2).says("unknown key `ulr` (did you mean `url`?)");
    Program::new().run(&["--profile", "x", "jobs"]).await.code(2).says("there is no profile");
    Program::new().run(&["jbos"]).await.code(2).says("jobs");
}

#[tokio::test]
async fn an_address_must_be_safe_and_there() {
    let program = Program::new();
    program.run(&["--url", "http://192.0.2.1", "jobs"]).await.code(2).says("neither https");
    program.run(&["--url", "nowhere", "jobs"]).await.code(2).says("not a URL");
    program.run(&["--url", "http://u:p@127.0.0.1", "jobs"]).await.code(2).says("keys belong");
    let ended = program.run(&["--url", "http://127.0.0.1:1", "jobs"]).await.code(6);
    ended.says("cannot be reached").says("aitbc config show");
    let page = Stub::start(|_| axum::response::Html("<html>hello</html>").into_response());
    let page = page.await;
    program.run(&["--url", &page.url, "jobs"]).await.code(6).says("makes no sense");
    let gone = Stub::start(|_| axum::http::StatusCode::NOT_FOUND.into_response()).await;
    program.run(&["--url", &gone.url, "jobs"]).await.code(4).says("this is no coordinator");
}

#[tokio::test]
async fn the_profile_file_is_written_for_its_owner_alone() {
    let program = Program::new();
    let set = ["config", "set", "lab", "url=http://127.0.0.1:8011", "key=-", "--default"];
    program.run_with_input(&set, "id.very-secret\n").await.code(0);
    let mode = fs::metadata(program.path(FILE)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let golden = "default: \"lab\"\nprofiles:\n  \"lab\":\n    url: \"http://127.0.0.1:8011\"\n    \
                  key: \"id.very-secret\"\n";
    assert_eq!(program.read(FILE), golden);
    for words in [&["config", "show"][..], &["--json", "config", "show"]] {
        let shown = program.run(words).await.ok();
        assert!(shown.contains("lab") && !shown.contains("secret"), "{shown}");
    }
    // A key is no argument, and does not show in the refusal either.
    let ended = program.run(&["config", "set", "lab", "key=id.other"]).await.code(2);
    assert!(!ended.stderr.contains("id.other"), "{ended:?}");
    program.run(&["config", "set", "lab", "kye_file=x"]).await.code(2).says("`key_file`");
    program.run(&["config", "set", "lab", "key="]).await.code(0);
    assert!(!program.read(FILE).contains("secret"));
}

#[test]
fn no_argument_holds_a_key() {
    fn walk(command: &Command, path: &str, found: &mut Vec<String>) {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            if name.contains("key") || name.contains("secret") || name.contains("token") {
                found.push(format!("{path} {name}"));
            }
        }
        for sub in command.get_subcommands() {
            walk(sub, &format!("{path} {}", sub.get_name()), found);
        }
    }
    let mut found = Vec::new();
    walk(&aitbc::cli::Cli::command(), "aitbc", &mut found);
    let known = [
        "aitbc key_file",
        "aitbc submit idempotency_key",
        "aitbc submit max_tokens",
        // Public keys.
        "aitbc receipt verify key",
        "aitbc receipt verify miner_key",
        "aitbc deposit idempotency_key",
        "aitbc payouts mark idempotency_key",
    ];
    assert_eq!(found, known);
}
