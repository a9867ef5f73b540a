//! Rows of a result, read the same way from either engine.

use protocol::{Amount, JobId, LeaseToken, Sha256Hex, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::types::Json as Document;
use uuid::Uuid;

use super::DbError;

/// A row.
#[derive(Debug)]
pub enum Row {
    /// From PostgreSQL.
    Postgres(PgRow),
    /// From SQLite.
    Sqlite(SqliteRow),
}

/// What a column can be read as.
pub trait Column: Sized {
    /// Reads the column `name`.
    ///
    /// # Errors
    /// Where it is missing, null or of another type.
    fn read(row: &Row, name: &str) -> Result<Self, sqlx::Error>;
}

impl Row {
    /// The value of a column.
    ///
    /// # Errors
    /// [`DbError::Decode`], naming the column.
    pub fn get<T: Column>(&self, name: &'static str) -> Result<T, DbError> {
        T::read(self, name).map_err(|error| DbError::decode(name, error))
    }

    /// A column of text, parsed.
    ///
    /// # Errors
    /// [`DbError::Decode`], naming the column.
    pub fn parse<T: std::str::FromStr>(&self, name: &'static str) -> Result<T, DbError>
    where
        T::Err: std::fmt::Display,
    {
        let text: String = self.get(name)?;
        text.parse().map_err(|error| DbError::decode(name, error))
    }

    /// A column of text or null, parsed.
    ///
    /// # Errors
    /// [`DbError::Decode`], naming the column.
    pub fn parse_opt<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, DbError>
    where
        T::Err: std::fmt::Display,
    {
        let text: Option<String> = self.get(name)?;
        text.map(|text| text.parse().map_err(|error| DbError::decode(name, error))).transpose()
    }

    /// A document, deserialized.
    ///
    /// # Errors
    /// [`DbError::Decode`], naming the column.
    pub fn json<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, DbError> {
        let json = match self {
            Self::Postgres(row) => row.try_get::<Document<T>, _>(name),
            Self::Sqlite(row) => row.try_get::<Document<T>, _>(name),
        };
        json.map(|json| json.0).map_err(|error| DbError::decode(name, error))
    }

    /// A document or null, deserialized.
    ///
    /// # Errors
    /// [`DbError::Decode`], naming the column.
    pub fn json_opt<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, DbError> {
        let json = match self {
            Self::Postgres(row) => row.try_get::<Option<Document<T>>, _>(name),
            Self::Sqlite(row) => row.try_get::<Option<Document<T>>, _>(name),
        };
        json.map(|json| json.map(|json| json.0)).map_err(|error| DbError::decode(name, error))
    }

    /// A column of text that serde knows, for example an enum.
    ///
    /// # Errors
    /// [`DbError::Decode`], naming the column.
    pub fn word<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, DbError> {
        let text: String = self.get(name)?;
        serde_json::from_value(Json::String(text)).map_err(|error| DbError::decode(name, error))
    }
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Column for $type {
            fn read(row: &Row, name: &str) -> Result<Self, sqlx::Error> {
                match row {
                    Row::Postgres(row) => row.try_get(name),
                    Row::Sqlite(row) => row.try_get(name),
                }
            }
        }

        impl Column for Option<$type> {
            fn read(row: &Row, name: &str) -> Result<Self, sqlx::Error> {
                match row {
                    Row::Postgres(row) => row.try_get(name),
                    Row::Sqlite(row) => row.try_get(name),
                }
            }
        }
    )*};
}

plain!(bool, i16, i32, i64, String, Vec<u8>, Json);

macro_rules! mapped {
    ($($type:ty: $pg:ty => $from_pg:expr, $sqlite:ty => $from_sqlite:expr;)*) => {$(
        impl Column for Option<$type> {
            fn read(row: &Row, name: &str) -> Result<Self, sqlx::Error> {
                match row {
                    Row::Postgres(row) => {
                        row.try_get::<Option<$pg>, _>(name)?.map($from_pg).transpose()
                    }
                    Row::Sqlite(row) => {
                        row.try_get::<Option<$sqlite>, _>(name)?.map($from_sqlite).transpose()
                    }
                }
            }
        }

        impl Column for $type {
            fn read(row: &Row, name: &str) -> Result<Self, sqlx::Error> {
                Option::<$type>::read(row, name)?
                    .ok_or_else(|| sqlx::Error::Decode("unexpected null".into()))
            }
        }
    )*};
}

fn uuid_text(text: String) -> Result<Uuid, sqlx::Error> {
    Uuid::parse_str(&text).map_err(|error| sqlx::Error::Decode(error.into()))
}

fn hash(bytes: Vec<u8>) -> Result<Sha256Hex, sqlx::Error> {
    let bytes: Result<[u8; 32], _> = bytes.try_into();
    bytes.map(Sha256Hex::from_bytes).map_err(|_| sqlx::Error::Decode("not 32 bytes".into()))
}

type Moment = chrono::DateTime<chrono::Utc>;

mapped! {
    Timestamp: Moment => |v| Ok(Timestamp::from_micros(v.timestamp_micros())),
        i64 => |v| Ok(Timestamp::from_micros(v));
    Uuid: Uuid => Ok, String => uuid_text;
    JobId: Uuid => |v| Ok(JobId::from_u128(v.as_u128())),
        String => |v| uuid_text(v).map(|v| JobId::from_u128(v.as_u128()));
    LeaseToken: Uuid => |v| Ok(LeaseToken::from_u128(v.as_u128())),
        String => |v| uuid_text(v).map(|v| LeaseToken::from_u128(v.as_u128()));
    Sha256Hex: Vec<u8> => hash, Vec<u8> => hash;
    Amount: i64 => |v| Ok(Amount::from_nanos(v)), i64 => |v| Ok(Amount::from_nanos(v));
}
