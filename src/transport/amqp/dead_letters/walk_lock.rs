//! The lock of a walk through the messages of a queue: dead letters, ended jobs.
//!
//! Messages change places if two take some at the same time, and one of the two may find none. A broker tells nobody what
//! others hold; so whoever goes through them holds the *turn* meanwhile: a queue of a certain name, exclusive, which the broker keeps
//! from all other connections and deletes with its own, and its exclusive consumer, which it keeps from all other channels. Those of one
//! session wait for each other beside the broker, in the order in which they came: a coordinator may want it for many orders at once.

use std::time::Duration;

use lapin::{
    Channel, Connection, Consumer,
    options::{BasicConsumeOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::timeout;

use crate::transport::amqp::{
    broker_error::{Fault, answer, describe, reply_code},
    connect::channel::{close, open_channel, short},
    session::connections::Session,
};

/// How long the turn is waited for, among those of a session and then among programs: longer than the longest walk of those that watch
/// (`asynctask dashboard`: 10 s), and not for ever, since who holds it may have been stopped.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at whether another program has it, at first, and later.
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_millis(500);

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
    session: &Session,
    queue: &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let among = |whom: &str| {
        let cause = format!("{whom} goes through queue \"{queue}\", and has not come to an end in {LIMIT:?}");
        E::from(Fault::Refused(cause))
    };
    let ours = session.turns.of(queue);
    let _ours = timeout(LIMIT, ours.lock()).await.map_err(|_| among("something else of this program"))?;
    let connection = session.reader();
    let looking = async {
        let mut pause = SOON;
        loop {
            let turn = take(&connection, queue).await;
            if !matches!(turn, Turn::Theirs) {
                return turn;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LATER);
        }
    };
    let turn = timeout(LIMIT, looking).await.map_err(|_| among("another program"))?;
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
