//! Tasks in an SQLite file: the transport where nothing is installed.
//!
//! ```text
//!  ask() ─inbox, waker──▶ actor ──▶ claimer: settlements ──────┐ one transaction: store the pending settlements,
//!                           │               credit, what is due ─┤ claim what the credit allows (tasks)
//!                           │                                    ▼
//!                           ├── requests, schedule ────────────▶ file::database ──▶ <file>
//!                           ├── requests::reader: counts, on a thread and over a connection of its own
//!                           ├── peers::owner: which masters live (locks on <file>.masters), whose tasks go back
//!                           ├── peers::wake: a datagram socket for each master, <file>.<owner>.wake
//!                           ├── file::clock_offset: what follows when the wall clock is set
//!                           └── file::housekeeping: purge, vacuum, WAL, check
//! ```
//!
//! Any number of masters and commands use one file, on one host. The thread sleeps in `poll(2)` until a
//! request, a datagram, the time of a delayed task, or the poll that it makes once a second.
//!
//! A transport that is dropped without a [`Request::Close`] has died: its deliveries go back counted.
#![doc = concat!("\n", include_str!("FILE_FORMAT.md"))]

mod actor;
mod attach;
mod claimer;
mod dispatch;
mod file;
mod jobs;
mod peers;
mod requests;
mod schedules;
mod tasks;

use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use self::{
    actor::Actor,
    file::{error::file_error, lock_wait::LockTimeout},
    peers::wake::Waker,
};
use super::{Error, Events, Request, Transport};

/// A transport on a file.
pub struct Sqlite {
    /// `None` only while it is dropped.
    inbox: Option<mpsc::Sender<Request>>,
    waker: Arc<Waker>,
    lock_timeout: Arc<LockTimeout>,
}

impl Sqlite {
    /// Starts the thread. The file is opened by the first request that needs it, and made by those that store.
    /// A client's `patience` is how long it waits for a lock.
    ///
    /// # Errors
    /// If the thread or its waker cannot be made.
    pub fn open(path: &Path, events: Events, lock_timeout: Option<Duration>) -> Result<Self, Error> {
        let started = |error: std::io::Error| file_error(path, format!("its thread cannot be started: {error}"));
        let (inbox, requests) = mpsc::channel();
        let waker = Arc::new(Waker::new().map_err(started)?);
        let lock_timeout = lock_timeout
            .map_or_else(LockTimeout::default, |longest| LockTimeout::of_client(longest, events.clone(), path));
        let lock_timeout = Arc::new(lock_timeout);
        let actor = Actor::new(path, events, requests, Arc::clone(&waker), Arc::clone(&lock_timeout));
        std::thread::Builder::new().name("sqlite".to_owned()).spawn(move || actor.run()).map_err(started)?;
        Ok(Self { inbox: Some(inbox), waker, lock_timeout })
    }
}

impl Transport for Sqlite {
    fn ask(&self, request: Request) {
        if matches!(request, Request::Close { .. }) {
            self.lock_timeout.begin_close();
        }
        if let Some(inbox) = &self.inbox {
            // It fails when the thread has ended; the request's reply is dropped with it, which is an answer.
            drop(inbox.send(request));
        }
        self.waker.wake();
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.lock_timeout.begin_close();
        drop(self.inbox.take());
        self.waker.wake();
    }
}
