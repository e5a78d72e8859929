//! The answering side: listens, reads whole commands, hands them to the master's loop, writes answers.
//!
//! Each client has a task of its own with a deadline for its next command and for taking its answer. When there are too
//! many clients, the connection is closed whose last whole command is the oldest; one without a command counts from the moment it
//! was accepted. So a hundred silent clients cannot drive out one that sends commands. What a client does or fails to do never
//! reaches the master's loop.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use super::types::{Answer, COMMAND_LIMIT, Command, Line, parse};
use crate::net::connection_limit::{self, ConnectionLimit};

/// Clients at once; beyond that the one with the oldest command is closed.
const CLIENTS: usize = 32;
/// A client that sends no command, or does not take its answer, for this long is closed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command that waits for the master.
#[derive(Debug)]
pub struct Asked {
    /// The command.
    pub command: Command,
    /// The asking user and process id, as the kernel knows them; and for whom, as they say.
    pub by: String,
    /// The answer is sent here.
    pub reply: oneshot::Sender<Answer>,
}

/// Serves the clients of one listener, or of the one that took its place, and passes their commands on.
#[derive(Clone, Debug)]
pub(super) struct Server {
    master: mpsc::UnboundedSender<Asked>,
    limit: ConnectionLimit,
}

impl Server {
    pub(super) fn new(master: mpsc::UnboundedSender<Asked>) -> Self {
        Self { master, limit: ConnectionLimit::at_most(CLIENTS) }
    }

    /// Takes clients of this listener until the task is aborted; those that were taken stay.
    pub(super) async fn accept(self, listener: UnixListener) {
        loop {
            let (stream, _) = connection_limit::accepted(|| listener.accept()).await;
            let master = self.master.clone();
            // A client that breaks off is no error of ours.
            self.limit.spawn(|guard| async move { drop(converse(stream, master, || guard.touch()).await) });
        }
    }
}

async fn converse(stream: UnixStream, master: mpsc::UnboundedSender<Asked>, on_command: impl Fn()) -> io::Result<()> {
    let by = stream.peer_cred().map_or_else(
        |_| "somebody".to_owned(),
        |cred| format!("uid {} (pid {})", cred.uid(), cred.pid().map_or_else(|| "?".to_owned(), |pid| pid.to_string())),
    );
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reading).take(COMMAND_LIMIT as u64 + 1);
        let read = tokio::time::timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await;
        let length = read.map_err(|_| io::ErrorKind::TimedOut)??;
        if length == 0 {
            return Ok(());
        }
        if length > COMMAND_LIMIT {
            let answer = Answer::refused(format!("a command has at most {COMMAND_LIMIT} bytes"));
            return write(&mut writing, &answer).await;
        }
        let answer = match parse(&line) {
            Ok(Line { command, for_whom }) => {
                on_command();
                let by = for_whom.map_or_else(|| by.clone(), |name| format!("{by} for {name}"));
                let (reply, answer) = oneshot::channel();
                if master.send(Asked { command, by, reply }).is_err() {
                    return Ok(());
                }
                answer.await.unwrap_or_else(|_| Answer::refused("the master is ending"))
            }
            Err(error) => Answer::refused(error),
        };
        write(&mut writing, &answer).await?;
    }
}

async fn write(writing: &mut tokio::net::unix::OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut text = serde_json::to_vec(answer)?;
    text.push(b'\n');
    tokio::time::timeout(PATIENCE, writing.write_all(&text)).await.map_err(|_| io::ErrorKind::TimedOut)?
}
