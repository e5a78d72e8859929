//! What a survey says of an application's jobs.

use rusqlite::Connection;

use super::{entries, records, stopped};
use crate::{
    jobs::record::Record,
    transport::sqlite::{actor::Actor, claimer::Claimer, file::database::Synchronous, requests::depth},
};

/// What is left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Work, in a queue, a hand, or the ledger.
    pub(crate) any: bool,
    /// Live jobs that are not frozen, and of which no task is anywhere.
    pub(crate) stranded: Vec<Record>,
}

impl Actor {
    /// Looks for what is left in the attached queues, and of the jobs of an application.
    pub(crate) fn survey(&mut self, jobs: Option<&str>) -> rusqlite::Result<Left> {
        if self.claimer.as_ref().is_some_and(Claimer::holds_any) {
            return Ok(Left { any: true, ..Left::default() });
        }
        let Some(database) = &mut self.database else { return Ok(Left::default()) };
        if let Some(application) = jobs {
            // What waits of frozen jobs is nobody's work: else a task that was put off would be waited for.
            let frozen = stopped::not_set_aside(database.read(), application)?;
            if !frozen.is_empty()
                && !database
                    .write(Synchronous::Normal, |transaction, _| stopped::set_all_aside(transaction, &frozen))?
            {
                // The next survey sets aside more.
                return Ok(Left { any: true, ..Left::default() });
            }
        }
        // One snapshot: what follows a task into an emptied queue, or an entry into a job, must not slip through.
        let snapshot = database.read().unchecked_transaction()?;
        let queues = self.claimer.iter().flat_map(Claimer::queue_ids);
        if !depth::are_empty(&snapshot, queues)? {
            return Ok(Left { any: true, ..Left::default() });
        }
        jobs.map_or_else(|| Ok(Left::default()), |application| left_of_jobs(&snapshot, application))
    }
}

fn left_of_jobs(snapshot: &Connection, application: &str) -> rusqlite::Result<Left> {
    if entries::any(snapshot, application)? {
        return Ok(Left { any: true, ..Left::default() });
    }
    let mut left = Left::default();
    for record in records::to_be_worked(snapshot, application)? {
        if stopped::any_alive(snapshot, &record.rounds)? {
            left.any = true;
        } else {
            left.stranded.push(record);
        }
    }
    Ok(left)
}
