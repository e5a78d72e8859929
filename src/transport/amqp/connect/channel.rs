//! Channels of a connection: opened, named and closed.
//!
//! Each question that the broker may answer with an error is asked on a channel of its own, because the error closes it.

use lapin::{Channel, Connection, ErrorKind, protocol::AMQPErrorKind, types::ShortString};
use tokio::time::timeout;

use crate::transport::amqp::broker_error::{ANSWER_TIMEOUT, answer};

/// Tries to open a channel.
const CHANNEL_TRIES: u32 = 20;

/// Opens a channel. lapin keeps the error of a channel that the broker has closed, and answers with it whoever opens one of
/// the same number, which comes round after the broker's 2,047 (4.12.3). The next number may be good; where many in a
/// row are not, the connection is of no use any more.
pub(crate) async fn open_channel(connection: &Connection) -> Result<Channel, lapin::Error> {
    for _ in 0..CHANNEL_TRIES {
        match answer(connection.create_channel()).await {
            Err(error) if is_of_a_channel(&error) => {}
            answer => return answer,
        }
    }
    Err(std::io::Error::other("the connection has had too many channels that were closed by the broker").into())
}

/// Whether an error closes one channel, not its connection.
fn is_of_a_channel(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if matches!(error.kind(), AMQPErrorKind::Soft(_)))
}

/// A queue's or tag's name as the protocol wants it. Names are checked long before; one that is too long is cut.
pub(crate) fn short(name: &str) -> ShortString {
    ShortString::try_new(name).unwrap_or_else(|_| name[..name.floor_char_boundary(255)].into())
}

/// Closes a channel without waiting for the answer.
pub(crate) fn close(channel: &Channel) {
    let channel = channel.clone();
    tokio::task::spawn_local(async move {
        let _ = timeout(ANSWER_TIMEOUT, channel.close(200, "done".into())).await;
    });
}
