//! Which other masters are dead. Each look tries the lock of every other owner; one that was free twice in a row, a look apart, belongs
//! to nobody, and its tasks go back. No row is judged by a clock.
//!
//! When a server restarts all locks are free although their owners live. So whoever has just come, or come back, waits before it judges
//! others, and so does one that finds the locks of all others free at once.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    clock::Instant,
    transport::postgres::{
        connect::{fault::Fault, session::Session},
        tasks::unique_keys,
    },
};

/// The locks fall at the end of the statement's own transaction.
const FREE: &str = "SELECT owner, pg_try_advisory_xact_lock(owner) FROM @.master WHERE owner <> $1";
const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock($1)";
const REMOVE: &str = "DELETE FROM @.master WHERE owner = $1 RETURNING host, pid";
/// Each of these deliveries counts.
const RETURN: &str = "UPDATE @.task SET state = 0, owner = 0, claim = claim % 1000000000 + 1, deliveries = deliveries + 1, \
                      redelivered = true WHERE state = 1 AND owner = $1";
/// An orderly return counts no delivery.
pub(super) const RETURN_UNCOUNTED: &str = "UPDATE @.task SET state = 0, owner = 0, claim = claim % 1000000000 + 1, \
                                           redelivered = true WHERE state = 1 AND owner = $1";

/// Claims wait no longer than this for those that have died.
const SOON: Duration = Duration::from_millis(1_500);

/// What is known of others.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Nobody is judged before this.
    pub(super) from: Instant,
    /// Whose locks were free at the last look.
    free: BTreeSet<i64>,
    /// All others were free at once, and that was waited for.
    has_waited: bool,
    /// How many others there are.
    pub(super) others: usize,
}

/// A master that had ended.
#[derive(Debug)]
pub(super) struct Dead {
    host: String,
    pid: i32,
    tasks: u64,
}

impl Dead {
    /// What a person is told, if tasks went back.
    pub(super) fn told(&self) -> Option<String> {
        let Self { host, pid, tasks } = self;
        let back = match tasks {
            0 => return None,
            1 => "1 of its tasks goes back to its queue".to_owned(),
            count => format!("{count} of its tasks go back to their queues"),
        };
        Some(format!("the master with process id {pid} on {host} ended without leaving: {back}"))
    }
}

impl Judge {
    /// Whether somebody seems to be dead who will soon be judged.
    pub(super) fn is_about_to_judge(&self, now: Instant) -> bool {
        !self.free.is_empty() && self.from <= now + SOON
    }

    /// A session is up: nobody is judged for this long.
    pub(super) fn wait(&mut self, until: Instant) {
        *self = Self { from: until, others: self.others, ..Self::default() };
    }

    /// Looks at all others, and returns what dead ones had in hand.
    pub(super) async fn look(
        &mut self,
        session: &Session,
        owner: i64,
        now: Instant,
        grace: Duration,
    ) -> Result<Vec<Dead>, Fault> {
        let rows = session.rows(FREE, &[&owner]).await?;
        self.others = rows.len();
        let free: BTreeSet<i64> = rows.iter().filter(|row| row.get(1)).map(|row| row.get(0)).collect();
        let are_all_free = free.len() >= 2 && free.len() == rows.len();
        if are_all_free && !self.has_waited {
            (self.has_waited, self.from) = (true, self.from.max(now + grace));
        } else if free.is_empty() {
            self.has_waited = false;
        }
        let suspects: Vec<i64> = free.intersection(&self.free).copied().collect();
        self.free = free;
        let mut dead = Vec::new();
        if now < self.from {
            return Ok(dead);
        }
        for owner in suspects {
            dead.extend(bury(session, owner).await?);
            self.free.remove(&owner);
        }
        Ok(dead)
    }
}

/// Returns what an owner had in hand; `None` if it lives, or another one did so.
async fn bury(session: &Session, owner: i64) -> Result<Option<Dead>, Fault> {
    session
        .transaction(async |session| {
            if !session.first(TRY_LOCK, &[&owner]).await?.is_some_and(|row| row.get(0)) {
                return Ok(None);
            }
            let Some(row) = session.first(REMOVE, &[&owner]).await? else { return Ok(None) };
            let tasks = session.run(RETURN, &[&owner]).await?;
            session.run(unique_keys::GIVE_BACK_ALL, &[&owner]).await?;
            session.run("DELETE FROM @.node WHERE owner = $1", &[&owner]).await?;
            Ok(Some(Dead { host: row.get(0), pid: row.get(1), tasks }))
        })
        .await
}
