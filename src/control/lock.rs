//! The lock of a control socket: one master holds it at a time, also while the socket's file is away.
//!
//! A master holds a lock (`flock(2)`) on a file beside its socket for as long as it lives, whatever becomes of the socket. The
//! kernel drops the lock with the master, and the file holds its process id. Files are made, locked and removed only while the folder
//! is locked: so no master removes what another has just made, and two masters that start at once do not both take what a third
//! one left. A lock whose file was removed is void: the next master would lock another file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};

use crate::file_owner;

/// Added to the socket's name.
const ENDING: &str = ".lock";
/// Longest text of a process id.
const PID_LENGTH: u64 = 20;

/// Device and number of a file. No other file gets them while it is open.
pub(crate) type Number = (u64, u64);

/// Device and number of the file at a path.
pub(crate) fn number(path: &Path) -> Option<Number> {
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The lock of a control socket, held.
#[derive(Debug)]
pub(super) struct Lock {
    /// Locked for as long as it is open.
    _file: Flock<File>,
    path: PathBuf,
    number: Number,
}

/// What became of a try to take it.
#[derive(Debug)]
pub(super) enum LockAttempt {
    /// It is ours.
    Ours(Lock),
    /// Another has it: its process id, if it can be told.
    Others(Option<u32>),
}

impl Lock {
    /// Takes the lock of the control socket at `socket`, while the folder is locked.
    ///
    /// # Errors
    /// What the operating system said, with the file.
    pub(super) fn take(socket: &Path) -> io::Result<LockAttempt> {
        let mut path = socket.as_os_str().to_owned();
        path.push(ENDING);
        let path = PathBuf::from(path);
        let told = |error: io::Error| io::Error::new(error.kind(), format!("its lock {}: {error}", path.display()));
        let file = open(&path).map_err(told)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => return Ok(LockAttempt::Others(holder(&file))),
            Err((_, error)) => return Err(told(error.into())),
        };
        let metadata = file.metadata().map_err(told)?;
        // For people, and for the message of the next one: nothing depends on it.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(LockAttempt::Ours(Self { _file: file, path, number: (metadata.dev(), metadata.ino()) }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its file is still where others look for it.
    pub(super) fn is_in_place(&self) -> bool {
        number(&self.path) == Some(self.number)
    }

    /// Removes its file, while the folder is locked; to be dropped then.
    pub(super) fn remove(&self) {
        if self.is_in_place() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens the file, or makes it; what another made there in the form of a link or a pipe is an error.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    // A pipe would be waited for.
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is there already and is no file")) }
}

fn holder(mut file: &File) -> Option<u32> {
    let mut text = String::new();
    Read::take(&mut file, PID_LENGTH).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Locks the folder of a socket, or of its lock.
///
/// # Errors
/// What the operating system said, or that another program has kept it locked for all of `patience`; with none, of the kind
/// [`WouldBlock`](io::ErrorKind::WouldBlock).
pub(crate) fn folder(path: &Path, patience: Duration) -> io::Result<Flock<File>> {
    let folder = file_owner::folder(path);
    let opened = File::open(folder);
    let opened =
        opened.map_err(|error| io::Error::new(error.kind(), format!("its folder {}: {error}", folder.display())))?;
    if patience.is_zero() {
        return Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into());
    }
    locked(opened, patience)
}

/// Locks a folder, which any other program may hold locked for as long as it likes. There is no call that waits for a
/// lock and for a time, so a thread waits for the lock; one that comes too late is dropped with the thread.
fn locked(folder: File, patience: Duration) -> io::Result<Flock<File>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_another_program_keeps_locked_is_an_error_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let open = || File::open(folder.path()).unwrap();
        let theirs = Flock::lock(open(), FlockArg::LockExclusive).unwrap();
        let error = locked(open(), Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("folder locked (flock) for 0.02 s"), "{error}");
        let error = super::folder(&folder.path().join("a.sock"), Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        drop(theirs);
        // What was waited for in vain is given back as soon as it comes.
        drop(locked(open(), Duration::from_secs(10)).unwrap());
    }

    #[test]
    fn a_lock_says_whose_it_is_and_follows_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("a.sock");
        let LockAttempt::Ours(lock) = Lock::take(&socket).unwrap() else { panic!("nobody has it") };
        let LockAttempt::Others(pid) = Lock::take(&socket).unwrap() else { panic!("it is held") };
        assert_eq!(pid, Some(std::process::id()));
        let path = lock.path().to_owned();
        lock.remove();
        assert!(!path.exists());
        let precious = folder.path().join("precious");
        std::fs::write(&precious, "text").unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        assert!(Lock::take(&socket).unwrap_err().to_string().contains("a.sock.lock"));
        assert_eq!(std::fs::read_to_string(&precious).unwrap(), "text");
    }
}
