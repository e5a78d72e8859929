//! RabbitMQ as a tenant: a virtual host of its own on the broker of this test program.

use asynctask::transport::{Events, Transport, Uri, open};

use super::Tenant;
use crate::support::broker;

/// A virtual host.
pub struct Amqp {
    address: String,
    own: bool,
}

impl Tenant for Amqp {
    const SEES_IN_HAND: bool = false;
    const LISTS_QUEUES: bool = false;
    const FINDS_BY_ID: bool = false;
    const RETURNS_UNCOUNTED: bool = false;
    const LOSES_SESSIONS: bool = true;

    fn fresh() -> Option<Self> {
        let broker = broker::shared()?;
        Some(Self { address: broker.fresh_vhost(), own: broker.is_own() })
    }

    fn open(&self, events: Events) -> Box<dyn Transport> {
        open(&Uri::Amqp(self.address.clone()), events).expect("a thread for the transport")
    }

    fn lose(&self) {
        let vhost = self.address.rsplit('/').next().expect("an address names a virtual host");
        let broker = broker::shared().expect("it was there");
        broker.control(&["close_all_connections", "--vhost", vhost, "the test says so"]);
    }

    fn queue(&self, stem: &str) -> String {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        if self.own {
            return stem.to_owned();
        }
        // On a broker that others use too, each name once.
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        format!("contract-{}-{number}-{stem}", std::process::id())
    }
}
