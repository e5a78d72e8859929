//! The loops that everything is measured against: take and acknowledge, nothing else.

use std::{path::Path, time::Instant};

use futures_util::StreamExt;
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};

/// Deliveries in hand of the bare consumer.
const PREFETCH: u16 = 256;
/// Deliveries that one frame acknowledges where they are acknowledged in batches.
pub(crate) const ACKS: u64 = 64;

/// A table as a queue, with the journal and the `synchronous` of our own claims and settlements: settle the last batch and claim the next in one transaction, `batch` tasks at a time.
pub(crate) fn sqlite(path: &Path, tasks: usize, payload: usize, batch: usize) -> f64 {
    let mut connection = rusqlite::Connection::open(path).expect("the file opens");
    connection.pragma_update(None, "journal_mode", "WAL").expect("WAL");
    connection.pragma_update(None, "synchronous", "NORMAL").expect("NORMAL");
    connection
        .execute_batch(
            "CREATE TABLE task (id INTEGER PRIMARY KEY, queue TEXT NOT NULL, state INTEGER NOT NULL, due INTEGER NOT NULL,
                 claim INTEGER NOT NULL, body BLOB NOT NULL);
             CREATE INDEX ready ON task (queue, due, id) WHERE state = 0;",
        )
        .expect("the table is made");
    let transaction = connection.transaction().expect("a transaction");
    for _ in 0..tasks {
        let body = vec![b'x'; payload];
        transaction
            .prepare_cached("INSERT INTO task (queue, state, due, claim, body) VALUES ('q', 0, 0, 0, ?)")
            .and_then(|mut statement| statement.execute([body]))
            .expect("a row");
    }
    transaction.commit().expect("the rows are stored");
    let start = Instant::now();
    let mut held: Vec<(i64, i64)> = Vec::new();
    let mut done = 0;
    loop {
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).expect("a transaction");
        for (id, claim) in held.drain(..) {
            done += transaction
                .prepare_cached("DELETE FROM task WHERE id = ? AND claim = ?")
                .and_then(|mut statement| statement.execute([id, claim]))
                .expect("a row is deleted");
        }
        {
            let mut claim = transaction
                .prepare_cached(
                    "UPDATE task SET state = 1, claim = claim + 1 WHERE id IN
                         (SELECT id FROM task WHERE queue = 'q' AND state = 0 AND due <= 1 ORDER BY due, id LIMIT ?)
                     RETURNING id, claim, body",
                )
                .expect("the statement");
            let rows = claim.query_map([batch as i64], |row| {
                let body: Vec<u8> = row.get(2)?;
                std::hint::black_box(body);
                Ok((row.get(0)?, row.get(1)?))
            });
            held.extend(rows.expect("rows").map(|row| row.expect("a row")));
        }
        transaction.commit().expect("it is stored");
        if held.is_empty() {
            break;
        }
    }
    assert_eq!(done, tasks);
    tasks as f64 / start.elapsed().as_secs_f64()
}

/// One consumer with a prefetch that acknowledges `acks` deliveries at a time.
pub(crate) fn amqp(uri: &str, queue: &str, tasks: usize, acks: u64) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let connection = Connection::connect(uri, ConnectionProperties::default()).await.expect("the broker is there");
        let channel = connection.create_channel().await.expect("a channel");
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await.expect("the prefetch");
        let mut consumer = channel
            .basic_consume(queue.into(), "bare".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .expect("a consumer");
        let mut start = None;
        for number in 1..=tasks as u64 {
            let delivery = consumer.next().await.expect("more comes").expect("a delivery");
            start.get_or_insert_with(Instant::now);
            std::hint::black_box(&delivery.data);
            if number % acks == 0 || number == tasks as u64 {
                let multiple = BasicAckOptions { multiple: acks > 1 };
                channel.basic_ack(delivery.delivery_tag, multiple).await.expect("an acknowledgement");
            }
        }
        let rate = tasks as f64 / start.expect("there were tasks").elapsed().as_secs_f64();
        connection.close(0, "".into()).await.expect("an orderly end");
        rate
    })
}
