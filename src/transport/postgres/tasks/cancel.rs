//! The end of one task that waits, by its id. Ids have no index: one would cost every submit something, for the sake of a command that
//! a person types.

use tokio_postgres::Row;

use super::members;
use crate::{
    clock::Clock,
    transport::{
        Cancelled,
        postgres::connect::{fault::Fault, session::Session},
    },
};

/// Those that wait first, be they set aside, and dead letters last; among equals the oldest.
const FIND: &str = "SELECT t.id, t.state, t.owner, q.name FROM @.task AS t JOIN @.queue AS q ON q.id = t.queue \
                    WHERE t.message_id = $1 ORDER BY t.state % 3, t.id";
const REMOVE: &str =
    "DELETE FROM @.task WHERE id = ANY($1) AND message_id = $2 AND state IN (0, 3) RETURNING member, memo";

/// Removes what waits under this id; of one that does not wait, says where it is. `owner` is our number. Gives the ledgers that were
/// told.
pub(crate) async fn cancel(session: &Session, id: &str, owner: i64) -> Result<(Cancelled, Vec<String>), Fault> {
    if id.contains('\0') {
        return Ok((Cancelled::Absent, Vec::new()));
    }
    let mut found = session.rows(FIND, &[&id]).await?;
    let waits = |row: &&Row| matches!(row.get::<_, i16>(1), 0 | 3);
    let waiting: Vec<i64> = found.iter().filter(waits).map(|row| row.get(0)).collect();
    if !waiting.is_empty() {
        let now = Clock::wall();
        let (removed, told) = session
            .transaction(async |session| {
                let rows = session.rows(REMOVE, &[&waiting, &id]).await?;
                let by = "it was cancelled where it waited";
                Ok((rows.len(), members::tell_removed(session, &rows, (0, 1), by, now).await?))
            })
            .await?;
        if removed > 0 {
            let queue = found.first().map(|row| row.get(3)).unwrap_or_default();
            return Ok((Cancelled::Removed { queue }, told));
        }
        // What waited a moment ago was claimed meanwhile.
        found = session.rows(FIND, &[&id]).await?;
    }
    let Some(row) = found.first() else { return Ok((Cancelled::Absent, Vec::new())) };
    let (state, holder): (i16, i64) = (row.get(1), row.get(2));
    let cancelled = match state {
        2 => Cancelled::Dead { queue: row.get(3) },
        _ if holder == owner => Cancelled::Held { pid: None },
        _ => {
            let pid = session.first("SELECT pid FROM @.master WHERE owner = $1", &[&holder]).await?;
            Cancelled::Held { pid: pid.and_then(|row| u32::try_from(row.get::<_, i32>(0)).ok()) }
        }
    };
    Ok((cancelled, Vec::new()))
}
