//! What was claimed and may not be delivered: of a void round, it is deleted, of a frozen job, set aside, and what waits of the same
//! round with it. A task that wipes is put off while a task of its job is in a hand: what was cancelled may write until its worker has
//! ended.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{
    coming_back::AT_ONCE,
    stopped::{DELETE_WAITING, SET_ASIDE},
};
use crate::transport::postgres::{
    connect::{fault::Fault, session::Session},
    tasks::{
        claim::{Fate, TakenOut},
        settle_sql::REMOVE,
    },
};

/// When a task that wipes is looked at again that came while others of its job were in hands, in milliseconds.
const WIPE_AGAIN_IN: i64 = 100;
const PUT_OFF: &str = "
UPDATE @.task AS t SET state = 0, owner = 0, due = @.now_ms() + $3 FROM unnest($1::bigint[], $2::int[]) AS s (id, claim)
WHERE t.id = s.id AND t.claim = s.claim AND t.state = 1";
/// A lock on the row of a frozen job: it is not thawed before the end of the transaction.
const IS_FROZEN: &str = "SELECT 1 FROM @.frozen_job WHERE application = $1 AND job = $2 FOR SHARE";
const ASIDE: &str = "UPDATE @.task SET state = $3, owner = 0 WHERE id = $1 AND claim = $2 AND state = 1";

/// Takes them out, in one transaction.
pub(crate) async fn take_out(session: &Session, taken: &[TakenOut]) -> Result<(), Fault> {
    let with = |fate: Fate| taken.iter().filter(move |one| one.fate == fate);
    let rows = |fate| -> (Vec<i64>, Vec<i32>) { with(fate).map(|one| (one.row, one.claim)).unzip() };
    session
        .transaction(async |session| {
            let (ids, claims) = rows(Fate::Void);
            if !ids.is_empty() {
                session.run(REMOVE, &[&ids, &claims]).await?;
            }
            for round in with(Fate::Void).map(|one| one.round).collect::<BTreeSet<Uuid>>() {
                session.run(DELETE_WAITING, &[&round, &AT_ONCE]).await?;
            }
            let (ids, claims) = rows(Fate::TooEarly);
            if !ids.is_empty() {
                session.run(PUT_OFF, &[&ids, &claims, &WIPE_AGAIN_IN]).await?;
            }
            let jobs: BTreeSet<(&str, &str)> =
                with(Fate::Frozen).map(|one| (one.application.as_str(), one.job.as_str())).collect();
            for (application, job) in jobs {
                let is_frozen = session.first(IS_FROZEN, &[&application, &job]).await?.is_some();
                // Thawed meanwhile: they are worked.
                let state = if is_frozen { 3_i16 } else { 0 };
                let of_job = || with(Fate::Frozen).filter(|one| one.application == application && one.job == job);
                for one in of_job() {
                    session.run(ASIDE, &[&one.row, &one.claim, &state]).await?;
                }
                if is_frozen {
                    for round in of_job().map(|one| one.round).collect::<BTreeSet<Uuid>>() {
                        session.run(SET_ASIDE, &[&round, &AT_ONCE]).await?;
                    }
                }
            }
            Ok(())
        })
        .await
}
