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
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no answer.
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
        /// Whose it is.
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

/// Asks the master at `path` and waits for its answer.
pub fn ask(path: &Path, command: &Command) -> Result<Answer, Error> {
    let unreadable = |cause: String| Error::Unreadable { path: path.to_owned(), cause };
    let mut stream = crate::net::unix_socket::connect(path, PATIENCE).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => unreadable(format!("it has accepted no connection for {} s", PATIENCE.as_secs())),
        ErrorKind::PermissionDenied => {
            Error::Denied { path: path.to_owned(), cause: file_owner::denied(path), owner: file_owner::name(path) }
        }
        _ => Error::NoMaster { path: path.to_owned(), cause: error.to_string() },
    })?;
    let line = exchange(&mut stream, command).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => unreadable(format!("none within {} s", PATIENCE.as_secs())),
        _ => unreadable(error.to_string()),
    })?;
    if line.is_empty() {
        return Err(unreadable("it closed the connection".to_owned()));
    }
    serde_json::from_str(&line).map_err(|error| unreadable(error.to_string()))
}

fn exchange(stream: &mut UnixStream, command: &Command) -> std::io::Result<String> {
    // Who asks to wait for the end of a reload waits as long as that takes: its tasks in hand are finished.
    let patience = (*command != Command::Reload { wait: true }).then_some(PATIENCE);
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_vec(command)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}
