//! The answering side: listens, reads whole commands, hands them to the master's loop, writes answers.
//!
//! Each client has a task of its own with a deadline for its next command and for taking its answer. When there are too
//! many clients, the one goes whose last whole command is the oldest; who never gave one counts from its connection. So
//! a hundred silent clients cannot drive out somebody who asks something. What a client does or fails to do never
//! reaches the master's loop.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use super::types::{Answer, COMMAND_LIMIT, Command, parse};
use crate::net::connection_limit::{self, Strangers};

/// Clients at once; beyond that the one goes that has said nothing for longest.
const CLIENTS: usize = 32;
/// A client that says nothing, or does not take its answer, for this long goes.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command that waits for the master.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub command: Command,
    /// Who asks: user and process id, as the kernel knows them.
    pub by: String,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

/// Who is served at present, through one listener or the one that took its place, and where their commands go.
#[derive(Clone, Debug)]
pub(super) struct Server {
    master: mpsc::UnboundedSender<Asked>,
    present: Strangers,
}

impl Server {
    pub(super) fn new(master: mpsc::UnboundedSender<Asked>) -> Self {
        Self { master, present: Strangers::at_most(CLIENTS) }
    }

    /// Takes clients of this listener until the task is aborted; those that were taken stay.
    pub(super) async fn accept(self, listener: UnixListener) {
        loop {
            let (stream, _) = connection_limit::accepted(|| listener.accept()).await;
            let master = self.master.clone();
            // A client that breaks off is none of our business.
            self.present.admit(|presence| async move { drop(converse(stream, master, || presence.spoke()).await) });
        }
    }
}

async fn converse(stream: UnixStream, master: mpsc::UnboundedSender<Asked>, spoke: impl Fn()) -> io::Result<()> {
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
            Ok(command) => {
                spoke();
                let (reply, answer) = oneshot::channel();
                if master.send(Asked { command, by: by.clone(), reply }).is_err() {
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
