//! Why a step of a coordinator is not stored, carried through its transaction as an error of that, so that it is undone.

use std::{error, fmt};

use rusqlite::ErrorCode;

/// Why nothing of a step is stored.
#[derive(Debug)]
pub(crate) enum Undone {
    /// It cannot be stored, now or later.
    Conflict(String),
    /// Another one holds the ledger.
    NotOurs,
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(cause) => f.write_str(cause),
            Self::NotOurs => f.write_str("another process holds the ledger"),
        }
    }
}

impl error::Error for Undone {}

/// So that it undoes the transaction.
impl From<Undone> for rusqlite::Error {
    fn from(undone: Undone) -> Self {
        Self::ToSqlConversionFailure(Box::new(undone))
    }
}

impl Undone {
    /// What an error of the transaction says about the step; every other one is about the file.
    pub(crate) fn of(error: rusqlite::Error) -> Result<Self, rusqlite::Error> {
        match error {
            rusqlite::Error::ToSqlConversionFailure(cause) => match cause.downcast::<Self>() {
                Ok(undone) => Ok(*undone),
                Err(cause) => Err(rusqlite::Error::ToSqlConversionFailure(cause)),
            },
            error if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                Ok(Self::Conflict(error.to_string()))
            }
            error => Err(error),
        }
    }
}
