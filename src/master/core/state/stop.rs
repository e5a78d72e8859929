//! How far the end of a run has come, and why and how it ends. Only upwards: the chapter on ending moves it.

use crate::{clock::Instant, exit_code::Code};

/// How far the end has come.
#[derive(Debug)]
pub(in crate::master::core) enum Stop {
    /// No end in sight.
    Running,
    /// Workers finish what they hold, until the grace is over.
    Draining(End),
    /// Workers were told to give up what they hold.
    Interrupting(End),
    /// Every process was killed.
    Killing(End),
    /// No process is left, and outcomes are not stored: the transport tries once more while it is closed.
    Closing(End),
    /// The last action was given.
    Over,
}

/// Why and how the run ends.
#[derive(Debug)]
pub(in crate::master::core) struct End {
    pub(in crate::master::core) code: Code,
    pub(in crate::master::core) error: Option<String>,
    pub(in crate::master::core) until: Instant,
    pub(in crate::master::core) interrupted: bool,
    /// No process is left; the last settlements are waited for until then.
    pub(in crate::master::core) last_until: Option<Instant>,
}

impl Stop {
    pub(in crate::master::core) const fn is_stopping(&self) -> bool {
        !matches!(self, Self::Running)
    }

    /// The end that is under way.
    pub(in crate::master::core) fn end(&mut self) -> Option<&mut End> {
        match self {
            Self::Running | Self::Over => None,
            Self::Draining(end) | Self::Interrupting(end) | Self::Killing(end) | Self::Closing(end) => Some(end),
        }
    }

    /// A task was taken from a worker by force.
    pub(in crate::master::core) fn interrupted_tasks(&mut self) {
        if let Some(end) = self.end() {
            end.interrupted = true;
        }
    }
}
