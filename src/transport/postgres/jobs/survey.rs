//! What a survey says of the attached queues and of an application's jobs, in one snapshot: what follows a task into an emptied queue,
//! or an entry into a job, must not slip through.

use super::{entries, records, stopped};
use crate::{
    jobs::record::Record,
    transport::postgres::{
        connect::{fault::Fault, session::Session},
        requests::depth,
    },
};

/// What is left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Work, in a queue, a hand, or the ledger.
    pub(crate) any: bool,
    /// Live jobs that are not frozen, and of which no task is anywhere.
    pub(crate) stranded: Vec<Record>,
}

/// Looks for what is left in these queues, and of the jobs of an application.
pub(crate) async fn survey(session: &Session, queues: &[i32], jobs: Option<&str>) -> Result<Left, Fault> {
    let some = || Left { any: true, ..Left::default() };
    // What waits of frozen jobs is nobody's work: else a task that was put off would be waited for.
    if let Some(application) = jobs
        && !session.transaction(async |session| stopped::set_all_aside(session, application).await).await?
    {
        // The next survey sets aside more.
        return Ok(some());
    }
    session
        .snapshot(async |session| {
            if !depth::are_empty(session, queues).await? {
                return Ok(some());
            }
            let Some(application) = jobs else { return Ok(Left::default()) };
            if entries::any(session, application).await? {
                return Ok(some());
            }
            let mut left = Left::default();
            for record in records::to_be_worked(session, application).await? {
                if stopped::any_alive(session, &record.rounds).await? {
                    left.any = true;
                } else {
                    left.stranded.push(record);
                }
            }
            Ok(left)
        })
        .await
}
