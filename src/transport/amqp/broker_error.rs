//! What a broker answered instead of what was asked for, and what that says about the queue, the channel and the connection.
//!
//! A *soft* error of the protocol closes the channel on which the question was asked, and nothing else: another queue and the
//! session go on ([`Fault::Absent`], [`Fault::Forbidden`], [`Fault::Refused`]). A *hard* error, or an error of the socket, ends
//! the connection, and with it the session ([`Fault::Broken`]). No answer says nothing: a queue without a leader answers late,
//! and so does a dead network ([`Fault::TimedOut`]).

use std::time::Duration;

use lapin::{ErrorKind, protocol::AMQPErrorKind};
use tokio::time::timeout;

use crate::transport::{Error, refusal};

/// Longest wait for a connect, a close, a confirm, or any other answer of the broker.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a question to the broker got no good answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The queue does not exist, and may not be made here.
    Absent(String),
    /// We lack a permission.
    Forbidden(String),
    /// The broker said no to this alone, and closed the channel that it was asked on. The connection is well.
    Refused(String),
    /// No answer came in time: the queue has perhaps no leader just now, or the connection is dead.
    TimedOut(String),
    /// The broker or the connection said this.
    Broken(String),
}

impl Fault {
    /// The cause in words, without the class.
    pub(crate) fn cause(self) -> String {
        match self {
            Self::Absent(queue) => format!("queue \"{queue}\" does not exist"),
            Self::Forbidden(cause) | Self::Refused(cause) | Self::TimedOut(cause) | Self::Broken(cause) => cause,
        }
    }

    /// The error for a queue that cannot be had because of this.
    pub(crate) fn of_queue(self, queue: &str) -> Error {
        match self {
            Self::Absent(queue) => Error::NoSuchQueue { queue },
            fault => Error::QueueRefused { queue: queue.to_owned(), cause: fault.cause() },
        }
    }

    pub(crate) fn of(error: &lapin::Error) -> Self {
        match error.kind() {
            _ if reply_code(error) == Some(403) => Self::Forbidden(refusal::words(&describe(error))),
            ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(_)) => {
                Self::Refused(error.get_message().to_string())
            }
            ErrorKind::IOError(cause) if cause.kind() == std::io::ErrorKind::TimedOut => {
                Self::TimedOut(describe(error))
            }
            _ => Self::Broken(describe(error)),
        }
    }
}

/// Waits for an answer of the broker, but not for ever.
pub(crate) async fn answer<T>(question: impl Future<Output = lapin::Result<T>>) -> Result<T, lapin::Error> {
    match timeout(ANSWER_TIMEOUT, question).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the broker does not answer within 10 s").into())
        }
    }
}

/// What an error of the library says, in words of the broker where there are some.
pub(crate) fn describe(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        // The library reads no further, and does not tell in which queue that is.
        ErrorKind::ParsingError(_) => format!(
            "the broker has sent what cannot be read ({error}): most likely a message whose id, type or another short property is \
             not UTF-8; it stays in its queue, first in line, until a purge or another client takes it away"
        ),
        _ => error.to_string(),
    }
}

/// The broker's reply code, if it was the broker that raised the error.
pub(crate) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}
