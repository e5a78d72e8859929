//! What a run of the master hands back to its command. Its exit code was chosen where the run was
//! ended, in a chapter of `core`.

use super::core::Tally;
use crate::{exit_code::Code, transport::Depth};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn left(code: Code, depths: &[Option<Depth>]) -> Finished {
        let error = Some("it took too long".to_owned());
        let mut finished = Finished { code, error, ..Finished::of_nothing() };
        finished.report_left(&depths.iter().map(|depth| ("a".to_owned(), *depth)).collect::<Vec<_>>());
        finished
    }

    #[test]
    fn what_is_left_is_counted_or_said_to_be_unknown() {
        let depth = Depth { ready: 1, delayed: 2, in_hand: 3, ..Depth::default() };
        let waits = "left waiting in queue a: 1 ready, 2 delayed";
        assert_eq!(left(Code::HaltTimeout, &[None]).left, [LEFT_UNKNOWN]);
        assert_eq!(left(Code::HaltTimeout, &[Some(depth)]).left, [waits]);
        // Tasks whose end could not be stored are in hand still.
        assert_eq!(left(Code::Unavailable, &[Some(depth)]).left, [format!("{waits}, 3 in hand")]);
        let unknown = Depth { unknown: true, ..depth };
        assert_eq!(
            left(Code::HaltTimeout, &[Some(unknown)]).left,
            ["what is left in queue a is unknown: the broker does not tell"]
        );
    }

    #[test]
    fn an_empty_queue_is_worth_a_line_where_the_transport_was_lost_alone() {
        let empty = Some(Depth::default());
        assert_eq!(left(Code::Unavailable, &[empty]).left, ["nothing is left waiting in the queues"]);
        assert!(left(Code::HaltTimeout, &[empty]).left.is_empty());
    }

    #[test]
    fn the_error_of_a_run_that_took_too_long_says_what_is_left() {
        let depth = Depth { ready: 1, ..Depth::default() };
        let error = left(Code::HaltTimeout, &[Some(depth), None]).error.unwrap();
        assert_eq!(error, format!("it took too long; {LEFT_UNKNOWN}; left waiting in queue a: 1 ready, 0 delayed"));
        assert_eq!(left(Code::Unavailable, &[Some(depth)]).error.as_deref(), Some("it took too long"));
    }
}
