//! Arguments of a statement, and rows that go into one as a JSON argument.

use protocol::{Amount, JobId, LeaseToken, Sha256Hex, Timestamp};
use sea_query::{Value, Values};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::Engine;

/// Arguments of a statement, in the order of `$1`, `$2`, ...
#[derive(Debug, Default)]
pub struct Args(Vec<Arg>);

#[derive(Debug)]
enum Arg {
    Value(Value),
    Rows(Rows),
}

/// What can be an argument.
pub trait IntoArg {
    /// The value, as PostgreSQL takes it.
    fn into_arg(self) -> Value;
}

impl Args {
    /// No arguments.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// With one more argument.
    #[must_use]
    pub fn with(mut self, arg: impl IntoArg) -> Self {
        self.0.push(Arg::Value(arg.into_arg()));
        self
    }

    /// With rows as one more argument: read them with `jsonb_to_recordset($n)` on PostgreSQL and
    /// `json_each($n)` on SQLite.
    #[must_use]
    pub fn with_rows(mut self, rows: Rows) -> Self {
        self.0.push(Arg::Rows(rows));
        self
    }

    pub(super) fn into_values(self, engine: Engine) -> Values {
        let value = |arg| match (arg, engine) {
            (Arg::Value(value), Engine::Postgres) => value,
            (Arg::Value(value), Engine::Sqlite) => for_sqlite(value),
            (Arg::Rows(rows), _) => rows.into_value(),
        };
        Values(self.0.into_iter().map(value).collect())
    }
}

/// Rows of named cells, spelled as the engine reads them from JSON.
#[derive(Debug)]
pub struct Rows {
    engine: Engine,
    rows: Vec<Json>,
}

impl Rows {
    /// No rows yet.
    pub const fn new(engine: Engine) -> Self {
        Self { engine, rows: Vec::new() }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a row and returns it to be filled.
    pub fn row(&mut self) -> RowBuilder<'_> {
        RowBuilder { rows: self, cells: Map::new() }
    }

    /// A list of single values, each in the cell `v`.
    pub fn list<T: IntoArg>(engine: Engine, values: impl IntoIterator<Item = T>) -> Self {
        let mut rows = Self::new(engine);
        for value in values {
            rows.row().set("v", value).done();
        }
        rows
    }

    fn into_value(self) -> Value {
        Value::Json(Some(Box::new(Json::Array(self.rows))))
    }
}

/// A row being filled; it counts once [`RowBuilder::done`] was called.
#[derive(Debug)]
pub struct RowBuilder<'a> {
    rows: &'a mut Rows,
    cells: Map<String, Json>,
}

impl RowBuilder<'_> {
    /// Sets a cell.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl IntoArg) -> Self {
        let value = match self.rows.engine {
            Engine::Postgres => value.into_arg(),
            Engine::Sqlite => for_sqlite(value.into_arg()),
        };
        self.cells.insert(name.to_owned(), json(value));
        self
    }

    /// Adds the row.
    pub fn done(self) {
        self.rows.rows.push(Json::Object(self.cells));
    }
}

/// The JSON spelling of a value. Bytes become hex: `decode(x, 'hex')` and `unhex(x)` read it.
fn json(value: Value) -> Json {
    match value {
        Value::Bool(v) => v.into(),
        Value::SmallInt(v) => v.into(),
        Value::Int(v) => v.into(),
        Value::BigInt(v) => v.into(),
        Value::String(v) => v.into(),
        Value::Bytes(v) => v.map(hex::encode).into(),
        Value::Uuid(v) => v.map(|v| v.to_string()).into(),
        Value::Json(v) => v.map_or(Json::Null, |v| *v),
        Value::ChronoDateTimeUtc(v) => {
            v.map(|v| v.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)).into()
        }
        // `IntoArg` makes no other kind.
        _ => Json::Null,
    }
}

/// SQLite has no type for moments, uuids and documents: integers of microseconds, text and text.
pub(super) fn for_sqlite(value: Value) -> Value {
    match value {
        Value::ChronoDateTimeUtc(v) => Value::BigInt(v.map(|v| v.timestamp_micros())),
        Value::Uuid(v) => Value::String(v.map(|v| v.to_string())),
        other => other,
    }
}

macro_rules! into_arg {
    ($($type:ty: |$v:ident| $variant:ident($value:expr);)*) => {$(
        impl IntoArg for $type {
            fn into_arg(self) -> Value {
                let $v = self;
                Value::$variant(Some($value))
            }
        }

        impl IntoArg for Option<$type> {
            fn into_arg(self) -> Value {
                self.map_or(Value::$variant(None), IntoArg::into_arg)
            }
        }
    )*};
}

into_arg! {
    bool: |v| Bool(v);
    i16: |v| SmallInt(v);
    i32: |v| Int(v);
    i64: |v| BigInt(v);
    &str: |v| String(v.to_owned());
    String: |v| String(v);
    Vec<u8>: |v| Bytes(v);
    Uuid: |v| Uuid(v);
    JobId: |v| Uuid(Uuid::from_u128(v.as_u128()));
    LeaseToken: |v| Uuid(Uuid::from_u128(v.as_u128()));
    Sha256Hex: |v| Bytes(v.as_bytes().to_vec());
    Amount: |v| BigInt(v.nanos());
    Json: |v| Json(Box::new(v));
    Timestamp: |v| ChronoDateTimeUtc(
        chrono::DateTime::from_timestamp_micros(v.micros()).unwrap_or_default()
    );
}
