//! One step of a coordinator, in one transaction.

use super::{answers, coming_back, entries, records, stopped};
use crate::{
    jobs::record::Advance,
    membership::ledger_of,
    transport::postgres::{
        connect::{
            fault::{Fault, Kind},
            session::Session,
        },
        keys,
        requests::dead_letters,
        schema::queue_ids::QueueIds,
        tasks::submit,
    },
};

/// What a step did.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Dead letters that went back to their queues.
    pub(crate) revived: u64,
    /// There are tasks to claim.
    pub(crate) claimable: bool,
    /// Masters have something new to see: tasks, void rounds, frozen jobs.
    pub(crate) is_news: bool,
    /// Another one holds the ledger: nothing was stored.
    pub(crate) is_lost: bool,
}

/// Locked until the end of the transaction: no other epoch begins meanwhile.
const EPOCH: &str = "SELECT epoch FROM @.ledger WHERE application = $1 FOR NO KEY UPDATE";
const BEGIN_EPOCH: &str = "INSERT INTO @.ledger AS l (application, epoch, owner) VALUES ($1, 1, $2) \
                           ON CONFLICT (application) DO UPDATE SET epoch = l.epoch + 1, owner = $2 RETURNING epoch";

/// Stores a step of the coordinator that holds the ledger of an application in this epoch. What cannot be stored, now or later, is a
/// fault of the datum.
pub(crate) async fn store(
    session: &Session,
    ids: &QueueIds,
    schema: &str,
    (application, epoch): (&str, i64),
    advance: &Advance,
) -> Result<Stored, Fault> {
    let known = ids.provide(session, submit::queues(&advance.tasks)).await?;
    let stored = session
        .transaction(async |session| {
            let current = session.first(EPOCH, &[&application]).await?;
            if current.is_none_or(|row| row.get::<_, i64>(0) != epoch) {
                return Ok(Stored { is_lost: true, ..Stored::default() });
            }
            entries::delete(session, &advance.entries).await?;
            let mut thawed = 0;
            // A job that is new may have the id of one that was frozen when its time was over.
            let made = advance.records.iter().filter(|record| record.version <= 1).map(|record| &record.id);
            for job in advance.thawed.iter().chain(&advance.forgotten).chain(made) {
                thawed += coming_back::thaw(session, application, job).await?;
            }
            for job in &advance.forgotten {
                records::forget(session, application, job).await?;
            }
            // A key may pass from one to another of them.
            let (holders, others): (Vec<_>, Vec<_>) = advance.records.iter().partition(|record| record.holds_key);
            for record in others.into_iter().chain(holders) {
                records::store(session, (application, epoch), record).await?;
            }
            if let Some(frozen) = &advance.frozen_pipelines {
                records::set_frozen(session, application, frozen).await?;
            }
            if !advance.frozen.is_empty() || !advance.void.is_empty() {
                let lock = keys::lock_key(schema, "stops", "");
                session.rows("SELECT pg_advisory_xact_lock($1)", &[&lock]).await?;
            }
            for job in &advance.frozen {
                stopped::freeze(session, application, job).await?;
            }
            for round in &advance.void {
                stopped::make_void(session, *round).await?;
            }
            for round in &advance.superseded {
                dead_letters::delete(session, *round, coming_back::AT_ONCE).await?;
            }
            submit::store(session, &known, &advance.tasks).await?;
            let mut revived = 0;
            for back in &advance.revived {
                revived += coming_back::revive(session, back.round).await?;
            }
            for (order, text) in &advance.answers {
                answers::store(session, application, order, text).await?;
            }
            let tasks = advance.tasks.iter().any(|task| ledger_of(&task.queue).is_none());
            let claimable = tasks || revived > 0 || thawed > 0;
            let is_news = claimable || !advance.void.is_empty() || !advance.frozen.is_empty();
            Ok(Stored { revived, claimable, is_news, is_lost: false })
        })
        .await;
    // The server's own words for a key or an id that another job has.
    stored.map_err(|fault| match fault.kind {
        Kind::Datum => Fault { cause: fault.cause.replace('\n', " "), ..fault },
        _ => fault,
    })
}

/// Begins an epoch of an application's ledger, whose coordinator has this owner number, or 0. Gives the epoch.
pub(crate) async fn begin_epoch(session: &Session, application: &str, owner: i64) -> Result<i64, Fault> {
    let row = session.first(BEGIN_EPOCH, &[&application, &owner]).await?;
    Ok(row.map_or(0, |row| row.get(0)))
}
