//! The files beside the control socket that say what the run after this one is to know of its queues: which are parked for their
//! tasks (whoever restarts a master, a deploy that is broken for a night costs what its pauses cost), and which a person has paused.
//!
//! Each is there only while it has something to say, and nothing that a run depends on: what cannot be read is no pause, what
//! cannot be written is a warning. Only the holder of the control socket reads and writes them.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::core::event::{ParkedQueue, PausedQueue};
use crate::{
    clock::Timestamp,
    logging::{Level, Logger, MASTER},
};

/// Bytes that are read of a file: some thousands of queues.
const LONGEST: u64 = 1024 * 1024;
/// How long an end waits for what is not yet written: a disk that does not answer holds up no stop.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// What is kept of a queue.
pub(super) trait Kept: Clone + PartialEq + Send + Sized + 'static {
    /// Added to the socket's name.
    const ENDING: &'static str;
    /// What a queue of the file is.
    const WORD: &'static str;
    /// As it is written, beside the queue's name.
    type Form: Serialize + DeserializeOwned;

    /// The queue's name, and what is written of it.
    fn into_form(self) -> (String, Self::Form);

    /// From what was written.
    fn from_form(queue: String, form: Self::Form) -> io::Result<Self>;
}

/// What is written of a parked queue.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Parked {
    kind: String,
    pause_seconds: f64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    until_ms: Timestamp,
}

impl Kept for ParkedQueue {
    const ENDING: &'static str = ".parked";
    const WORD: &'static str = "parked";
    type Form = Parked;

    fn into_form(self) -> (String, Parked) {
        let Self { queue, kind, pause, until } = self;
        (queue, Parked { kind, pause_seconds: pause.as_secs_f64(), until_ms: until })
    }

    fn from_form(queue: String, form: Parked) -> io::Result<Self> {
        let pause = Duration::try_from_secs_f64(form.pause_seconds).map_err(io::Error::other)?;
        Ok(Self { queue, kind: form.kind, pause, until: form.until_ms })
    }
}

/// What is written of a paused queue; moments in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Paused {
    by: String,
    since_ms: Timestamp,
    until_ms: Option<Timestamp>,
}

impl Kept for PausedQueue {
    const ENDING: &'static str = ".paused";
    const WORD: &'static str = "paused";
    type Form = Paused;

    fn into_form(self) -> (String, Paused) {
        let Self { queue, by, since, until } = self;
        (queue, Paused { by, since_ms: since, until_ms: until })
    }

    fn from_form(queue: String, form: Paused) -> io::Result<Self> {
        Ok(Self { queue, by: form.by, since: form.since_ms, until: form.until_ms })
    }
}

/// Both files.
#[derive(Debug)]
pub(super) struct KeptFiles {
    pub(super) parked: KeptFile<ParkedQueue>,
    pub(super) paused: KeptFile<PausedQueue>,
}

impl KeptFiles {
    /// Those of the control socket at `socket`.
    pub(super) fn beside(socket: &Path, logger: &Logger) -> Self {
        Self { parked: KeptFile::beside(socket, logger), paused: KeptFile::beside(socket, logger) }
    }
}

/// A file, whether or not it is there.
#[derive(Debug)]
pub(super) struct KeptFile<T: Kept> {
    path: PathBuf,
    logger: Logger,
    /// What it says, or is going to say, if that is known.
    said: Option<Vec<T>>,
    /// The thread that writes, from the first time on: the loop waits for no disk.
    writer: Option<Writer<T>>,
}

/// A thread that writes, and how its end is known.
#[derive(Debug)]
struct Writer<T> {
    lists: mpsc::Sender<Vec<T>>,
    /// Is disconnected when all is written.
    written: mpsc::Receiver<()>,
}

impl<T: Kept> KeptFile<T> {
    /// The one of the control socket at `socket`.
    fn beside(socket: &Path, logger: &Logger) -> Self {
        let mut path = socket.as_os_str().to_owned();
        path.push(T::ENDING);
        Self { path: path.into(), logger: logger.clone(), said: None, writer: None }
    }

