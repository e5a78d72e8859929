//! Waiting for the lock of another writer: the busy handler of all connections, and when it gives up.
//!
//! It sleeps for a random 0.1 to 0.8 ms at a time, so that writers that met at one lock take turns.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::Clock,
    transport::{Event, Events, pause},
};

/// How long a master waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// How much longer a lock is waited for once the transport is closing.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a client waits for a lock before it is told.
const REPORT_AFTER: Duration = Duration::from_secs(1);

/// How long a lock is waited for; other threads may change it during a wait.
#[derive(Debug)]
pub(crate) struct LockTimeout {
    longest: Duration,
    /// Where a long wait is reported, and the path to name.
    reports_to: Option<(Events, String)>,
    closing: AtomicBool,
    no_wait: AtomicBool,
    seed: AtomicU64,
}

impl Default for LockTimeout {
    fn default() -> Self {
        Self {
            longest: LOCK_TIMEOUT,
            reports_to: None,
            closing: AtomicBool::default(),
            no_wait: AtomicBool::default(),
            seed: AtomicU64::default(),
        }
    }
}

impl LockTimeout {
    /// For a client, which is told what it waits for.
    pub(crate) fn of_client(longest: Duration, events: Events, path: &Path) -> Self {
        Self { longest, reports_to: Some((events, path.display().to_string())), ..Self::default() }
    }

    /// The transport begins to close: waits end within 2 s.
    pub(crate) fn begin_close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether the transport is closing.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// While `true`, no lock is waited for: for work that can be done later.
    pub(crate) fn set_no_wait(&self, no_wait: bool) {
        self.no_wait.store(no_wait, Ordering::Relaxed);
    }

    /// The busy handler of a connection; `false` ends the wait.
    pub(crate) fn busy_handler(self: &Arc<Self>) -> impl FnMut(i32) -> bool + Send + 'static {
        let lock_timeout = Arc::clone(self);
        let clock = Clock::start();
        let mut began_at = clock.now().at;
        let mut closing_at = None;
        let mut told = false;
        move |calls| {
            let now = clock.now().at;
            if calls == 0 {
                (began_at, told) = (now, false);
            }
            if let Some((events, path)) = &lock_timeout.reports_to
                && !told
                && now.since(began_at) > REPORT_AFTER
            {
                told = true;
                drop(events.send(Event::Waits(format!("{path}, which another program keeps locked"))));
            }
            if lock_timeout.is_closing() && closing_at.is_none() {
                closing_at = Some(now);
            }
            if lock_timeout.no_wait.load(Ordering::Relaxed)
                || now.since(began_at) > lock_timeout.longest
                || closing_at.is_some_and(|closing_at| now.since(closing_at) > CLOSING_TIMEOUT)
            {
                return false;
            }
            pause(Duration::from_micros(100 + lock_timeout.random(now.since_start()) % 700));
            true
        }
    }

    /// A number that differs between writers that met at the same lock. Weyl steps, mixed.
    fn random(&self, now: Duration) -> u64 {
        let step = u64::from(std::process::id()).wrapping_add(now.subsec_nanos().into()) | 1;
        let mut value = self.seed.fetch_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15), Ordering::Relaxed);
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value ^ (value >> 31)
    }
}
