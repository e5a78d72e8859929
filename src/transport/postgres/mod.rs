//! Tasks in tables of PostgreSQL: the transport for several hosts that keeps all of the contract exactly.
//!
//! ```text
//!  ask() ─▶ master::actor ──▶ step: settlements, keys, claims ── one pipeline, one flush ──▶ session for work ──▶ server
//!              │  │                                              the owner's lock, LISTEN ──┘
//!              │  ├── submitter, questions ── side lane (a session) ──▶
//!              │  ├── walks, searches, purges ── long lane ──▶
//!              │  └── upkeep ── keeper's lane ──▶
//!              └── look, once a second: who died (judge), leases, what no notification told
//! ```
//!
//! Each master holds, for as long as its session for work lives, an advisory lock on a random number, its owner number; the same
//! session claims. Whoever can take the lock of another knows that it is dead: no clock, no heartbeat, and a long task is never taken
//! from a master that lives. Times of tasks are those of the server's clock.
//!
//! A transport that is dropped without a [`Request::Close`] has died: its deliveries go back counted, once another master sees that.

mod connect;
mod jobs;
mod keys;
mod master;
mod requests;
mod schedules;
mod schema;
mod tasks;

use std::{rc::Rc, sync::Arc, time::Duration};

use tokio::sync::mpsc;

pub(super) use self::connect::{
    address::{address_with_tls, check_address},
    tls::TlsFiles,
};
use self::{
    connect::{address::Address, lane::Lane, session::Role},
    master::{actor::Actor, closing::Closing},
};
use super::{Error, Events, Request, Transport};
use crate::redact::redact_address;

/// A transport on a database.
#[derive(Debug)]
pub struct Postgres {
    requests: mpsc::UnboundedSender<Request>,
    closing: Arc<Closing>,
}

impl Postgres {
    /// Starts the transport's thread; nothing is connected before the first request. A client gives up at the first failure to
    /// connect.
    ///
    /// # Errors
    /// [`Error::BadUri`] for an address that cannot be read; [`Error::Unreachable`] if no thread can be made.
    pub fn open(uri: &str, events: Events, patience: Option<Duration>) -> Result<Self, Error> {
        let bad = |cause| Error::BadUri { text: redact_address(uri), cause };
        let address = Address::parse(uri).map_err(bad)?;
        let failed = |error: std::io::Error| Error::Unreachable { uri: redact_address(uri), cause: error.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (requests, taken) = mpsc::unbounded_channel();
        let closing = Arc::<Closing>::default();
        let for_actor = Arc::clone(&closing);
        let is_client = patience.is_some();
        let run = move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async { Actor::new(address, events, taken, for_actor, is_client).run().await });
            // Sessions end with their tasks.
            drop(local);
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("asynctask-postgres".to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { requests, closing })
    }

    /// What makes the tables, as SQL, for those whose programs may not.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn schema_sql(uri: &str) -> Result<String, Error> {
        let bad = |cause| Error::BadUri { text: redact_address(uri), cause };
        let address = Address::parse(uri).map_err(bad)?;
        Ok(schema::migrate::as_sql(&address.schema))
    }

    /// Makes the tables, or brings them to the newest version. Gives a line that says which that is.
    ///
    /// # Errors
    /// [`Error::BadUri`], [`Error::Unreachable`], [`Error::Refused`].
    pub fn provide_schema(uri: &str) -> Result<String, Error> {
        let bad = |cause| Error::BadUri { text: redact_address(uri), cause };
        let address = Rc::new(Address::parse(uri).map_err(bad)?);
        let failed = |error: std::io::Error| Error::Unreachable { uri: redact_address(uri), cause: error.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let version = async {
            let lane = Lane::new(&address, Role::Side, &"asynctask schema".into(), Duration::ZERO);
            lane.with(async |session| schema::migrate::version(session).await).await.map_err(|(error, _)| error)
        };
        let version = tokio::task::LocalSet::new().block_on(&runtime, version)?;
        Ok(format!("schema {} is at version {version}", address.schema))
    }
}

impl Transport for Postgres {
    fn ask(&self, request: Request) {
        let is_close = matches!(request, Request::Close { .. });
        // After a close no receiver is left; the reply is dropped with the request, which its owner sees.
        let _ = self.requests.send(request);
        if is_close {
            self.closing.close();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.closing.drop_now();
    }
}
