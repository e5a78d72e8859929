//! Signals that stop a command in the foreground: SIGINT or SIGTERM.
//!
//! The first of them is a value that the command acts upon, so that it can say how far it came. The second one ends the
//! process by the default action: a command that is stuck can be ended.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use signal_hook::{
    SigId,
    consts::{SIGINT, SIGTERM},
    flag, low_level,
};

use super::Watch;

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

const ALL: [(Interrupt, i32); 2] = [(Interrupt::Interrupt, SIGINT), (Interrupt::Terminate, SIGTERM)];

/// Listens from its making to its drop.
#[derive(Debug)]
pub struct Interrupts {
    wake: Arc<UnixStream>,
    /// Number of the signal that came last; 0: none.
    last: Arc<AtomicUsize>,
    registered: Vec<SigId>,
}

impl Interrupts {
    /// Begins to listen. The default actions do not come back in this process, not even after the drop.
    ///
    /// # Errors
    /// If no socket can be made.
    pub fn listen() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let mut interrupts = Self { wake: Arc::new(wake), last: Arc::default(), registered: Vec::new() };
        let again = Arc::new(AtomicBool::new(false));
        for (_, number) in ALL {
            // In this order: the first one finds that none came before.
            let actions = [
                flag::register_conditional_default(number, Arc::clone(&again))?,
                flag::register(number, Arc::clone(&again))?,
                flag::register_usize(number, Arc::clone(&interrupts.last), number.unsigned_abs() as usize)?,
                low_level::pipe::register(number, waker.try_clone()?)?,
            ];
            interrupts.registered.extend(actions);
        }
        Ok(interrupts)
    }

    /// Tells when one has come. Within a tokio runtime with I/O only.
    ///
    /// # Errors
    /// If the runtime cannot watch.
    pub fn watch(&self) -> io::Result<Watch> {
        Watch::socket(&self.wake)
    }

    /// The one that came.
    #[must_use]
    pub fn came(&self) -> Option<Interrupt> {
        let last = self.last.load(Ordering::Acquire);
        ALL.into_iter().find(|(_, number)| number.unsigned_abs() as usize == last).map(|(interrupt, _)| interrupt)
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            low_level::unregister(id);
        }
    }
}

impl Interrupt {
    /// The signal's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}
