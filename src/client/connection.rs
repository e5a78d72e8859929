//! What both clients share: a transport that was opened, asked, and is closed with its owner.

use std::{path::Path, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::error::Error;
use crate::{
    protocol::Protocol,
    task::NewTask,
    transport::{self, Request, Transport, Uri, read_uri},
};

/// A client's end of a transport.
pub(super) struct Connection {
    transport: Box<dyn Transport>,
}

/// The answer to a submit. Without one the transport has ended: [`transport::Error::Closed`].
pub(super) type Stored = oneshot::Receiver<Result<(), transport::Error>>;

impl Connection {
    pub(super) fn parse(uri: &str) -> Result<Uri, Error> {
        Ok(read_uri(uri, Path::new(""))?)
    }

    /// With the form of queues' messages, as far as it is known and not ours.
    pub(super) fn open(uri: &Uri, protocols: Vec<(String, Protocol)>, patience: Duration) -> Result<Self, Error> {
        // The answers to requests are all that a client needs; events are dropped.
        let (sender, _) = mpsc::unbounded_channel();
        let transport = transport::open_client(uri, sender, patience)?;
        transport::tell(&*transport, protocols);
        Ok(Self { transport })
    }

    pub(super) fn submit(&self, tasks: Vec<NewTask>) -> Stored {
        let (reply, answer) = oneshot::channel();
        self.transport.ask(Request::Submit { tasks, reply });
        answer
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // What was answered is stored already; the answer to this is dropped.
        let (reply, _) = oneshot::channel();
        self.transport.ask(Request::Close { reply });
    }
}
