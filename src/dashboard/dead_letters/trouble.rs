//! Why dead letters are not shown.

use std::fmt;

use axum::http::StatusCode;

use crate::{redact::redact, transport};

/// Why dead letters are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No queue has this name.
    NoQueue,
    /// Too much is asked at once.
    Busy,
    /// No answer within the time of a view.
    Slow,
    /// The transport lives in the master's process.
    Elsewhere,
    /// A walk for one ended before it was met.
    TooMany,
    /// What the transport says.
    Transport(String),
}

impl Trouble {
    /// Of the answer to a request.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoQueue => StatusCode::NOT_FOUND,
            Self::Elsewhere => StatusCode::NOT_IMPLEMENTED,
            Self::Busy | Self::Slow | Self::TooMany | Self::Transport(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<&transport::Error> for Trouble {
    fn from(error: &transport::Error) -> Self {
        Self::Transport(redact(&error.to_string()).into_owned())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoQueue => "no queue of this name is configured or known",
            Self::Busy => "too much is asked of the transport at once: look again in a moment",
            Self::Slow => "the transport has not answered yet: look again in a moment",
            Self::Elsewhere => "this transport lives in the master's process, where the page does not reach it",
            Self::TooMany => {
                "it is not among those that were looked through: `asynctask failed show` looks through all"
            }
            Self::Transport(error) => error,
        })
    }
}
