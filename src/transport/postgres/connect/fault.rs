//! What went wrong with a statement or a connection, and what that means for what was to be done.

use std::error::Error as _;

use tokio_postgres::error::{DbError, SqlState};

use crate::transport::Error;

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The session is gone, or is of no use any more.
    Broken,
    /// The same again may succeed at once: a deadlock, a lock that was waited for too long.
    Again,
    /// The server has no room or no more connections: it may succeed later.
    Later,
    /// The datum itself cannot be stored.
    Datum,
    /// No try can succeed: password, rights, another program's schema.
    Refused,
}

/// Why something was not done.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) cause: String,
    /// Whether it may be stored all the same: the answer to a commit was not heard.
    pub(crate) is_unknown: bool,
}

impl Fault {
    /// A fault that the server did not name.
    pub(crate) fn new(kind: Kind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into(), is_unknown: false }
    }

    /// The fault of the commit: where the session broke, nobody knows what became of it.
    pub(crate) fn of_commit(mut self) -> Self {
        self.is_unknown = self.kind == Kind::Broken;
        self
    }

    /// As an answer.
    pub(crate) fn error(&self, uri: &str) -> Error {
        let (uri, cause) = (uri.to_owned(), self.cause.clone());
        match self.kind {
            Kind::Refused => Error::Refused { uri, cause },
            Kind::Broken => Error::Lost { uri, cause },
            Kind::Again | Kind::Later | Kind::Datum => Error::Unconfirmed { uri, cause },
        }
    }

    /// As the answer of a try to connect.
    pub(crate) fn unreachable(&self, uri: &str) -> Error {
        match self.kind {
            Kind::Refused => self.error(uri),
            _ => Error::Unreachable { uri: uri.to_owned(), cause: self.cause.clone() },
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(said) = error.as_db_error() {
            return Self::new(kind(said), words(said));
        }
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(deeper) = source {
            cause.extend([": ", &deeper.to_string()]);
            source = deeper.source();
        }
        // A value of the wrong type is a mistake of ours, and the session stands.
        let is_ours = cause.starts_with("error serializing") || cause.starts_with("error deserializing");
        let is_final = cause.starts_with("invalid configuration") || cause.contains("certificate");
        Self::new(
            if is_ours {
                Kind::Datum
            } else if is_final {
                Kind::Refused
            } else {
                Kind::Broken
            },
            cause,
        )
    }
}

fn kind(said: &DbError) -> Kind {
    let code = said.code();
    if [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE, SqlState::LOCK_NOT_AVAILABLE]
        .contains(code)
        // The plan of a prepared statement has changed with the table.
        || *code == SqlState::FEATURE_NOT_SUPPORTED
        || *code == SqlState::QUERY_CANCELED
    {
        return Kind::Again;
    }
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return Kind::Broken;
    }
    match code.code().get(..2) {
        Some("53" | "58") => Kind::Later,
        Some("22" | "23" | "54") => Kind::Datum,
        Some("28" | "3D" | "3F" | "42" | "0L" | "0P") => Kind::Refused,
        // 57: shut down, crashed, or not up yet; 08: the connection itself.
        _ => Kind::Broken,
    }
}

fn words(said: &DbError) -> String {
    let mut words = said.message().to_owned();
    if let Some(detail) = said.detail() {
        words.extend([" (", detail, ")"]);
    }
    words
}
