//! What the owner's inference servers answer: to a node they are strangers, too.

use std::sync::Arc;
use std::time::Duration;

use miner_node::servers::images::{self, Painting, Studio};
use miner_node::servers::text::{Dialect, Transcript, ollama, openai};
use miner_node::servers::{Connection, ServerError};

thread_local! {
    static PAINTING: Painting = painting();
}

/// A reply: of Ollama's or OpenAI's kind, a list of models, or an image. However it is cut into
/// pieces, it says the same.
pub fn model_servers(data: &[u8]) {
    for dialect in [Dialect::Ollama, Dialect::OpenAi] {
        let whole = said(dialect, data, data.len().max(1));
        assert_eq!(whole, said(dialect, data, 1));
        assert_eq!(whole, said(dialect, data, 7));
        if let Ok(text) = whole {
            assert!(text.len() <= data.len() * 3);
        }
        if let Ok(names) = dialect.models(data) {
            assert!(names.iter().map(String::len).sum::<usize>() <= data.len());
        }
    }
    if let Ok(line) = str::from_utf8(data) {
        for heard in [ollama::heard(line), openai::heard(line)] {
            let Err(error) = heard else { continue };
            let text = error.to_string();
            assert!(text.chars().count() < 300 && !text.chars().any(char::is_control), "{text:?}");
        }
    }
    let _ = images::checkpoints(data);
    PAINTING.with(|painting| {
        if let Ok(painted) = painting.painted(data) {
            assert_eq!(images::dimensions(&painted.png), Some((painting.width, painting.height)));
        }
    });
    if let Some((width, height)) = images::dimensions(data) {
        assert!(data.len() >= 33, "{width} x {height} in {} bytes", data.len());
    }
}

/// The answer in a reply that comes in pieces of `size` bytes, or the kind of its fault.
fn said(dialect: Dialect, data: &[u8], size: usize) -> Result<String, &'static str> {
    let mut transcript = Transcript::new(dialect, "m");
    let mut text = String::new();
    for bytes in data.chunks(size) {
        text.push_str(&transcript.hear(bytes).map_err(kind)?);
    }
    text.push_str(&transcript.end().map_err(kind)?);
    assert!(transcript.pieces() <= data.len() as u64);
    Ok(text)
}

fn kind(error: ServerError) -> &'static str {
    match error {
        ServerError::Gone(_) => "gone",
        ServerError::Absent(_) => "absent",
        ServerError::Refused(_) => "refused",
        ServerError::Nonsense(_) => "nonsense",
        ServerError::Local(_) => "local",
    }
}

fn painting() -> Painting {
    // Another target may have been faster; it is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let base = "http://127.0.0.1:7860".parse().expect("it is a URL");
    let connection = Connection::new(base, None, Duration::from_secs(1)).expect("there is TLS");
    Painting {
        studio: Arc::new(Studio::new(connection)),
        model: "m".to_owned(),
        checkpoint: "m.safetensors [1]".to_owned(),
        prompt: "a cat".to_owned(),
        negative_prompt: String::new(),
        steps: 1,
        width: 64,
        height: 64,
        seed: None,
        cfg_scale: None,
        sampler: None,
    }
}
