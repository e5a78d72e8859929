//! What metrics and probes ask of the loop, answered with what is at hand.
//!
//! It may never wait for the transport: who asks gets the other end of that wait, and the loop goes on. Nor may it refuse,
//! since a probe that is not answered is a master that is stuck.

use tokio::sync::oneshot;

use super::state::Shell;
use crate::{
    metrics::{Question, Reading},
    transport::{Request, Uri},
};

impl Shell {
    /// Metrics or a probe asks. What takes time is for who asked.
    pub(super) fn questioned(&self, question: Question) {
        // Whoever asked may be gone.
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
            connected,
            reconnects: reconnects.into(),
            lines_dropped: self.logger.dropped(),
            sees_all_hands: !matches!(self.uri, Uri::Amqp(_)),
            depths,
        }
    }
}
