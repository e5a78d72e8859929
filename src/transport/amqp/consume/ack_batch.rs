//! Acknowledgements on their way to the broker.

use lapin::{
    Acker,
    options::{BasicAckOptions, BasicNackOptions},
};

use crate::{
    task::Handle,
    transport::amqp::broker_error::{Fault, answer},
};

/// Acknowledgements to be written in this order.
pub(crate) struct AckBatch {
    /// With `multiple` or not; `None`: back into the queue.
    pub(crate) steps: Vec<(Acker, Option<bool>)>,
    /// The deliveries that are settled then.
    pub(crate) handles: Vec<Handle>,
}

impl AckBatch {
    /// Writes them. Where that fails, nothing is known of what was written.
    pub(crate) async fn write(&self) -> Result<(), AckWriteError> {
        for (acker, step) in &self.steps {
            let written = match *step {
                Some(multiple) => answer(acker.ack(BasicAckOptions { multiple })).await,
                None => answer(acker.nack(BasicNackOptions { multiple: false, requeue: true })).await,
            };
            match written.map_err(|error| Fault::of(&error)) {
                Ok(true) => {}
                Err(Fault::TimedOut(_)) => return Err(AckWriteError::TimedOut),
                Ok(false) | Err(_) => return Err(AckWriteError::Closed),
            }
        }
        Ok(())
    }
}

/// Why acknowledgements were not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckWriteError {
    /// The channel is gone.
    Closed,
    /// It stands, and takes nothing.
    TimedOut,
}

impl AckWriteError {
    /// What it means to the queue. Why a channel is gone its consumer tells, if it has one.
    pub(crate) fn fault(self, consumes: bool) -> Option<Fault> {
        match self {
            Self::TimedOut => Some(Fault::Broken("no acknowledgement could be written within 10 s".to_owned())),
            Self::Closed if consumes => None,
            Self::Closed => Some(Fault::Refused("the channel of a delivery is closed".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_that_is_not_written_never_leaves_a_queue_as_it_was() {
        for consumes in [false, true] {
            // The channel stands, so no consumer ends with an error.
            assert!(matches!(AckWriteError::TimedOut.fault(consumes), Some(Fault::Broken(_))), "{consumes}");
        }
        assert!(matches!(AckWriteError::Closed.fault(false), Some(Fault::Refused(_))));
        assert!(AckWriteError::Closed.fault(true).is_none());
    }
}