    /// What the run before has left.
    pub(super) fn read(&mut self) -> Vec<T> {
        let kept = match read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Ok(kept) => kept,
            Err(error) => {
                let (path, word) = (self.path.display(), T::WORD);
                let text = format!("{path}, which says what is {word}, cannot be read: {error}; no queue is {word}");
                self.logger.line(Level::Warning, MASTER, &text);
                return Vec::new();
            }
        };
        self.said = Some(kept.clone());
        kept
    }

    /// It says this from now on.
    pub(super) fn write(&mut self, kept: Vec<T>) {
        if self.said.as_ref() == Some(&kept) {
            return;
        }
        self.said = Some(kept.clone());
        if self.writer.is_none() {
            match Writer::start(self.path.clone(), self.logger.clone()) {
                Ok(writer) => self.writer = Some(writer),
                Err(error) => unwritten::<T>(&self.path, &self.logger, &error),
            }
        }
        if let Some(writer) = &self.writer {
            // A thread that has ended has said why, by its panic.
            let _ = writer.lists.send(kept);
        }
    }
}

impl<T: Kept> Drop for KeptFile<T> {
    fn drop(&mut self) {
        if let Some(Writer { lists, written }) = self.writer.take() {
            drop(lists);
            let _ = written.recv_timeout(LAST_PATIENCE);
        }
    }
}

impl<T: Kept> Writer<T> {
    fn start(path: PathBuf, logger: Logger) -> io::Result<Self> {
        let (lists, to_write) = mpsc::channel::<Vec<T>>();
        let (end, written) = mpsc::channel();
        std::thread::Builder::new().name(format!("{} queues", T::WORD)).spawn(move || {
            let _end: mpsc::Sender<()> = end;
            // Said once until it can be written again.
            let mut is_said = false;
            while let Ok(list) = to_write.recv() {
                let kept = to_write.try_iter().last().unwrap_or(list);
                let stored = if kept.is_empty() { remove(&path) } else { replace(&path, kept) };
                if let Err(error) = &stored
                    && !is_said
                {
                    unwritten::<T>(&path, &logger, error);
                }
                is_said = stored.is_err();
            }
        })?;
        Ok(Self { lists, written })
    }
}

fn unwritten<T: Kept>(path: &Path, logger: &Logger, error: &io::Error) {
    let (path, word) = (path.display(), T::WORD);
    let text =
        format!("{path} cannot be written: {error}; a master that is started again will not know what is {word}");
    logger.line(Level::Warning, MASTER, &text);
}

fn read<T: Kept>(path: &Path) -> io::Result<Vec<T>> {
    // A pipe in its place would be waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    let kept: BTreeMap<String, T::Form> = serde_json::from_slice(&text)?;
    kept.into_iter().map(|(queue, form)| T::from_form(queue, form)).collect()
}

/// Writes a file of another name first: whoever is killed leaves the old one or the new one.
fn replace<T: Kept>(path: &Path, kept: Vec<T>) -> io::Result<()> {
    let mut text = serde_json::to_vec(&kept.into_iter().map(T::into_form).collect::<BTreeMap<_, _>>())?;
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
        assert_eq!(read::<ParkedQueue>(&path).unwrap(), [parked("b"), parked("c\"\n")]);
        let since = Timestamp(1_700_000_000_000);
        let paused =
            |queue: &str, until| PausedQueue { queue: queue.to_owned(), by: "uid 0 for anna".to_owned(), since, until };
        let beside = folder.path().join("a.sock.paused");
        replace(&beside, vec![paused("a", None), paused("b", Some(Timestamp(since.0 + 1)))]).unwrap();
        assert_eq!(
            read::<PausedQueue>(&beside).unwrap(),
            [paused("a", None), paused("b", Some(Timestamp(since.0 + 1)))]
        );
        remove(&beside).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(read::<ParkedQueue>(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_others_put_in_its_place_is_an_error_and_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock.parked");
        for text in ["", "{", "[]", r#"{"a":{"kind":"k","pause_seconds":-1,"until_ms":0}}"#, r#"{"a":{}}"#] {
            fs::write(&path, text).unwrap();
            read::<ParkedQueue>(&path).unwrap_err();
        }
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read::<ParkedQueue>(&path).unwrap_err().to_string().contains("no file"));
        fs::remove_file(&path).unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "{}").unwrap();
        symlink(&other, &path).unwrap();
        read::<ParkedQueue>(&path).unwrap_err();
        symlink(&other, folder.path().join("a.sock.parked.new")).unwrap();
        replace(&path, vec![parked("a")]).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "{}");
        assert_eq!(read::<ParkedQueue>(&path).unwrap(), [parked("a")]);
    }
}
