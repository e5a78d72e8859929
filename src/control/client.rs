//! The asking side of the control socket.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::types::{Answer, Command};
use crate::file_owner;

/// How long a master may take to answer. It answers at once unless its transport hangs.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// The error of a question without an answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No master listens there.
    #[error("no master answers at {path}: {cause}")]
    NoMaster {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        cause: String,
    },
    /// There is a socket, and it is not for this user.
    #[error("cannot talk to the master at {path}: {cause}")]
    Denied {
        /// The socket.
        path: PathBuf,
        /// What the operating system said, with the owner of the socket.
        cause: String,
        /// The user whose it is, by name, where that can be told.
        owner: Option<String>,
    },
    /// The answer cannot be read.
    #[error("the master at {path} gave no usable answer: {cause}")]
    Unreadable {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
}

/// Asks the master at `path` and waits for its answer, 15 s at most; without end for the end of a reload that is waited for.
///
/// # Errors
/// [`Error::NoMaster`] if no master listens at `path`, [`Error::Denied`] if this user may not connect, [`Error::Unreadable`] if the
/// answer does not come within the limit or is no answer. After the last one the command may have been carried out.
pub fn ask(path: &Path, command: &Command) -> Result<Answer, Error> {
    ask_within(path, command, PATIENCE)
}

/// [`ask()`] with another time limit, for the connection and for the answer.
///
/// # Errors
/// Those of [`ask()`].
pub fn ask_within(path: &Path, command: &Command, limit: Duration) -> Result<Answer, Error> {
    // A time limit of zero is an error of the socket's.
    let limit = limit.max(Duration::from_millis(1));
    let seconds = limit.as_secs_f64();
    let unreadable = |cause: String| Error::Unreadable { path: path.to_owned(), cause };
    let mut stream = crate::net::unix_socket::connect(path, limit).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => unreadable(format!("it has accepted no connection for {seconds} s")),
        ErrorKind::PermissionDenied => {
            Error::Denied { path: path.to_owned(), cause: file_owner::denied(path), owner: file_owner::name(path) }
        }
        _ => Error::NoMaster { path: path.to_owned(), cause: error.to_string() },
    })?;
    let line = exchange(&mut stream, command, limit).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => unreadable(format!("none within {seconds} s")),
        _ => unreadable(error.to_string()),
    })?;
    if line.is_empty() {
        return Err(unreadable("it closed the connection".to_owned()));
    }
    serde_json::from_str(&line).map_err(|error| unreadable(error.to_string()))
}

fn exchange(stream: &mut UnixStream, command: &Command, limit: Duration) -> std::io::Result<String> {
    // The answer to a reload with `wait` comes at its end, after tasks in hand: that has no limit.
    let patience = (*command != Command::Reload { wait: true }).then_some(limit);
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(Some(limit))?;
    let mut text = serde_json::to_vec(command)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}
