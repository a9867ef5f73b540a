//! What is promised, what an answer is, and how the two are held against each other.

use std::fmt;

use protocol::ErrorCode;
use serde_json::Value;

/// What is promised, in the words in which a broken promise is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    Ends,
    Once,
    Fence,
    Lease,
    Owner,
    Try,
    Repeat,
    Price,
    Room,
    Served,
    Books,
}

/// A promise that did not hold, and what was seen.
#[derive(Debug, Clone)]
pub struct Broken {
    pub promise: Promise,
    pub seen: String,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub replayed: bool,
    pub body: Value,
}

impl Answer {
    pub fn is(&self, code: ErrorCode) -> bool {
        self.body["error"]["code"] == code.as_str()
    }

    pub fn granted(&self, status: u16) -> Result<&Value, Broken> {
        if self.status == status {
            return Ok(&self.body);
        }
        broken(Promise::Served, format!("{self:?} instead of {status}"))
    }

    pub fn refused(&self, code: ErrorCode) -> Result<(), Broken> {
        if self.is(code) {
            return Ok(());
        }
        let promise = match code {
            ErrorCode::LeaseLost => Promise::Lease,
            ErrorCode::BadSignature => Promise::Fence,
            ErrorCode::MinerMismatch | ErrorCode::JobNotFound => Promise::Owner,
            ErrorCode::UnitsExceeded | ErrorCode::InsufficientFunds => Promise::Price,
            _ => Promise::Once,
        };
        broken(promise, format!("{self:?} instead of {code}"))
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ends => "an accepted job ends in a result or a stated reason",
            Self::Once => "nothing is paid twice, and what has ended stays as it ended",
            Self::Fence => "one lease at a time, and what was signed for one counts for no other",
            Self::Lease => "who lost a lease is not heard",
            Self::Owner => "nobody acts for somebody else",
            Self::Try => "a try is counted once",
            Self::Repeat => "a repeat gets the first answer",
            Self::Price => "the price is the job's, the units are what the coordinator saw",
            Self::Room => "no miner holds more than it runs at once",
            Self::Served => "who is in the right is served",
            Self::Books => {
                "every credit has one receipt, one accepted attempt and one transfer, \
                 and all entries sum to zero"
            }
        })
    }
}

/// That a promise is broken.
pub fn broken<T>(promise: Promise, seen: String) -> Result<T, Broken> {
    Err(Broken { promise, seen })
}

/// That something is as promised.
pub fn expect<T: PartialEq + fmt::Debug>(
    promise: Promise,
    seen: &T,
    promised: &T,
) -> Result<(), Broken> {
    if seen == promised {
        return Ok(());
    }
    broken(promise, format!("{seen:?} instead of {promised:?}"))
}
