//! Arguments of a statement, and rows that go into one: as a JSON argument, or column by column.

use protocol::{Amount, JobId, LeaseToken, Sha256Hex, Timestamp};
use sea_query::{Value, Values};
use serde_json::Value as Json;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::{Engine, columns};

/// Arguments of a statement, in the order of `$1`, `$2`, ...
#[derive(Debug, Default)]
pub struct Args(Vec<Arg>);

#[derive(Debug)]
enum Arg {
    Value(Value),
    Rows(Rows),
    Columns(Rows),
}

/// What can be an argument.
pub trait IntoArg {
    /// Null, as PostgreSQL takes it: what a list without values is a list of.
    const NULL: Value;

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
    /// `json_each($n)` on SQLite. [`Rows::list`] is an array to PostgreSQL: `any($n)`, `unnest($n)`.
    #[must_use]
    pub fn with_rows(mut self, rows: Rows) -> Self {
        self.0.push(if rows.is_list { Arg::Columns(rows) } else { Arg::Rows(rows) });
        self
    }

    /// With rows that PostgreSQL gets column by column, as arrays in the order in which the cells
    /// were set: read them with `unnest($n, ...)`. SQLite gets one argument, as from
    /// [`Args::with_rows`]. There must be a row: without one nothing tells which columns there are.
    #[must_use]
    pub fn with_columns(mut self, rows: Rows) -> Self {
        self.0.push(Arg::Columns(rows));
        self
    }

    /// As PostgreSQL takes them.
    ///
    /// # Errors
    /// Where a cell of a column is of another type than the first.
    pub(super) fn for_postgres(self) -> Result<PgArguments, sqlx::Error> {
        let mut args = PgArguments::default();
        for arg in self.0 {
            match arg {
                Arg::Value(value) => columns::add(&mut args, value),
                Arg::Rows(rows) => columns::add(&mut args, rows.into_json()),
                Arg::Columns(rows) => columns::add_all(&mut args, rows.null, rows.rows),
            }
            .map_err(sqlx::Error::Encode)?;
        }
        Ok(args)
    }

    /// As SQLite takes them.
    pub(super) fn for_sqlite(self) -> Values {
        let value = |arg| match arg {
            Arg::Value(value) => for_sqlite(value),
            Arg::Rows(rows) | Arg::Columns(rows) => rows.into_json(),
        };
        Values(self.0.into_iter().map(value).collect())
    }
}

/// Rows of named cells.
#[derive(Debug)]
pub struct Rows {
    engine: Engine,
    /// All have the same cells, in the same order.
    rows: Vec<Vec<Cell>>,
    is_list: bool,
    /// What a list without values is a list of.
    null: Option<Value>,
}

/// A cell, with the name of its column.
pub(super) type Cell = (&'static str, Value);

impl Rows {
    /// No rows yet.
    pub const fn new(engine: Engine) -> Self {
        Self { engine, rows: Vec::new(), is_list: false, null: None }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Adds a row and returns it to be filled.
    pub fn row(&mut self) -> RowBuilder<'_> {
        let cells = Vec::with_capacity(self.rows.last().map_or(0, Vec::len));
        RowBuilder { rows: self, cells }
    }

    /// A list of single values; SQLite finds each in the cell `v`.
    pub fn list<T: IntoArg>(engine: Engine, values: impl IntoIterator<Item = T>) -> Self {
        let rows = values.into_iter().map(|value| vec![("v", value.into_arg())]).collect();
        Self { engine, rows, is_list: true, null: Some(T::NULL) }
    }

    /// One document, spelled as the engine reads it.
    fn into_json(self) -> Value {
        let engine = self.engine;
        let cell = |(name, value): Cell| {
            let value = match engine {
                Engine::Postgres => value,
                Engine::Sqlite => for_sqlite(value),
            };
            (name.to_owned(), json(value))
        };
        let row = |cells: Vec<Cell>| Json::Object(cells.into_iter().map(cell).collect());
        Value::Json(Some(Box::new(self.rows.into_iter().map(row).collect())))
    }
}

/// A row being filled; it counts once [`RowBuilder::done`] was called.
#[derive(Debug)]
pub struct RowBuilder<'a> {
    rows: &'a mut Rows,
    cells: Vec<Cell>,
}

impl RowBuilder<'_> {
    /// Sets a cell.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: impl IntoArg) -> Self {
        self.cells.push((name, value.into_arg()));
        self
    }

    /// Adds the row.
    pub fn done(self) {
        self.rows.rows.push(self.cells);
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
            const NULL: Value = Value::$variant(None);

            fn into_arg(self) -> Value {
                let $v = self;
                Value::$variant(Some($value))
            }
        }

        impl IntoArg for Option<$type> {
            const NULL: Value = Value::$variant(None);

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
