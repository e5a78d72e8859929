//! The lock of a walk through the messages of a queue: dead letters, ended jobs.
//!
//! Messages change places if two take some at the same time, and one of the two may find none. A broker tells nobody what
//! others hold; so whoever goes through them holds the *turn* meanwhile: a queue of a certain name, exclusive, which the broker keeps
//! from all other connections and deletes with its own, and its exclusive consumer, which it keeps from all other channels: two of one
//! process may want it at once.

use std::time::Duration;

use lapin::{
    Channel, Connection, Consumer,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use crate::transport::amqp::{
    broker_error::{Fault, answer, describe, reply_code},
    connect::channel::{close, open_channel, short},
};

/// Looks at whether the turn is free, and the time between two: longer than the longest walk of those that watch
/// (`asynctask dashboard`: 10 s), and not for ever, since who holds it may have been stopped.
const TRIES: u32 = 60;
const BETWEEN: Duration = Duration::from_millis(500);

/// Whose it is.
pub(crate) enum Turn {
    /// Until it is [given back](give_back), or this channel or its connection ends.
    Ours(Box<Held>),
    /// Another one holds it.
    Theirs,
    /// It cannot be told: we may not make queues of that name.
    Unknown,
}

/// The turn, held: by a consumer, which goes with its channel.
pub(crate) struct Held {
    channel: Channel,
    _consumer: Consumer,
}

/// Asks for the turn.
pub(crate) async fn take(connection: &Connection, queue: &str) -> Turn {
    let name = format!("asynctask.turn.{queue}");
    let Ok(channel) = open_channel(connection).await else { return Turn::Unknown };
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    // Whatever the virtual host's default is.
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    match answer(channel.queue_declare(short(&name), options, arguments)).await {
        Ok(_) => {}
        Err(error) if reply_code(&error) == Some(405) => return Turn::Theirs,
        Err(_) => return Turn::Unknown,
    }
    let options = BasicConsumeOptions { exclusive: true, no_ack: true, ..BasicConsumeOptions::default() };
    let taken = channel.basic_consume(short(&name), short("turn"), options, FieldTable::default());
    match answer(taken).await {
        Ok(lock) => Turn::Ours(Box::new(Held { channel, _consumer: lock })),
        // Another channel of this connection has it, or has just given it back, and the queue went with its consumer.
        Err(error) if describe(&error).contains("exclusive use") || reply_code(&error) == Some(404) => Turn::Theirs,
        Err(_) => Turn::Unknown,
    }
}

/// Works during our turn, which is waited for.
///
/// # Errors
/// Of the work; or others hold the turn all the time, and nothing was done.
pub(crate) async fn during<T, E: From<Fault>>(
    connection: &Connection,
    queue: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut turn = take(connection, queue).await;
    for _ in 0..TRIES {
        if !matches!(turn, Turn::Theirs) {
            break;
        }
        tokio::time::sleep(BETWEEN).await;
        turn = take(connection, queue).await;
    }
    if matches!(turn, Turn::Theirs) {
        let limit = BETWEEN * TRIES;
        let cause = format!("another program goes through queue \"{queue}\", and has not come to an end in {limit:?}");
        return Err(Fault::Refused(cause).into());
    }
    let done = work.await;
    give_back(turn);
    done
}

/// Ends it.
pub(crate) fn give_back(turn: Turn) {
    if let Turn::Ours(held) = turn {
        close(&held.channel);
    }
}
