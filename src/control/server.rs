//! The answering side: listens, reads whole commands, hands them to the master's loop, writes answers.
//!
//! Each client has a task of its own with a deadline for its next command and for taking its answer. When there are too
//! many clients, the one goes whose last whole command is the oldest; who never gave one counts from its connection. So
//! a hundred silent clients cannot drive out somebody who asks something. What a client does or fails to do never
//! reaches the master's loop.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use super::{
    Place,
    types::{Answer, COMMAND_LIMIT, Command, parse},
};
use crate::strangers::{self, Strangers};

/// Clients at once; beyond that the one goes that has said nothing for longest.
const CLIENTS: usize = 32;
/// How long the folder's lock is waited for at the start: another master holds it for milliseconds.
const FOLDER_PATIENCE: Duration = Duration::from_secs(5);
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

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A live master holds it.
    #[error("another master holds the control socket {0}")]
    Taken(PathBuf),
    /// It cannot be made.
    #[error("cannot make the control socket {path}: {cause}")]
    Impossible {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
}

/// A bound control socket; its file is removed with it.
#[derive(Debug)]
pub struct Socket {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Makes the socket, mode 0600. One that nobody listens on is replaced.
    ///
    /// # Errors
    /// [`Error`].
    pub fn bind(place: &Place) -> Result<Self, Error> {
        let path = place.path.clone();
        let impossible = |cause| Error::Impossible { path: path.clone(), cause };
        // Two masters that start at once must not both find the other's leftover.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = std::fs::File::open(folder).map_err(impossible)?;
        let _lock = lock(folder, FOLDER_PATIENCE).map_err(impossible)?;
        if let Ok(there) = std::fs::metadata(&path) {
            // A file refuses connections as a socket does that nobody listens on.
            if !there.file_type().is_socket() {
                return Err(impossible(io::Error::other("it is there already and is no socket")));
            }
            match crate::sockets::connect(&path) {
                Ok(_) => return Err(Error::Taken(path)),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(&path).map_err(impossible)?;
                }
                // Not ours to ask.
                Err(error) => return Err(impossible(error)),
            }
        }
        // From its first moment on, nobody else can open it.
        let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = crate::sockets::bind(&path);
        nix::sys::stat::umask(umask);
        let listener = bound.map_err(impossible)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(impossible)?;
        listener.set_nonblocking(true).map_err(impossible)?;
        Ok(Self { listener, path })
    }

    /// Begins to answer, on the local set of this thread's runtime.
    ///
    /// # Errors
    /// If the event loop cannot watch the socket.
    pub fn serve(&self, master: mpsc::UnboundedSender<Asked>) -> io::Result<()> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        tokio::task::spawn_local(accept(listener, master));
        Ok(())
    }
}

/// Locks a folder, which any other program may hold locked for as long as it likes. There is no call that waits for a
/// lock and for a time, so a thread waits for the lock; one that comes too late is dropped with the thread.
fn lock(folder: File, patience: Duration) -> io::Result<Flock<File>> {
    let (locked, wait) = std::sync::mpsc::channel();
    std::thread::Builder::new().name("folder lock".to_owned()).spawn(move || {
        // Nobody takes it any more if it came too late.
        let _ = locked.send(Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, error)| error.into()));
    })?;
    wait.recv_timeout(patience).unwrap_or_else(|_| {
        let seconds = patience.as_secs_f64();
        Err(io::Error::other(format!("another program has kept its folder locked (flock) for {seconds} s")))
    })
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn accept(listener: UnixListener, master: mpsc::UnboundedSender<Asked>) {
    let present = Strangers::at_most(CLIENTS);
    loop {
        let (stream, _) = strangers::accepted(|| listener.accept()).await;
        let master = master.clone();
        // A client that breaks off is none of our business.
        present.admit(|presence| async move { drop(converse(stream, master, || presence.spoke()).await) });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_another_program_keeps_locked_is_an_error_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::open(folder.path()).unwrap();
        let theirs = Flock::lock(open(), FlockArg::LockExclusive).unwrap();
        let error = lock(open(), Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("folder locked (flock) for 0.02 s"), "{error}");
        drop(theirs);
        // What was waited for in vain is given back as soon as it comes.
        drop(lock(open(), Duration::from_secs(10)).unwrap());
    }
}
