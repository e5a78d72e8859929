//! Signals as values.
//!
//! A signal does two things, in this order: its counter goes up by one, and a byte goes into a socket that wakes
//! the loop. [`Signals::drain`] empties the socket first and takes the counters second, so nothing is lost between
//! the two, nor when the socket is full. The kernel merges a signal that is still pending with the next of its
//! kind; each one it delivers is counted.

use std::{
    io::{self, ErrorKind, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use signal_hook::{
    SigId,
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1},
    low_level,
};

use super::Watch;

/// A signal to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    HangUp,
    /// SIGUSR1.
    User1,
    /// SIGCHLD: at least one child has ended, was stopped or goes on; ask [`next_exit`](super::next_exit) and
    /// [`next_stop`](super::next_stop) until they say `None`.
    Child,
}

const ALL: [(Signal, i32); 6] = [
    (Signal::Terminate, SIGTERM),
    (Signal::Interrupt, SIGINT),
    (Signal::Quit, SIGQUIT),
    (Signal::HangUp, SIGHUP),
    (Signal::User1, SIGUSR1),
    (Signal::Child, SIGCHLD),
];

/// Listens to signals from its making to its drop.
#[derive(Debug)]
pub struct Signals {
    wake: Arc<UnixStream>,
    counters: Arc<[AtomicU32; ALL.len()]>,
    registered: Vec<SigId>,
    hears_hang_ups: bool,
}

impl Signals {
    /// Begins to listen. The signals' default actions do not come back in this process, not even after the drop; a
    /// child's exec resets them. A HUP that is ignored at this moment stays so, here and in children: whoever starts a
    /// program with nohup wants it to outlive its terminal.
    ///
    /// # Errors
    /// If the socket pair cannot be made (`EMFILE`, `ENFILE`) or the action of a signal cannot be set. What was registered before
    /// the error is unregistered.
    pub fn listen() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let mut signals = Self {
            wake: Arc::new(wake),
            counters: Arc::default(),
            registered: Vec::with_capacity(2 * ALL.len()),
            hears_hang_ups: !is_ignored(SIGHUP),
        };
        for (index, (signal, number)) in ALL.into_iter().enumerate() {
            if signal == Signal::HangUp && !signals.hears_hang_ups {
                continue;
            }
            let counters = Arc::clone(&signals.counters);
            // SAFETY: the action is one atomic addition: no allocation, no lock, no errno, no panic (the index is in range).
            let counting = unsafe {
                low_level::register(number, move || {
                    counters[index].fetch_add(1, Ordering::Release);
                })
            }?;
            signals.registered.push(counting);
            signals.registered.push(low_level::pipe::register(number, waker.try_clone()?)?);
        }
        Ok(signals)
    }

    /// Whether [`Signal::HangUp`] can arrive.
    #[must_use]
    pub const fn hear_hang_ups(&self) -> bool {
        self.hears_hang_ups
    }

    /// Tells when there is something to [`drain`](Self::drain). Within a tokio runtime with I/O only.
    ///
    /// # Errors
    /// If the socket cannot be added to the event loop (`epoll_ctl(2)`). Signals are still counted.
    pub fn watch(&self) -> io::Result<Watch> {
        Watch::socket(&self.wake)
    }

    /// What has arrived since the last call: each as often as it was delivered, [`Signal::Child`] once. Never blocks.
    #[must_use]
    pub fn drain(&self) -> Vec<Signal> {
        let mut bytes = [0; 256];
        loop {
            match (&*self.wake).read(&mut bytes) {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Empty. Any other error leaves the counters, which are what matters.
                Ok(0) | Err(_) => break,
            }
        }
        let mut arrived = Vec::new();
        for ((signal, _), counter) in ALL.into_iter().zip(self.counters.iter()) {
            let times = counter.swap(0, Ordering::Acquire);
            let times = if signal == Signal::Child { times.min(1) } else { times };
            arrived.extend((0..times).map(|_| signal));
        }
        arrived
    }
}

fn is_ignored(number: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with no new action given it only writes the old one, to where there is room for it.
    if unsafe { libc::sigaction(number, ptr::null(), action.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so it is written.
    unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            low_level::unregister(id);
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
