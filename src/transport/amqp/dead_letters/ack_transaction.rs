//! Removing many messages of one channel in one transaction.
//!
//! A quorum queue gets all acknowledgements of a transaction as one command. Of more than 32 that it gets one by one it forgets
//! those that it has not got to when the channel is closed, and their messages come back (16 of 50, measured on 3.10.8).

use lapin::{Acker, Channel, options::BasicAckOptions};

use crate::transport::amqp::broker_error::{Fault, answer};

/// What is acknowledged on this channel from now on waits for [`remove()`].
pub(crate) async fn prepare(channel: &Channel) -> Result<(), Fault> {
    answer(channel.tx_select()).await.map_err(|error| Fault::of(&error))
}

/// Removes messages that came on this channel. Once this is answered the broker has sent the queue word of all of them. A queue
/// that lags may still hear of the death of this process first, and then they come back: up to two windows on a busy machine
/// (measured on 3.10.8).
pub(crate) async fn remove(channel: &Channel, ackers: impl Iterator<Item = &Acker>) -> Result<(), Fault> {
    for acker in ackers {
        if !matches!(answer(acker.ack(BasicAckOptions::default())).await, Ok(true)) {
            return Err(Fault::Broken("the channel of the dead letters is closed".to_owned()));
        }
    }
    answer(channel.tx_commit()).await.map_err(|error| Fault::of(&error))
}
