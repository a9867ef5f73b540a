//! What can go wrong with a statement, sorted by what the caller can do about it.

/// A database error.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database cannot be reached, or is shutting down: try later.
    #[error("database unavailable: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// Deadlock, lock time-out, serialization: the same transaction can be tried again at once.
    #[error("transaction conflict: {0}")]
    Conflict(#[source] sqlx::Error),
    /// The database refused a value: of several rows, one is bad.
    #[error("data refused: {0}")]
    Data(#[source] sqlx::Error),
    /// A row does not hold what the schema promises.
    #[error("column {column}: {message}")]
    Decode {
        /// Which column.
        column: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// A statement touched another number of rows than it must.
    #[error("{what}: {touched} rows instead of {expected}")]
    Affected {
        /// Which statement.
        what: &'static str,
        /// How many it should have touched.
        expected: u64,
        /// How many it did.
        touched: u64,
    },
    /// Anything else: a fault of ours.
    #[error("database error: {0}")]
    Other(#[source] sqlx::Error),
}

impl DbError {
    pub(super) fn decode(column: &'static str, error: impl std::fmt::Display) -> Self {
        Self::Decode { column, message: error.to_string() }
    }

    /// An error unless `touched` is `expected`.
    ///
    /// # Errors
    /// [`DbError::Affected`].
    pub const fn expect(what: &'static str, expected: u64, touched: u64) -> Result<(), Self> {
        if expected == touched { Ok(()) } else { Err(Self::Affected { what, expected, touched }) }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            sqlx::Error::Database(database) => match kind(database.as_ref()) {
                Kind::Unavailable => Self::Unavailable(error),
                Kind::Conflict => Self::Conflict(error),
                Kind::Data => Self::Data(error),
                Kind::Other => Self::Other(error),
            },
            // An argument that could not be encoded is bad data, too.
            sqlx::Error::Encode(_) => Self::Data(error),
            _ => Self::Other(error),
        }
    }
}

enum Kind {
    Unavailable,
    Conflict,
    Data,
    Other,
}

fn kind(error: &dyn sqlx::error::DatabaseError) -> Kind {
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        // Primary result codes are the low byte: https://www.sqlite.org/rescode.html
        return match code.parse::<u32>().unwrap_or_default() & 0xff {
            5 | 6 => Kind::Conflict,
            10 | 13 | 14 => Kind::Unavailable,
            18..=20 => Kind::Data,
            _ => Kind::Other,
        };
    }
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    match code.as_ref() {
        "40P01" | "40001" | "55P03" => Kind::Conflict,
        // Privileges and quotas do not mend themselves; shutdown, recovery and full disks do.
        "57P01" | "57P02" | "57P03" | "53000" | "53100" | "53200" | "53300" | "57014" | "25P03" => {
            Kind::Unavailable
        }
        code if code.starts_with("08") => Kind::Unavailable,
        // 54: an argument of more than a row of a batch can be, among others.
        code if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => Kind::Data,
        _ => Kind::Other,
    }
}
