//! Upkeep, by the one master that holds its lock, beside everything else: old dead letters and jobs are deleted, and dead rows are
//! vacuumed every few seconds. The server's own vacuum comes once a minute, when the table has grown many times over.

use std::{rc::Rc, time::Duration};

use super::{
    actor::Actor,
    asked::Pause,
    notes::{Kept, Note},
    vacuum::Vacuum,
};
use crate::transport::{
    Error, Event,
    postgres::{
        connect::{lane::Lane, session::Session},
        jobs::upkeep,
        keys,
        requests::dead_letters,
    },
};

/// The lock is asked for with each of so many looks.
const ASK_EACH: u64 = 5;
/// Dead letters, or jobs, deleted in one transaction.
const PURGED: i64 = 500;
const A_MOMENT: Duration = Duration::from_millis(200);

const TRY_LOCK: &str = "SELECT pg_try_advisory_lock($1)";
impl Actor {
    /// Does the upkeep, if it is ours.
    pub(super) async fn keep_house(&mut self, session: &Rc<Session>) {
        if !self.is_keeper {
            if !self.looks.is_multiple_of(ASK_EACH) && self.looks > 1 {
                return;
            }
            let lock = keys::lock_key(&self.address.schema, "upkeep", "");
            let taken = async { Ok(session.first(TRY_LOCK, &[&lock]).await?.is_some_and(|row| row.get(0))) };
            self.is_keeper = matches!(self.over_work(session, taken).await, Some(Ok(true)));
        }
        if !self.is_keeper || std::mem::replace(&mut self.keeps, true) {
            return;
        }
        let (lane, notes, vacuum) = (Rc::clone(&self.keeper), self.notes.clone(), Rc::clone(&self.vacuum));
        tokio::task::spawn_local(async move {
            // What fails is done with the next look.
            let kept = keep(&lane, &vacuum).await.unwrap_or_default();
            drop(notes.send(Note::Kept(kept)));
        });
    }

    /// The upkeep is done.
    pub(super) fn kept(&mut self, kept: Kept) {
        self.keeps = false;
        if kept.thawed {
            self.claimer.recheck_all();
            self.wake.members();
        }
        self.ledgers_were_told(kept.told.iter().map(String::as_str));
        kept.lines.into_iter().for_each(|line| self.tell(Event::Notice(line)));
        if let Some(warning) = kept.warning {
            self.tell(Event::Warning(warning));
        }
    }

    /// The next step waits a moment.
    pub(super) fn pause_a_moment(&mut self) {
        self.pause = Some(Pause { again_at: self.clock.now().at + A_MOMENT, failures: 1 });
    }
}

async fn keep(lane: &Lane, vacuum: &Vacuum) -> Result<Kept, Error> {
    let kept = lane
        .ask(async |session| {
            let mut kept = Kept::default();
            loop {
                let (lines, told) = dead_letters::purge(session, PURGED).await?;
                let is_all = lines.is_empty();
                kept.lines.extend(lines);
                kept.told.extend(told);
                if is_all {
                    break;
                }
            }
            let thawed = upkeep::purge(session, PURGED).await? + upkeep::sweep(session).await?;
            kept.thawed = thawed > 0;
            kept.warning = vacuum.run(session).await?;
            Ok(kept)
        })
        .await?;
    Ok(kept.unwrap_or_default())
}
