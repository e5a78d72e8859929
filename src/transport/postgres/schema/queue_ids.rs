//! Ids of queues by their names. Queues are never deleted, so an id stays true.

use std::{cell::RefCell, collections::HashMap};

use crate::{
    limits::KNOWN_QUEUES,
    transport::postgres::connect::{fault::Fault, session::Session},
};

/// Ids, as far as they were asked for.
#[derive(Default)]
pub(crate) struct QueueIds(RefCell<HashMap<String, i32>>);

impl QueueIds {
    /// The ids of these queues; those that are new are made, and those that were deleted are there again. Not inside of a
    /// transaction: a name that is new would have all others wait who make it.
    pub(crate) async fn provide<'a>(
        &self,
        session: &Session,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<HashMap<&'a str, i32>, Fault> {
        let mut ids = HashMap::new();
        let mut unknown: Vec<&str> = Vec::new();
        for name in names {
            if ids.contains_key(name) || unknown.contains(&name) {
                continue;
            }
            match self.0.borrow().get(name) {
                Some(id) => drop(ids.insert(name, *id)),
                None => unknown.push(name),
            }
        }
        if unknown.is_empty() {
            return Ok(ids);
        }
        // In one order for all, so that nobody waits for whom waits for it.
        unknown.sort_unstable();
        let found = "SELECT name, id, hidden FROM @.queue WHERE name = ANY($1)";
        let rows = session.rows(found, &[&unknown]).await?;
        if rows.len() < unknown.len() {
            let make = "INSERT INTO @.queue (name) SELECT name FROM unnest($1::text[]) AS new (name) ORDER BY name \
                        ON CONFLICT DO NOTHING";
            session.run(make, &[&unknown]).await?;
        }
        let rows = if rows.len() < unknown.len() { session.rows(found, &[&unknown]).await? } else { rows };
        if rows.iter().any(|row| row.get(2)) {
            session.run("UPDATE @.queue SET hidden = false WHERE name = ANY($1) AND hidden", &[&unknown]).await?;
        }
        let mut known = self.0.borrow_mut();
        if known.len() >= KNOWN_QUEUES {
            known.clear();
        }
        for row in rows {
            let (name, id): (&str, i32) = (row.get(0), row.get(1));
            known.insert(name.to_owned(), id);
            if let Some(name) = unknown.iter().find(|unknown| **unknown == name) {
                ids.insert(*name, id);
            }
        }
        Ok(ids)
    }

    /// What was known may be wrong: the tables were made anew.
    pub(crate) fn forget(&self) {
        self.0.borrow_mut().clear();
    }
}

/// The id of a queue that is there.
pub(crate) async fn known_queue(session: &Session, name: &str) -> Result<Option<i32>, Fault> {
    let row = session.first("SELECT id FROM @.queue WHERE name = $1", &[&name]).await?;
    Ok(row.map(|row| row.get(0)))
}
