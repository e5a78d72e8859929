//! The contract in `src/transport/contract.rs`, held against every transport.
//!
//! Each clause is one function in `contract/`, generic over a [`Tenant`]; a tenant is a transport with a
//! way to make a fresh store for it. Nothing here sleeps: tests wait for events, and one that fails shows all
//! that it had seen.

#[expect(unreachable_pub, reason = "a test has no outside; `pub` here means: for the tenants")]
mod contract;
mod foreign;
mod postgres;
mod rabbitmq;
#[path = "../support/mod.rs"]
mod support;

use asynctask::transport::{Events, Transport, Uri, open};
use contract::Tenant;

/// A named memory of this process.
struct Localmem {
    name: String,
}

impl Tenant for Localmem {
    fn fresh() -> Option<Self> {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Some(Self { name: format!("contract-{number}") })
    }

    fn open(&self, events: Events) -> Box<dyn Transport> {
        open(&Uri::Localmem(self.name.clone()), events).expect("a thread for the transport")
    }
}

contract::every_clause!(sqlite, crate::contract::sqlite::Sqlite);
contract::every_clause!(localmem, super::Localmem);
contract::every_clause!(amqp, crate::contract::amqp_tenant::Amqp);
contract::every_clause!(postgresql, crate::contract::postgres_tenant::Postgres);
contract::every_clause!(model, crate::contract::model::Model<false>);
contract::every_clause!(model_of_classic_queues, crate::contract::model::Model<true>);
contract::every_clause!(through_a_decorator, crate::contract::faulty::FaultyMemory);
