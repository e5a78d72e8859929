//! A session that is opened when it is needed, and that one task uses at a time.

use std::{rc::Rc, time::Duration};

use tokio::sync::Mutex;

use super::{
    address::Address,
    fault::{Fault, Kind},
    session::{Role, Session},
};
use crate::{
    backoff::Backoff,
    clock::Clock,
    transport::{Error, postgres::schema::migrate},
};

/// Between two tries to connect.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), factor: 2.0, longest: Duration::from_secs(5) };

/// A session for one kind of questions.
pub(crate) struct Lane {
    address: Rc<Address>,
    role: Role,
    name: Rc<str>,
    /// How long it is tried to connect; zero: once.
    patience: Duration,
    session: Mutex<Option<Session>>,
}

impl Lane {
    pub(crate) fn new(address: &Rc<Address>, role: Role, name: &Rc<str>, patience: Duration) -> Self {
        let (address, name) = (Rc::clone(address), Rc::clone(name));
        Self { address, role, name, patience, session: Mutex::new(None) }
    }

    /// The name of the server and its database, without a password.
    pub(crate) fn shown(&self) -> &str {
        &self.address.shown
    }

    /// Does something in a session that is brought to our schema, made if it is not there.
    pub(crate) async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&Session) -> Result<T, Fault>,
    ) -> Result<T, (Error, Fault)> {
        self.with_schema(true, work).await.map(|done| done.expect("the schema was made"))
    }

    /// The same, for a question: `None` where there is no schema.
    pub(crate) async fn ask<T>(
        &self,
        work: impl AsyncFnOnce(&Session) -> Result<T, Fault>,
    ) -> Result<Option<T>, Error> {
        self.with_schema(false, work).await.map_err(|(error, _)| error)
    }

    async fn with_schema<T>(
        &self,
        makes: bool,
        work: impl AsyncFnOnce(&Session) -> Result<T, Fault>,
    ) -> Result<Option<T>, (Error, Fault)> {
        let mut place = self.session.lock().await;
        if place.as_ref().is_some_and(Session::is_closed) {
            *place = None;
        }
        let session = if let Some(session) = place.take() {
            session
        } else {
            let session = self.connect().await.map_err(|fault| (fault.unreachable(self.shown()), fault))?;
            match migrate::provide(&session, &self.address.schema, makes).await {
                Ok(true) => session,
                Ok(false) => return Ok(None),
                Err(fault) => return Err((fault.error(self.shown()), fault)),
            }
        };
        // A future that is dropped here takes the session with it, in whatever transaction that is.
        let done = work(&session).await;
        if !done.as_ref().is_err_and(|fault| fault.kind == Kind::Broken) {
            *place = Some(session);
        }
        done.map(Some).map_err(|fault| (fault.error(self.shown()), fault))
    }

    async fn connect(&self) -> Result<Session, Fault> {
        let clock = Clock::start();
        let mut failures = 0;
        loop {
            let fault = match Session::connect(&self.address, self.role, &self.name).await {
                Ok((session, _)) => return Ok(session),
                Err(fault) => fault,
            };
            failures += 1;
            if fault.kind == Kind::Refused || clock.now().at.since_start() >= self.patience {
                return Err(fault);
            }
            tokio::time::sleep(BACKOFF.delay(failures)).await;
        }
    }

    /// Closes it if nobody uses it.
    pub(crate) async fn close(&self) {
        if let Ok(mut place) = self.session.try_lock()
            && let Some(session) = place.take()
        {
            session.close().await;
        }
    }
}
