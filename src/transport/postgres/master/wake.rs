//! Waking others. A notification is a hint: one that is lost only delays, until the look that each master makes once a second.
//!
//! It is never sent in the transaction that stores something: commits with notifications wait for each other until their logs are
//! flushed. It is sent afterwards, at most once in 10 ms, and for tasks only if a master waits for some. A payload is `m` (locks are free,
//! something is stopped), `e` (a ledger was told something), or the id of a queue, with a time if tasks in it may be due since then.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    clock::Instant,
    transport::postgres::connect::{fault::Fault, session::Session},
};

/// Between two notifications.
const APART: Duration = Duration::from_millis(10);

/// What others are to be told.
#[derive(Debug, Default)]
pub(super) struct Wake {
    queues: BTreeMap<i32, bool>,
    ledgers: bool,
    members: bool,
    not_before: Instant,
}

/// A notification, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Locks are free, something is stopped, tasks went back.
    Members,
    /// A ledger was told something.
    Entries,
    /// A task was stored, due then, if that is told.
    Queue(i32, Option<i64>),
}

impl Woken {
    /// Reads a payload; what is none of ours is a reason to look at everything.
    pub(super) fn of(payload: &str) -> Self {
        let (id, due) = payload.split_once(' ').unwrap_or((payload, ""));
        match id.parse() {
            Ok(id) => Self::Queue(id, due.parse().ok()),
            Err(_) if payload == "e" => Self::Entries,
            Err(_) => Self::Members,
        }
    }
}

impl Wake {
    pub(super) fn queue(&mut self, id: i32, may_be_old: bool) {
        *self.queues.entry(id).or_default() |= may_be_old;
    }

    pub(super) fn ledgers(&mut self) {
        self.ledgers = true;
    }

    pub(super) fn members(&mut self) {
        self.members = true;
    }

    fn is_empty(&self) -> bool {
        self.queues.is_empty() && !self.ledgers && !self.members
    }

    /// When the next notification is to be sent; `None`: there is none.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.not_before)
    }

    /// What is to be sent now, as statements.
    pub(super) fn take(&mut self, now: Instant, channel: &str) -> Option<String> {
        if self.is_empty() || now < self.not_before {
            return None;
        }
        let mut sql = "BEGIN; SET LOCAL synchronous_commit = off".to_owned();
        for (id, may_be_old) in std::mem::take(&mut self.queues) {
            let due = if may_be_old { " 0" } else { "" };
            sql.extend([
                "; SELECT pg_notify('",
                channel,
                "', '",
                &id.to_string(),
                due,
                "') WHERE EXISTS (SELECT 1 FROM @.node WHERE waits)",
            ]);
        }
        for (payload, is_told) in [("e", &mut self.ledgers), ("m", &mut self.members)] {
            if std::mem::take(is_told) {
                sql.extend(["; NOTIFY ", channel, ", '", payload, "'"]);
            }
        }
        sql.push_str("; COMMIT");
        self.not_before = now + APART;
        Some(sql)
    }
}

/// Sends notifications; a queue of notifications that is full is no reason to fail.
pub(super) async fn send(session: &Session, sql: &str) -> Result<(), Fault> {
    match session.batch(sql).await {
        Err(fault) if session.is_closed() => Err(fault),
        Err(_) => session.batch("ROLLBACK").await,
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_are_gathered_and_apart() {
        let mut wake = Wake::default();
        let at = |millis| Instant::from_start(Duration::from_millis(millis));
        assert_eq!(wake.take(at(100), "c"), None);
        wake.queue(7, false);
        wake.queue(7, true);
        wake.members();
        let sql = wake.take(at(100), "c").unwrap();
        assert!(sql.contains("'7 0'") && sql.contains("NOTIFY c, 'm'") && !sql.contains("'e'"), "{sql}");
        wake.ledgers();
        assert_eq!((wake.take(at(109), "c"), wake.due()), (None, Some(at(110))));
        assert!(wake.take(at(110), "c").unwrap().contains("'e'"));
        assert_eq!(wake.due(), None);
    }

    #[test]
    fn payloads_are_read() {
        assert_eq!(Woken::of("7"), Woken::Queue(7, None));
        assert_eq!(Woken::of("7 1700"), Woken::Queue(7, Some(1700)));
        assert_eq!(
            [Woken::of("e"), Woken::of("m"), Woken::of("nonsense")],
            [Woken::Entries, Woken::Members, Woken::Members]
        );
    }
}
