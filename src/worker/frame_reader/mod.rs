//! Reads frames in a worker that does one task at a time, and answers recalls also while its code runs.
//!
//! Two threads share the socket, and only one of them reads it at a time, by what the worker does:
//!
//! - Between tasks the worker's loop reads: it waits for a line when none is in the [`Inbox`], and nobody else is woken.
//! - While a task runs, a thread of ours reads. So that short tasks neither wake it nor cost a system call, it does not wait for
//!   the socket but looks at it each [`TICK`], and stays with it (is woken by what comes) once a task has been in hand for a whole
//!   one: such a task is what a master recalls for. A timer drives it, which the loop starts with the first task and which lapses
//!   when a tick finds no task in hand: an idle worker wakes nobody. Where tasks come one by one, with pauses longer than a tick,
//!   the loop stops the timer after each: two system calls cost less than a wake-up. Where they come without pauses, neither is
//!   paid.
//!
//! A task is begun when the loop takes its line, under the lock under which a recall takes lines out and is answered. So each
//! task is either begun or returned, and what is begun afterwards is said after the answer.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, SigmaskHow},
        socket::{MsgFlags, recv},
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};

use super::{
    child_io::{Broken, wait_until_readable},
    frame_writer::FrameWriter,
    inbox::{Inbox, Line, Urgent},
    lines::Lines,
};
use crate::frames::from_worker;

/// Tasks that are taken beyond the one in hand.
pub(super) const AHEAD: u32 = 64;

/// How often the thread looks while tasks run: a recall is answered after twice that, of the 50 ms that it may take.
const TICK: Duration = Duration::from_millis(4);

/// One of so many tasks that come one by one is left to its tick, which sees whether they still do.
const SAMPLE: u64 = 16;

/// Of the thread, which parses frames that are no tasks, and ids. Only what is used of it costs memory.
const STACK: usize = 256 * 1024;

/// The loop's side. The thread ends after it is dropped.
#[derive(Debug)]
pub(super) struct FrameReader {
    shared: Arc<Shared>,
    line: Line,
}

#[derive(Debug)]
struct Shared {
    socket: UnixStream,
    writer: Arc<FrameWriter>,
    lines: Lines,
    timer: TimerFd,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    inbox: Inbox,
    /// Why nothing more comes, or nobody wants it; told after what came before.
    end: Option<Result<(), Broken>>,
    /// The loop does a task, so the socket is the thread's.
    is_working: bool,
    /// Tasks that were begun.
    begun: u64,
    /// The thread looks again by itself; without that, the next task starts the timer.
    is_ticking: bool,
    /// Tasks come one by one: the last look found no more than one since the look before.
    is_sparse: bool,
}

/// What the thread waits for.
#[derive(Debug, PartialEq, Eq)]
enum Wait {
    Timer,
    Socket,
}

impl FrameReader {
    /// Reads from `socket` and answers recalls with `writer`.
    ///
    /// # Errors
    /// If the timer (`timerfd_create(2)`) or the thread cannot be made.
    pub(super) fn start(socket: UnixStream, writer: &Arc<FrameWriter>, lines: &Lines) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            socket,
            writer: Arc::clone(writer),
            lines: lines.clone(),
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?,
            state: Mutex::default(),
        });
        let of_thread = Arc::clone(&shared);
        // The thread is born with all signals blocked: those of user code go on to arrive on the main thread.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let thread = std::thread::Builder::new().name("recalls".to_owned()).stack_size(STACK);
        let started = thread.spawn(move || of_thread.watch());
        before.thread_set_mask()?;
        started.map(|_| Self { shared, line: Line::default() })
    }

    /// The next frame that is not answered here; the task before it has its outcome. `None` at the end of the stream.
    ///
    /// # Errors
    /// When the socket or what comes from it is broken, after the lines before.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Broken> {
        let mut state = self.shared.lock();
        state.is_working = false;
        while !state.inbox.next(&mut self.line) {
            if let Some(end) = state.end.take() {
                return end.map(|()| None);
            }
            if state.is_ticking && state.is_sparse && !state.begun.is_multiple_of(SAMPLE) {
                state.is_ticking = false;
                self.shared.timer.unset().map_err(io::Error::from)?;
            }
            drop(state);
            wait_until_readable(&self.shared.socket)?;
            state = self.shared.lock();
            self.shared.receive(&mut state);
        }
        if self.line.is_task {
            state.is_working = true;
            state.begun += 1;
            if !state.is_ticking {
                state.is_ticking = true;
                self.shared.tick_after(TICK)?;
            }
        }
        Ok(Some(&self.line.text))
    }
}

impl Drop for FrameReader {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.end = Some(Ok(()));
        // A thread that is not woken ends with the process.
        let _ = self.shared.tick_after(Duration::from_nanos(1));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick_after(&self, time: Duration) -> io::Result<()> {
        let once = Expiration::OneShot(TimeSpec::from_duration(time));
        Ok(self.timer.set(once, TimerSetTimeFlags::empty())?)
    }

    /// Takes what is there, without a wait, and answers what does not wait. Says whether there may be more, since all room for
    /// it was used.
    fn receive(&self, state: &mut State) -> bool {
        let room = state.inbox.room();
        let size = room.len();
        match recv(self.socket.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => state.end = Some(Ok(())),
            Ok(count) => {
                state.inbox.came(count);
                match self.sort(&mut state.inbox) {
                    Ok(()) => return count == size,
                    Err(broken) => state.end = Some(Err(broken)),
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => state.end = Some(Err(io::Error::from(error).into())),
        }
        false
    }

    fn sort(&self, inbox: &mut Inbox) -> Result<(), Broken> {
        while let Some(urgent) = inbox.sort()? {
            match urgent {
                Urgent::Recall => {
                    let ids = inbox.take_back();
                    self.writer.send(|frame| from_worker::returned(&ids, frame))?;
                }
                Urgent::LogLevel(level) => self.lines.set_level(level),
            }
        }
        Ok(())
    }

    /// The life of the thread.
    fn watch(&self) {
        let mut wait = Wait::Timer;
        let mut last_seen = 0;
        loop {
            let waited = match wait {
                Wait::Timer => self.timer.wait(),
                Wait::Socket => self.wait_for_socket(),
            };
            let next = waited.map_err(io::Error::from).and_then(|()| self.look(&mut last_seen));
            match next {
                Ok(Some(next)) => wait = next,
                Ok(None) => return,
                Err(error) => {
                    self.lock().end = Some(Err(error.into()));
                    return;
                }
            }
        }
    }

    /// For more from the master, or the end of the loop.
    fn wait_for_socket(&self) -> nix::Result<()> {
        let mut both =
            [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN), PollFd::new(self.timer.as_fd(), PollFlags::POLLIN)];
        match poll(&mut both, PollTimeout::NONE) {
            // After a stop and a SIGCONT.
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes what came while a task runs, and says what to wait for; `None` when nothing more can come.
    fn look(&self, last_seen: &mut u64) -> io::Result<Option<Wait>> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Ok(None);
        }
        let begun = state.begun - std::mem::replace(last_seen, state.begun);
        state.is_sparse = begun <= 1;
        if !state.is_working {
            state.is_ticking = false;
            return Ok(Some(Wait::Timer));
        }
        // All of it, as a recall may stand behind long tasks.
        while self.receive(&mut state) {}
        if state.end.is_some() {
            return Ok(None);
        }
        // The same task as at the last look.
        if begun == 0 {
            return Ok(Some(Wait::Socket));
        }
        self.tick_after(TICK)?;
        Ok(Some(Wait::Timer))
    }
}

#[cfg(test)]
mod tests;
