//! How a run of the master ended.

use super::core::Tally;
use crate::{error::Code, transport::Depth};

/// What is reported of the queues where the transport does not count them.
pub const LEFT_UNKNOWN: &str = "what is left in the queues is unknown: the transport does not answer";

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code.
    pub code: Code,
    /// For stderr.
    pub error: Option<String>,
    /// What may help, beside the error.
    pub hint: Option<&'static str>,
    /// What was done.
    pub tally: Tally,
    /// A run that was to halt when empty was stopped before.
    pub stopped: bool,
    /// Of such a run that could not be finished: what waits, a line a queue.
    pub left: Vec<String>,
}

impl Finished {
    /// A run that had nothing to do.
    #[must_use]
    pub fn of_nothing() -> Self {
        Self { code: Code::Ok, error: None, hint: None, tally: Tally::default(), stopped: false, left: Vec::new() }
    }

    /// Adds what waits in each queue; `None`: it could not be counted.
    pub(super) fn report_left(&mut self, depths: &[(String, Option<Depth>)]) {
        if depths.iter().any(|(_, depth)| depth.is_none()) {
            self.left.push(LEFT_UNKNOWN.to_owned());
        }
        for (name, depth) in depths {
            let Some(Depth { ready, delayed, in_hand, unknown, .. }) = depth else { continue };
            if *unknown {
                self.left.push(format!("what is left in queue {name} is unknown: the broker does not tell"));
                continue;
            }
            // What ended and could not be stored is still in hand, where the transport sees that.
            let in_hand = match in_hand {
                in_hand if *in_hand > 0 && self.code == Code::Unavailable => format!(", {in_hand} in hand"),
                _ => String::new(),
            };
            if ready + delayed > 0 || !in_hand.is_empty() {
                self.left.push(format!("left waiting in queue {name}: {ready} ready, {delayed} delayed{in_hand}"));
            }
        }
        if self.left.is_empty() && self.code == Code::Unavailable {
            self.left.push("nothing is left waiting in the queues".to_owned());
        }
        if self.code == Code::HaltTimeout
            && let Some(error) = &mut self.error
            && !self.left.is_empty()
        {
            *error = format!("{error}; {}", self.left.join("; "));
        }
    }
}
