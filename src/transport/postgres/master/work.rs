//! The state of the session for work.
//!
//! ```text
//! none ── something needs it ──> connecting ── up ──> up ── lost ──> down ── pause ──> connecting
//! ```

use std::rc::Rc;

use tokio::sync::mpsc;

use crate::{
    clock::Instant,
    transport::postgres::connect::session::{Heard, Session},
};

/// The session for work.
pub(super) enum Work {
    /// Nothing needs one.
    None,
    /// One is being built.
    Connecting { failures: u32 },
    /// It is up.
    Up { session: Rc<Session>, heard: mpsc::UnboundedReceiver<Heard> },
    /// It is gone.
    Down { again_at: Instant, failures: u32 },
}

impl Work {
    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn session(&self) -> Option<Rc<Session>> {
        match self {
            Self::Up { session, .. } => Some(Rc::clone(session)),
            _ => None,
        }
    }

    pub(super) const fn retry_at(&self) -> Option<Instant> {
        match self {
            Self::Down { again_at, .. } => Some(*again_at),
            _ => None,
        }
    }

    /// What is heard next.
    pub(super) async fn hear(&mut self) -> Heard {
        match self {
            Self::Up { heard, .. } => {
                heard.recv().await.unwrap_or_else(|| Heard::Ended("the connection was closed".to_owned()))
            }
            _ => std::future::pending().await,
        }
    }
}
