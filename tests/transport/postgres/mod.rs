//! PostgreSQL in particular: what the server, the network, and other users of the database can do to the transport.
//!
//! What holds for every transport is in `../contract`.

mod faults;
mod plans;
mod refused;
mod submit;

use asynctask::transport::{Event, Events, Transport, open, read_uri};

use crate::{
    contract::{Tenant, party::Party},
    support::postgres,
};

/// A database, at any address.
struct At(String);

impl Tenant for At {
    fn fresh() -> Option<Self> {
        postgres::shared().map(|server| Self(server.fresh_database()))
    }

    fn open(&self, events: Events) -> Box<dyn Transport> {
        let uri = read_uri(&self.0, std::path::Path::new("/")).expect("an address");
        open(&uri, events).expect("a thread for the transport")
    }
}

impl At {
    fn sql(&self, sql: &str) -> String {
        postgres::shared().expect("it was there").sql(postgres::database(&self.0), sql)
    }
}

fn lost(party: &mut Party<'_, At>) {
    party.wait("Lost", |event| matches!(event, Event::Lost { .. }).then_some(()));
}

fn attached(party: &mut Party<'_, At>) {
    party.wait("Attached", |event| matches!(event, Event::Attached { .. }).then_some(()));
}
