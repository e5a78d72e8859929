//! The lock of a walk through the dead letters of a queue.
//!
//! Letters change places if two take some at the same time, and one of the two may find none. A broker tells nobody what
//! others hold; so whoever goes through them has an exclusive queue of a certain name meanwhile, which the broker keeps from all
//! other connections and deletes with its own.

use std::time::Duration;

use lapin::{
    Connection,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};

use crate::transport::amqp::{
    broker_error::{answer, reply_code},
    connect::channel::{close, open_channel, short},
};

/// Tries to get the turn, and the time between two.
const TRIES: u32 = 6;
const BETWEEN: Duration = Duration::from_millis(500);

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockState {
    /// Until it is [given back](give_back), or the connection ends.
    Ours,
    /// Another connection holds it.
    Theirs,
    /// It cannot be told: we may not make queues of that name.
    Unknown,
}

fn name(queue: &str) -> String {
    format!("asynctask.turn.{queue}")
}

/// Asks for the turn.
pub(crate) async fn take(connection: &Connection, queue: &str) -> LockState {
    let Ok(channel) = open_channel(connection).await else { return LockState::Unknown };
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    // Whatever the virtual host's default is.
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    match answer(channel.queue_declare(short(&name(queue)), options, arguments)).await {
        Ok(_) => {
            close(&channel);
            LockState::Ours
        }
        Err(error) if reply_code(&error) == Some(405) => LockState::Theirs,
        Err(_) => LockState::Unknown,
    }
}

/// Works during our turn, which is waited for; not for ever, since each of two persons may want it at once.
pub(crate) async fn during<T>(connection: &Connection, queue: &str, work: impl Future<Output = T>) -> T {
    let mut turn = take(connection, queue).await;
    for _ in 0..TRIES {
        if turn != LockState::Theirs {
            break;
        }
        tokio::time::sleep(BETWEEN).await;
        turn = take(connection, queue).await;
    }
    let done = work.await;
    if turn == LockState::Ours {
        give_back(connection, queue).await;
    }
    done
}

/// Ends it.
pub(crate) async fn give_back(connection: &Connection, queue: &str) {
    if let Ok(channel) = open_channel(connection).await {
        // It goes with the connection at the latest.
        let _ = answer(channel.queue_delete(short(&name(queue)), QueueDeleteOptions::default())).await;
        close(&channel);
    }
}
