//! RabbitMQ in particular: what the broker, the network and foreign producers can do to the transport.
//!
//! What holds for every transport is in `transport_contract.rs`.

#[allow(dead_code, unused_imports, unused_macros, unreachable_pub, reason = "this program uses a part of it")]
mod contract;
mod support;

#[path = "amqp/faults.rs"]
mod faults;
#[path = "amqp/foreign.rs"]
mod foreign;
#[path = "amqp/load.rs"]
mod load;

use asynctask::transport::{Events, Transport, Uri, open};
use contract::Tenant;

/// A virtual host, or any address.
struct At(String);

impl Tenant for At {
    fn fresh() -> Option<Self> {
        support::broker::shared().map(|broker| Self(broker.fresh_vhost()))
    }

    fn open(&self, events: Events) -> Box<dyn Transport> {
        open(&Uri::Amqp(self.0.clone()), events).expect("a thread for the transport")
    }
}
