//! PostgreSQL as a tenant: a database of its own on the tests' server.

use asynctask::transport::{Events, Transport, open, read_uri};

use super::Tenant;
use crate::support::postgres;

/// A database.
pub struct Postgres {
    pub address: String,
}

impl Tenant for Postgres {
    const LOSES_SESSIONS: bool = true;
    const SHARES_KEYS: bool = true;

    fn fresh() -> Option<Self> {
        postgres::shared().map(|server| Self { address: server.fresh_database() })
    }

    fn open(&self, events: Events) -> Box<dyn Transport> {
        open(&read_uri(&self.address, std::path::Path::new("/")).expect("an address"), events)
            .expect("a thread for the transport")
    }

    fn lose(&self) {
        postgres::shared().expect("it was there").cut(&self.address);
    }
}
