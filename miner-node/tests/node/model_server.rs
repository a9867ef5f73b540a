//! Somebody else's inference server: answers as its script says, only to requests that are exactly
//! those of the script, and remembers everything that it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::stream::{self, StreamExt as _};
use serde_json::Value;
use tokio::sync::watch;

/// A request that was made.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `POST /api/generate`.
    pub route: String,
    pub authorization: Option<String>,
}

pub struct ModelServer {
    pub url: String,
    script: Arc<Script>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Script {
    /// `{"ask": "POST /x", "body": ..?, "status": 200?, "headers": {}?, "say": [..], "hold": true?}`
    exchanges: Mutex<Vec<Value>>,
    asked: Mutex<Vec<Asked>>,
    /// Requests of which the script knows nothing.
    wrong: Mutex<Vec<String>>,
    /// How many replies were dropped before their end.
    dropped: watch::Sender<u32>,
}

impl ModelServer {
    pub async fn start(exchanges: Value) -> Self {
        let script = Arc::new(Script::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(Arc::clone(&script));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let server = Self { url, script, server };
        server.says(exchanges);
        server
    }

    /// Changes what it says.
    pub fn says(&self, exchanges: Value) {
        *self.script.exchanges.lock().unwrap() = exchanges.as_array().unwrap().clone();
    }

    /// What it was asked at `route`.
    pub fn asked(&self, route: &str) -> Vec<Asked> {
        let asked = self.script.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.route == route).cloned().collect()
    }

    /// Waits until a reply that was held back is wanted no more.
    pub async fn until_dropped(&self) {
        self.script.dropped.subscribe().wait_for(|dropped| *dropped > 0).await.unwrap();
    }

    /// Listens no more.
    pub fn end(&self) {
        self.server.abort();
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.server.abort();
        if !std::thread::panicking() {
            assert_eq!(*self.script.wrong.lock().unwrap(), [""; 0]);
        }
    }
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let route = format!("{} {}", parts.method, parts.uri);
    let body = axum::body::to_bytes(body, 4 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let authorization = parts.headers.get("authorization");
    let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
    let asked = Asked { route: route.clone(), authorization };
    script.asked.lock().unwrap().push(asked);
    let exchange = script.exchanges.lock().unwrap().iter().find(|one| one["ask"] == route).cloned();
    let expects = |one: &Value| one.get("body").is_none_or(|expected| *expected == body);
    match exchange {
        Some(exchange) if expects(&exchange) => reply(&script, &exchange),
        // Every server refuses what it does not know; that it was asked is no mistake by itself.
        None => Response::builder().status(404).body(Body::from("not here")).unwrap(),
        Some(exchange) => {
            script.wrong.lock().unwrap().push(format!("{route}: {body}, not {}", exchange["body"]));
            Response::builder().status(400).body(Body::from("unexpected")).unwrap()
        }
    }
}

fn reply(script: &Arc<Script>, exchange: &Value) -> Response {
    let status = exchange["status"].as_u64().unwrap_or(200);
    let mut response = Response::builder().status(u16::try_from(status).unwrap());
    for (name, value) in exchange["headers"].as_object().into_iter().flatten() {
        response = response.header(name, value.as_str().unwrap());
    }
    let text = |piece: &Value| match piece {
        Value::String(text) => text.clone(),
        json => format!("{json}\n"),
    };
    let pieces: Vec<_> = exchange["say"].as_array().into_iter().flatten().map(text).collect();
    let pieces = stream::iter(pieces).map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
    if exchange["hold"] == true {
        let guard = Dropped(Arc::clone(script));
        let held = stream::once(async move {
            let _guard = guard;
            std::future::pending().await
        });
        return response.body(Body::from_stream(pieces.chain(held))).unwrap();
    }
    response.body(Body::from_stream(pieces)).unwrap()
}

struct Dropped(Arc<Script>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.send_modify(|dropped| *dropped += 1);
    }
}
