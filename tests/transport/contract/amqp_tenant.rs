//! RabbitMQ as a tenant: a virtual host of its own on the broker of this test program. Of a broker that was supplied from
//! outside nothing can be asked: a tenant has names of its own there, and loses its sessions by a proxy that cuts them.

use std::sync::atomic::{AtomicU32, Ordering};

use asynctask::transport::{Events, Transport, Uri, open};

use super::Tenant;
use crate::support::{broker, proxy::Proxy};

/// A virtual host, or names of its own in one that is shared.
pub struct Amqp {
    address: String,
    shared: Option<Shared>,
}

struct Shared {
    prefix: String,
    proxy: Proxy,
}

impl Shared {
    fn before(broker: &broker::Broker) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("contract-{}-{}-", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { prefix, proxy: Proxy::before(broker.port()) }
    }
}

impl Tenant for Amqp {
    const SEES_IN_HAND: bool = false;
    const LISTS_QUEUES: bool = false;
    const SHOWS_SCHEDULES: bool = false;
    const PAGES_DEAD_LETTERS: bool = false;
    const FINDS_BY_ID: bool = false;
    const RETURNS_UNCOUNTED: bool = false;
    const LOSES_SESSIONS: bool = true;
    const TELLS_OF_GONE: bool = false;
    /// What RabbitMQ takes from version 4 on, if its settings do not say otherwise.
    const LONGEST_BODY: usize = 16 << 20;

    fn left_out(clause: &str) -> Option<&'static str> {
        (clause == "a_forgotten_job_is_frozen_no_more")
            .then_some("a job is frozen there as long as its ledger says so, which says it of no job that is closed")
    }

    fn fresh() -> Option<Self> {
        let broker = broker::shared()?;
        let address = broker.fresh_vhost();
        if broker.is_own() {
            return Some(Self { address, shared: None });
        }
        let shared = Shared::before(broker);
        Some(Self { address: shared.proxy.address(&address, broker.port()), shared: Some(shared) })
    }

    fn open(&self, events: Events) -> Box<dyn Transport> {
        open(&Uri::Amqp(self.address.clone()), events).expect("a thread for the transport")
    }

    fn lose(&self) {
        if let Some(shared) = &self.shared {
            return shared.proxy.cut();
        }
        let vhost = self.address.rsplit('/').next().expect("an address names a virtual host");
        let broker = broker::shared().expect("it was there");
        broker.control(&["close_all_connections", "--vhost", vhost, "the test says so"]);
    }

    fn queue(&self, stem: &str) -> String {
        self.shared.as_ref().map_or_else(|| stem.to_owned(), |shared| format!("{}{stem}", shared.prefix))
    }
}
