//! RabbitMQ in particular: what the broker, the network and foreign producers can do to the transport.
//!
//! What holds for every transport is in `transport_contract.rs`.

mod support;

#[path = "amqp/cluster.rs"]
mod cluster;
#[path = "amqp/faults.rs"]
mod faults;
#[path = "amqp/foreign.rs"]
mod foreign;
#[path = "amqp/load.rs"]
mod load;
#[allow(dead_code, unreachable_pub, reason = "written for the contract; this program uses a part of it")]
#[path = "contract/party.rs"]
mod party;
#[path = "amqp/refused.rs"]
mod refused;
#[path = "amqp/stuck.rs"]
mod stuck;
#[path = "amqp/tls.rs"]
mod tls;
#[path = "amqp/unavailable.rs"]
mod unavailable;
#[path = "amqp/unstorable.rs"]
mod unstorable;

use asynctask::transport::{Events, Transport, Uri, open};

/// What a party needs of the transport under test; for the clauses of the contract it is more.
trait Tenant {
    fn open(&self, events: Events) -> Box<dyn Transport>;

    fn kill(&self, transport: Box<dyn Transport>) {
        drop(transport);
    }
}

/// A virtual host, or any address.
struct At(String);

impl At {
    fn fresh() -> Option<Self> {
        Some(Self(support::broker::controlled()?.fresh_vhost()))
    }
}

impl Tenant for At {
    fn open(&self, events: Events) -> Box<dyn Transport> {
        open(&Uri::Amqp(self.0.clone()), events).expect("a thread for the transport")
    }
}
