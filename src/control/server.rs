//! The answering side: listens, reads whole commands, hands them to the master's loop, writes answers.
//!
//! Each client has a task of its own with a deadline for its next command and for taking its answer. When there are too
//! many clients, the one goes whose last whole command is the oldest; who never gave one counts from its connection. So
//! a hundred silent clients cannot drive out somebody who asks something. What a client does or fails to do never
//! reaches the master's loop.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
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
use crate::{
    sockets,
    strangers::{self, Strangers},
};

/// Clients at once; beyond that the one goes that has said nothing for longest.
const CLIENTS: usize = 32;
/// How long the folder's lock is waited for at the start: another master holds it for milliseconds.
const FOLDER_PATIENCE: Duration = Duration::from_secs(5);
/// How long it is waited for at the end, which nothing much hangs on.
const LAST_PATIENCE: Duration = Duration::from_millis(200);
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

/// A bound control socket; its file is removed with it, if it is still the one that was made here.
#[derive(Debug)]
pub struct Socket {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
    /// Device and number of the file. While the listener lives, no other file gets them.
    file: Option<(u64, u64)>,
}

impl Socket {
    /// Makes the socket, mode 0600. One that nobody listens on is replaced.
    ///
    /// # Errors
    /// [`Error`].
    pub fn bind(place: &Place) -> Result<Self, Error> {
        let path = place.path.clone();
        let impossible = |cause| Error::Impossible { path: path.clone(), cause };
        let _lock = lock_folder(&path, FOLDER_PATIENCE).map_err(impossible)?;
        if let Ok(there) = std::fs::metadata(&path) {
            // A file refuses connections as a socket does that nobody listens on.
            if !there.file_type().is_socket() {
                return Err(impossible(io::Error::other("it is there already and is no socket")));
            }
            match sockets::is_listened_at(&path) {
                Ok(true) => return Err(Error::Taken(path)),
                Ok(false) => std::fs::remove_file(&path).map_err(impossible)?,
                // Not ours to ask.
                Err(error) => return Err(impossible(error)),
            }
        }
        let listener = listen(&path).map_err(impossible)?;
        let file = number(&path);
        Ok(Self { listener, path, file })
    }

    /// Whether the file at its path is the one that was made here: others may have removed or replaced it.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        self.file.is_some() && number(&self.path) == self.file
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

/// A listener at a path where nothing is, mode 0600 from its first moment on.
fn listen(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let bound = sockets::bind(path);
    nix::sys::stat::umask(umask);
    let listener = bound?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Device and number of the file at a path.
fn number(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Locks the folder of a socket: two masters that start at once must not both find the other's leftover, and one that ends
/// must not remove what another has just made.
fn lock_folder(path: &Path, patience: Duration) -> io::Result<Flock<File>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    lock(File::open(folder)?, patience)
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
        let _lock = lock_folder(&self.path, LAST_PATIENCE);
        if self.is_in_place() {
            let _ = std::fs::remove_file(&self.path);
        }
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
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, socket};

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

    fn place(path: &Path) -> Place {
        Place { path: path.to_owned(), asked_for: true }
    }

    #[test]
    fn what_another_made_at_the_path_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let first = Socket::bind(&place(&path)).unwrap();
        assert!(first.is_in_place());
        std::fs::remove_file(&path).unwrap();
        assert!(!first.is_in_place());
        let second = Socket::bind(&place(&path)).unwrap();
        drop(first);
        assert!(second.is_in_place());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "somebody's").unwrap();
        drop(second);
        assert!(path.exists());
        std::fs::remove_file(&path).unwrap();
        drop(Socket::bind(&place(&path)).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_master_that_accepts_nobody_is_found_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let stream = || socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
        let address = UnixAddr::new(&path).unwrap();
        let busy = stream();
        bind(busy.as_raw_fd(), &address).unwrap();
        nix::sys::socket::listen(&busy, Backlog::new(1).unwrap()).unwrap();
        // As many as may wait, and one more: a connect that waits would never come back.
        let mut waiting = Vec::new();
        let full = loop {
            let client = stream();
            if let Err(error) = connect(client.as_raw_fd(), &address) {
                break error;
            }
            waiting.push(client);
        };
        assert_eq!(full, nix::errno::Errno::EAGAIN);
        assert!(matches!(Socket::bind(&place(&path)), Err(Error::Taken(_))));
        assert!(path.exists());
    }
}
