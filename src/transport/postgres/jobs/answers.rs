//! Answers to orders, kept for an hour for whoever waits, or asks again.

use crate::transport::postgres::connect::{fault::Fault, session::Session};

const STORE: &str = "INSERT INTO @.answer (application, id, text, at) VALUES ($1, $2, $3, @.now_ms()) \
                     ON CONFLICT (application, id) DO UPDATE SET text = excluded.text, at = excluded.at";

/// Stores an answer.
pub(crate) async fn store(session: &Session, application: &str, order: &str, answer: &str) -> Result<(), Fault> {
    session.run(STORE, &[&application, &order, &answer]).await.map(drop)
}

/// The answer to an order, if there is one.
pub(crate) async fn find(session: &Session, application: &str, order: &str) -> Result<Option<String>, Fault> {
    let statement = "SELECT text FROM @.answer WHERE application = $1 AND id = $2";
    Ok(session.first(statement, &[&application, &order]).await?.map(|row| row.get(0)))
}
