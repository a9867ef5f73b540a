//! Values and columns of values, bound as PostgreSQL takes them: typed, and with no text to parse.

use sea_query::Value;
use sqlx::Arguments as _;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;

use super::args::Cell;

macro_rules! kinds {
    ($($variant:ident: |$v:ident| $bound:expr;)*) => {
        /// Binds one value.
        ///
        /// # Errors
        /// Where it is of a kind that no argument has.
        pub(super) fn add(args: &mut PgArguments, value: Value) -> Result<(), BoxDynError> {
            match value {
                $(Value::$variant(value) => args.add(value.map(|$v| $bound)),)*
                other => Err(unknown(&other)),
            }
        }

        fn add_column(
            args: &mut PgArguments,
            kind: &Value,
            values: impl Iterator<Item = Value>,
        ) -> Result<(), BoxDynError> {
            match kind {
                $(Value::$variant(_) => {
                    let values = values.map(|value| match value {
                        Value::$variant(value) => Ok(value.map(|$v| $bound)),
                        other => Err(unknown(&other)),
                    });
                    args.add(values.collect::<Result<Vec<_>, _>>()?)
                })*
                other => Err(unknown(other)),
            }
        }
    };
}

kinds! {
    Bool: |v| v;
    SmallInt: |v| v;
    Int: |v| v;
    BigInt: |v| v;
    String: |v| v;
    Bytes: |v| v;
    Uuid: |v| v;
    Json: |v| *v;
    ChronoDateTimeUtc: |v| v;
}

/// Binds rows column by column, each as an array. Without rows: one empty array of what `null` is.
///
/// # Errors
/// Where the cells of a column are of different kinds.
pub(super) fn add_all(
    args: &mut PgArguments,
    null: Option<Value>,
    rows: Vec<Vec<Cell>>,
) -> Result<(), BoxDynError> {
    let kinds: Vec<Value> = match rows.first() {
        Some(first) => first.iter().map(|(_, value)| value.clone()).collect(),
        None => null.into_iter().collect(),
    };
    let mut rows: Vec<_> = rows.into_iter().map(Vec::into_iter).collect();
    for kind in &kinds {
        let cells = rows.iter_mut().filter_map(|row| Some(row.next()?.1));
        add_column(args, kind, cells)?;
    }
    Ok(())
}

fn unknown(value: &Value) -> BoxDynError {
    format!("no argument is of this kind: {value:?}").into()
}
