//! What metrics and probes ask of the loop, answered with what is at hand.
//!
//! The loop never waits for the transport here: the asker gets the receiver of its answer. Nor does it refuse, since a master
//! that does not answer a probe counts as stuck.

use tokio::sync::oneshot;

use super::state::Shell;
use crate::{
    metrics::{Question, Reading},
    transport::{Request, Uri},
};

impl Shell {
    /// Answers metrics or a probe. The asker waits for the transport's counts, the loop does not.
    pub(super) fn answer_question(&self, question: Question) {
        // The asker may be gone.
        match question {
            Question::Alive(reply) => drop(reply.send(())),
            Question::Read { count, reply } => drop(reply.send(self.reading(count))),
        }
    }

    fn reading(&self, count: bool) -> Reading {
        let queues = self.core.readings();
        let depths = count.then(|| {
            let (reply, depths) = oneshot::channel();
            let queues = queues.iter().map(|queue| queue.dead.clone()).collect();
            self.transport.ask(Request::Depths { queues, reply });
            depths
        });
        let (connected, reconnects) = self.core.sessions();
        Reading {
            queues,
            jobs: self.jobs_reading(),
            connected,
            reconnects: reconnects.into(),
            lines_dropped: self.logger.dropped(),
            sees_all_hands: !matches!(self.uri, Uri::Amqp(_)),
            depths,
        }
    }
}
