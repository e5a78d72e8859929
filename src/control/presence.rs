//! Keeps the control socket in its place.
//!
//! Its file and that of its lock are watched (`inotify(7)`): one that is removed, replaced or moved away is made again at once.
//! A watch does not see what happens further up the path, a folder that is moved or a link that is changed, and some
//! file systems tell nothing; so both are looked at now and then as well.

use std::{
    cell::RefCell,
    io,
    path::{Path, PathBuf},
    rc::Weak,
    sync::Arc,
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::task::AbortHandle;

use super::{
    bound_file::{BoundFile, Error, Restored},
    server::Server,
};
use crate::{level::Level, process::Watch};

/// Between two looks while all is well.
const LOOK: Duration = Duration::from_secs(30);
/// Between two tries to make it again.
const RETRY: Duration = Duration::from_secs(5);
/// A socket that is removed again and again keeps the master neither busy nor does it fill the log.
const PACE: Duration = Duration::from_secs(1);
/// Another program has locked the folder: a master that starts has it for milliseconds.
const LOCKED: Duration = Duration::from_millis(100);
/// After so many tries with the folder locked it is said.
const LOCKED_TRIES: u32 = 50;

/// A change of the socket.
#[derive(Debug)]
pub enum Change {
    /// It was away and is back.
    Restored(PathBuf),
    /// The file of its lock was away and is back.
    LockRestored(PathBuf),
    /// It is away and cannot be made again; tried again, and not reported again.
    Missing(Error),
}

impl Change {
    /// The line of the log about it.
    #[must_use]
    pub fn line(&self) -> (Level, String) {
        match self {
            Self::Restored(path) => {
                let path = path.display();
                (Level::Warning, format!("The control socket {path} was removed or replaced; it is made again"))
            }
            Self::LockRestored(path) => {
                let path = path.display();
                (Level::Warning, format!("The lock {path} of the control socket was removed; it is made again"))
            }
            Self::Missing(error @ Error::Taken { .. }) => {
                let text =
                    "the one of this master was removed, and status and control do not find this master any more";
                (Level::Error, format!("{error}; {text}"))
            }
            Self::Missing(error) => {
                let text = "the one of this master was removed, and until it can be made again status and control do \
                            not find this master";
                (Level::Warning, format!("{error}; {text}"))
            }
        }
    }
}

/// Looks after what is held until its owner drops it. `listening` takes the clients.
pub(super) async fn keep(
    held: Weak<RefCell<BoundFile>>,
    server: Server,
    listening: AbortHandle,
    on_change: impl Fn(Change),
) {
    let changes = Changes::watch().ok();
    let mut listening = listening;
    // Made but not served: the event loop could not watch it.
    let mut unserved = false;
    let mut failures = Failures::default();
    let mut locked = 0;
    loop {
        let pause = {
            let Some(held) = held.upgrade() else { return };
            let mut held = held.borrow_mut();
            // Before the look: what happens after it is seen.
            if let Some(changes) = &changes {
                changes.follow(&held.path, held.lock.path());
            }
            match held.restore() {
                Ok(restored) => {
                    unserved |= restored == Some(Restored::Socket);
                    let relistened = if unserved { held.serve(&server).map(Some) } else { Ok(None) };
                    match relistened {
                        Ok(Some(anew)) => {
                            // The old one has no path any more.
                            std::mem::replace(&mut listening, anew).abort();
                            unserved = false;
                            on_change(Change::Restored(held.path.clone()));
                        }
                        Ok(None) if restored == Some(Restored::Lock) => {
                            on_change(Change::LockRestored(held.lock.path().to_owned()));
                        }
                        Ok(None) => {}
                        Err(cause) => failures.tell(Error::Impossible { path: held.path.clone(), cause }, &on_change),
                    }
                    if unserved {
                        RETRY
                    } else if restored.is_some() {
                        PACE
                    } else {
                        LOOK
                    }
                }
                Err(Error::Impossible { cause, .. })
                    if cause.kind() == io::ErrorKind::WouldBlock && locked < LOCKED_TRIES =>
                {
                    locked += 1;
                    LOCKED
                }
                Err(error) => {
                    failures.tell(error, &on_change);
                    RETRY
                }
            }
        };
        if pause == PACE || pause == LOOK {
            failures = Failures::default();
        }
        if pause != LOCKED {
            locked = 0;
        }
        match &changes {
            Some(changes) if pause >= RETRY => tokio::select! {
                () = changes.any() => {}
                () = tokio::time::sleep(pause) => {}
            },
            _ => tokio::time::sleep(pause).await,
        }
    }
}

/// Why the socket is away, as far as it was reported: each reason once, however often it is tried again.
#[derive(Default)]
struct Failures {
    known: String,
}

impl Failures {
    fn tell(&mut self, error: Error, on_change: impl Fn(Change)) {
        let text = error.to_string();
        if text != self.known {
            self.known = text;
            on_change(Change::Missing(error));
        }
    }
}

/// Tells that something has happened to one of the files, not what.
struct Changes {
    inotify: Arc<Inotify>,
    readable: Watch,
}

impl Changes {
    fn watch() -> io::Result<Self> {
        let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?);
        let readable = Watch::inotify(&inotify)?;
        Ok(Self { inotify, readable })
    }

    /// Watches the files that are at these paths now; those that are watched already are not watched twice. The listener
    /// holds the socket's file, so its removal is seen as a change of its number of links.
    fn follow(&self, socket: &Path, lock: &Path) {
        let flags = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        for path in [socket, lock] {
            // One that is not there is made again; where nothing can be watched, looks are all there is.
            let _ = self.inotify.add_watch(path, flags | AddWatchFlags::IN_DONT_FOLLOW);
        }
    }

    /// Waits for the next change.
    async fn any(&self) {
        if self.readable.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
        // Until there are none: one look is for all.
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
    }
}
