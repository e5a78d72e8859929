//! The file beside the control socket that says which queues are parked for their tasks, for the run after this one: whoever
//! restarts a master, a deploy that is broken for a night costs what its pauses cost.
//!
//! It is there only while a queue is parked, and says nothing that a run depends on: what cannot be read is no pause, what cannot be
//! written is a warning. Only the holder of the control socket reads and writes it.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::core::event::ParkedQueue;
use crate::{
    clock::Timestamp,
    logging::{Level, Logger, MASTER},
};

/// Added to the socket's name.
const ENDING: &str = ".parked";
/// Bytes that are read of it: some thousands of queues.
const LONGEST: u64 = 1024 * 1024;
/// How long an end waits for what is not yet written: a disk that does not answer holds up no stop.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// What is kept of one queue.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    kind: String,
    pause_seconds: f64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    until_ms: Timestamp,
}

/// The file, whether or not it is there.
#[derive(Debug)]
pub(super) struct ParkedFile {
    path: PathBuf,
    logger: Logger,
    /// What it says, or is going to say, if that is known.
    said: Option<Vec<ParkedQueue>>,
    /// The thread that writes, from the first time on: the loop waits for no disk.
    writer: Option<Writer>,
}

/// A thread that writes, and how its end is known.
#[derive(Debug)]
struct Writer {
    lists: mpsc::Sender<Vec<ParkedQueue>>,
    /// Is disconnected when all is written.
    written: mpsc::Receiver<()>,
}

impl ParkedFile {
    /// The one of the control socket at `socket`.
    pub(super) fn beside(socket: &Path, logger: &Logger) -> Self {
        let mut path = socket.as_os_str().to_owned();
        path.push(ENDING);
        Self { path: path.into(), logger: logger.clone(), said: None, writer: None }
    }

    /// What the run before has left.
    pub(super) fn read(&mut self) -> Vec<ParkedQueue> {
        let parked = match read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Ok(parked) => parked,
            Err(error) => {
                let path = self.path.display();
                let text = format!("{path}, which says what is parked, cannot be read: {error}; no queue is parked");
                self.logger.line(Level::Warning, MASTER, &text);
                return Vec::new();
            }
        };
        self.said = Some(parked.clone());
        parked
    }

    /// These are parked from now on.
    pub(super) fn write(&mut self, parked: Vec<ParkedQueue>) {
        if self.said.as_ref() == Some(&parked) {
            return;
        }
        self.said = Some(parked.clone());
        if self.writer.is_none() {
            match Writer::start(self.path.clone(), self.logger.clone()) {
                Ok(writer) => self.writer = Some(writer),
                Err(error) => unwritten(&self.path, &self.logger, &error),
            }
        }
        if let Some(writer) = &self.writer {
            // A thread that has ended has said why, by its panic.
            let _ = writer.lists.send(parked);
        }
    }
}

impl Drop for ParkedFile {
    fn drop(&mut self) {
        if let Some(Writer { lists, written }) = self.writer.take() {
            drop(lists);
            let _ = written.recv_timeout(LAST_PATIENCE);
        }
    }
}

impl Writer {
    fn start(path: PathBuf, logger: Logger) -> io::Result<Self> {
        let (lists, to_write) = mpsc::channel::<Vec<ParkedQueue>>();
        let (end, written) = mpsc::channel();
        std::thread::Builder::new().name("parked queues".to_owned()).spawn(move || {
            let _end: mpsc::Sender<()> = end;
            // Said once until it can be written again.
            let mut is_said = false;
            while let Ok(list) = to_write.recv() {
                let parked = to_write.try_iter().last().unwrap_or(list);
                let stored = if parked.is_empty() { remove(&path) } else { replace(&path, parked) };
                if let Err(error) = &stored
                    && !is_said
                {
                    unwritten(&path, &logger, error);
                }
                is_said = stored.is_err();
            }
        })?;
        Ok(Self { lists, written })
    }
}

fn unwritten(path: &Path, logger: &Logger, error: &io::Error) {
    let path = path.display();
    let text =
        format!("{path} cannot be written: {error}; a master that is started again will not know what is parked");
    logger.line(Level::Warning, MASTER, &text);
}

fn read(path: &Path) -> io::Result<Vec<ParkedQueue>> {
    // A pipe in its place would be waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    let kept: BTreeMap<String, Kept> = serde_json::from_slice(&text)?;
    let parked = |(queue, kept): (String, Kept)| {
        let pause = Duration::try_from_secs_f64(kept.pause_seconds).map_err(io::Error::other)?;
        Ok(ParkedQueue { queue, kind: kept.kind, pause, until: kept.until_ms })
    };
    kept.into_iter().map(parked).collect()
}

/// Writes a file of another name first: whoever is killed leaves the old one or the new one.
fn replace(path: &Path, parked: Vec<ParkedQueue>) -> io::Result<()> {
    let kept = |ParkedQueue { queue, kind, pause, until }| {
        (queue, Kept { kind, pause_seconds: pause.as_secs_f64(), until_ms: until })
    };
    let mut text = serde_json::to_vec(&parked.into_iter().map(kept).collect::<BTreeMap<_, _>>())?;
    text.push(b'\n');
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    remove(Path::new(&new))?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?.write_all(&text)?;
    fs::rename(&new, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn parked(queue: &str) -> ParkedQueue {
        let pause = Duration::from_millis(2500);
        ParkedQueue { queue: queue.to_owned(), kind: "k".to_owned(), pause, until: Timestamp(1_700_000_000_123) }
    }

    #[test]
    fn what_is_written_is_read_and_nothing_is_left_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock.parked");
        replace(&path, vec![parked("a"), parked("b")]).unwrap();
        replace(&path, vec![parked("b"), parked("c\"\n")]).unwrap();
        assert_eq!(read(&path).unwrap(), [parked("b"), parked("c\"\n")]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_others_put_in_its_place_is_an_error_and_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock.parked");
        for text in ["", "{", "[]", r#"{"a":{"kind":"k","pause_seconds":-1,"until_ms":0}}"#, r#"{"a":{}}"#] {
            fs::write(&path, text).unwrap();
            read(&path).unwrap_err();
        }
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("no file"));
        fs::remove_file(&path).unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "{}").unwrap();
        symlink(&other, &path).unwrap();
        read(&path).unwrap_err();
        symlink(&other, folder.path().join("a.sock.parked.new")).unwrap();
        replace(&path, vec![parked("a")]).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "{}");
        assert_eq!(read(&path).unwrap(), [parked("a")]);
    }
}
