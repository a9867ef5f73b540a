//! What the node says about itself: one line per event, for people or for programs.
//!
//! Built on `tracing`; the forms of a line are in [`lines`], collecting what an event carries is in
//! [`event`]. Every line is written and flushed at once, and no line ever holds the API key.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Mutex, PoisonError};

use protocol::{Name, Timestamp};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::config::{LogFormat, LogLevel, Logging, Secret};

mod event;
mod lines;

use event::{Fields, Line};

/// Writes lines.
pub struct LineLayer {
    level: LogLevel,
    format: LogFormat,
    clock: fn() -> Timestamp,
    node_id: Option<Name>,
    /// The API key as it would stand in a line of either form.
    secrets: Vec<Secret>,
    out: Mutex<Box<dyn Write + Send>>,
}

/// Makes lines the destination of all events of this process.
///
/// # Errors
/// A log file that cannot be opened.
pub fn init(
    logging: &Logging,
    node_id: Option<&Name>,
    secret: Option<Secret>,
    clock: fn() -> Timestamp,
) -> io::Result<()> {
    let out: Box<dyn Write + Send> = match &logging.path {
        Some(path) => {
            Box::new(OpenOptions::new().append(true).create(true).mode(0o600).open(path)?)
        }
        None => Box::new(io::stdout()),
    };
    let mut layer = LineLayer::new(logging.level, logging.format, secret, clock, out);
    layer.node_id = node_id.cloned();
    tracing::subscriber::set_global_default(Registry::default().with(layer))
        .map_err(io::Error::other)
}

impl LineLayer {
    /// A layer that writes to `out`.
    pub fn new(
        level: LogLevel,
        format: LogFormat,
        secret: Option<Secret>,
        clock: fn() -> Timestamp,
        out: Box<dyn Write + Send>,
    ) -> Self {
        Self {
            level,
            format,
            clock,
            node_id: None,
            secrets: spellings(secret),
            out: Mutex::new(out),
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries speak their own language: of them only what may explain trouble.
        let least = match (is_ours(metadata.target()), self.level) {
            (_, LogLevel::Error) => Level::ERROR,
            (false, _) | (true, LogLevel::Warn) => Level::WARN,
            (true, LogLevel::Info) => Level::INFO,
            (true, LogLevel::Debug) => Level::DEBUG,
        };
        *metadata.level() <= least
    }

    fn write(&self, line: &Line) {
        let mut text = match self.format {
            LogFormat::Text => lines::text(line),
            LogFormat::Json => lines::json(line, self.node_id.as_ref()),
        };
        for secret in &self.secrets {
            text = text.replace(secret.expose(), crate::config::secret::REDACTED);
        }
        text.push('\n');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // There is nowhere left to complain to.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// A secret as it stands in text, and as JSON writes it. Placeholders are no secrets.
fn spellings(secret: Option<Secret>) -> Vec<Secret> {
    let Some(secret) = secret.filter(|one| !one.is_placeholder() && !one.expose().is_empty())
    else {
        return Vec::new();
    };
    let quoted = serde_json::Value::from(secret.expose()).to_string();
    vec![Secret::new(&quoted[1..quoted.len() - 1]), secret]
}

fn is_ours(target: &str) -> bool {
    target.starts_with("miner_node") || target.starts_with("protocol")
}

impl<S> Layer<S> for LineLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error => LevelFilter::ERROR,
        })
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        context: Context<'_, S>,
    ) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.extend(outer);
            }
        }
        event.record(&mut fields);
        self.write(&Line::new((self.clock)(), *event.metadata().level(), fields));
    }
}

#[cfg(test)]
mod tests;
