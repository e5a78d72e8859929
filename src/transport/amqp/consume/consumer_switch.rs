//! Changing the consumers of a queue, on its channel.

use lapin::{
    Channel, Consumer,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};

use crate::transport::amqp::{broker_error::answer, connect::channel::short};

/// A change of consumers: what to do on the channel.
pub(crate) struct ConsumerSwitch {
    pub(crate) channel: Channel,
    pub(crate) queue: ShortString,
    pub(crate) old: Option<ShortString>,
    pub(crate) prefetch: u16,
    /// The old one goes first.
    pub(crate) single: bool,
}

impl ConsumerSwitch {
    /// Does it: the new consumer first, so that the queue is never without one.
    pub(crate) async fn run(mut self, tag: String) -> lapin::Result<Option<Consumer>> {
        let mut consumer = None;
        if let Some(old) = self.old.take_if(|_| self.single) {
            answer(self.channel.basic_cancel(old, BasicCancelOptions::default())).await?;
        }
        if self.prefetch > 0 {
            answer(self.channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
            let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
            let new = self.channel.basic_consume(self.queue.clone(), short(&tag), options, arguments);
            consumer = Some(answer(new).await?);
        }
        if let Some(old) = self.old {
            answer(self.channel.basic_cancel(old, BasicCancelOptions::default())).await?;
        }
        Ok(consumer)
    }
}
