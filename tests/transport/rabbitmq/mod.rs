//! RabbitMQ in particular: what the broker, the network and foreign producers can do to the transport.
//!
//! What holds for every transport is in `../contract`.

mod celery;
mod cluster;
mod ended;
mod faults;
mod foreign;
mod jobs;
mod load;
mod refused;
mod stuck;
mod tls;
mod unavailable;
mod unstorable;

use asynctask::transport::{Events, Transport, Uri, open};

use crate::contract::Tenant;

/// A virtual host, or any address.
struct At(String);

impl At {
    fn fresh() -> Option<Self> {
        Some(Self(crate::support::broker::controlled()?.fresh_vhost()))
    }
}

impl Tenant for At {
    fn fresh() -> Option<Self> {
        Self::fresh()
    }

    fn open(&self, events: Events) -> Box<dyn Transport> {
        open(&Uri::Amqp(self.0.clone()), events).expect("a thread for the transport")
    }
}
