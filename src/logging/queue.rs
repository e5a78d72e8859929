//! The bounded queue before the log's writer thread, and that thread.
//!
//! Full and not full are two marks apart: from [`QUEUE_LIMIT`] on it is full until half of it is written. So what is
//! dropped is dropped in one stretch, of which one line tells, and workers' pipes are not paused for each line.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, ErrorKind, IsTerminal, Write},
    os::fd::AsFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::Notify;

use super::format::{Form, MASTER};
use crate::{clock::Clock, level::Level, plural::counted};

/// What the log queue holds before it counts as full, in bytes.
pub const QUEUE_LIMIT: usize = 1024 * 1024;

/// What a line costs beside its bytes: empty lines must fill the queue as well.
const LINE_COST: usize = 64;

/// How long room is waited for in a hurry, from the last time that there was some: a reader that is only slow loses nothing.
const HURRIED_PATIENCE: Duration = Duration::from_secs(1);

/// One per log.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when a line came, or the end.
    lines_came: Condvar,
    /// Notified when all is written.
    all_written: Condvar,
    /// Notified when there is room again.
    room: Notify,
    /// Copies of what is in the state, to be asked without the lock.
    full: AtomicBool,
    closed: AtomicBool,
    /// Waits for room are bounded.
    is_hurried: AtomicBool,
    /// A wait ran into that bound, and there was no room since.
    is_stuck: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Of the line about dropped ones.
    form: Form,
    lines: VecDeque<Line>,
    /// Cost of `lines` and of the line that is being written.
    cost: usize,
    /// Lines that were dropped and not yet told about.
    dropped: u64,
    /// All that were ever dropped.
    dropped_in_all: u64,
    /// The last write failed, of a log that goes on (a full disk): wait for a new line to try again.
    failing: bool,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The writer waits: all is written.
    Idle,
    /// The writer has work.
    #[default]
    Writing,
    /// The same, and takes no more.
    Closing,
    /// There is no writer any more.
    Ended,
}

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    /// How many lines are lost with this one: more than itself, if it tells of dropped ones.
    stands_for: u64,
    /// It is the line that tells of dropped ones, itself never counted.
    is_notice: bool,
}

impl Line {
    fn cost(&self) -> usize {
        self.bytes.len() + LINE_COST
    }
}

impl Queue {
    pub(super) fn start(output: File, form: Form) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::new(Phase::Writing, form));
        let writer = Arc::clone(&queue);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_all(&output))?;
        Ok(queue)
    }

    /// One that takes nothing.
    pub(super) fn closed() -> Arc<Self> {
        Arc::new(Self::new(Phase::Ended, Form::default()))
    }

    fn new(phase: Phase, form: Form) -> Self {
        Self {
            state: Mutex::new(State { form, phase, ..State::default() }),
            lines_came: Condvar::new(),
            all_written: Condvar::new(),
            room: Notify::new(),
            full: AtomicBool::new(false),
            closed: AtomicBool::new(phase == Phase::Ended),
            is_hurried: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn has_room(&self) -> bool {
        !self.full.load(Ordering::Acquire)
    }

    pub(super) async fn room(&self) {
        loop {
            // Made before the questions: a `Notified` hears of everything since its making.
            let notified = self.room.notified();
            if self.has_room() || self.is_stuck() {
                return;
            }
            if !self.is_hurried.load(Ordering::Acquire) {
                notified.await;
            } else if tokio::time::timeout(HURRIED_PATIENCE, notified).await.is_err() {
                let _state = self.lock();
                self.is_stuck.store(!self.has_room(), Ordering::Release);
            }
        }
    }

    /// In a hurry, nobody takes anything.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Ordering::Acquire)
    }

    pub(super) fn hurry(&self) {
        if !self.is_hurried.swap(true, Ordering::AcqRel) {
            self.room.notify_waiters();
        }
    }

    /// Takes a line if there is room, counts it otherwise.
    pub(super) fn try_push(&self, bytes: Vec<u8>) {
        let mut state = self.lock();
        let most = if self.has_room() { QUEUE_LIMIT } else { 0 };
        self.take(&mut state, most, bytes);
    }

    /// Takes a line up to twice the limit.
    pub(super) fn push_over_limit(&self, bytes: Vec<u8>) {
        self.take(&mut self.lock(), 2 * QUEUE_LIMIT, bytes);
    }

    /// `full` changes only while the lock is held, as here: whoever sets it knows that the writer has still to come by.
    fn take(&self, state: &mut State, most: usize, bytes: Vec<u8>) {
        if matches!(state.phase, Phase::Closing | Phase::Ended) {
            return;
        }
        let line = Line { bytes, stands_for: 1, is_notice: false };
        if state.cost + line.cost() > most {
            state.dropped += 1;
            state.dropped_in_all += 1;
        } else {
            state.tell_dropped();
            state.push(line);
            state.failing = false;
        }
        if state.cost >= QUEUE_LIMIT || (state.dropped > 0 && state.cost > QUEUE_LIMIT / 2) {
            self.full.store(true, Ordering::Release);
        }
        if state.phase == Phase::Idle {
            state.phase = Phase::Writing;
            self.lines_came.notify_one();
        }
    }

    pub(super) fn dropped_in_all(&self) -> u64 {
        self.lock().dropped_in_all
    }

    pub(super) fn wait_written(&self, limit: Duration) -> bool {
        let state = self.lock();
        let working = |state: &mut State| matches!(state.phase, Phase::Writing | Phase::Closing);
        let waited = self.all_written.wait_timeout_while(state, limit, working);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    pub(super) fn close(&self, limit: Duration) -> bool {
        self.closed.store(true, Ordering::Release);
        let mut state = self.lock();
        if state.phase != Phase::Ended {
            state.phase = Phase::Closing;
            self.lines_came.notify_one();
        }
        drop(state);
        self.wait_written(limit)
    }

    /// The writer thread.
    fn write_all(&self, output: &File) {
        // Asked now: of a terminal that has closed nothing can be asked.
        let is_terminal = output.is_terminal();
        while let Some(line) = self.next_line() {
            let result = write_line(output, &line.bytes);
            let mut state = self.lock();
            state.cost -= line.cost();
            if let Err(error) = result {
                let is_closed = match error.raw_os_error() {
                    Some(libc::EPIPE | libc::EBADF) => true,
                    Some(libc::EIO | libc::ENXIO) => is_terminal,
                    _ => false,
                };
                if is_closed {
                    state.lines.clear();
                    state.cost = 0;
                    state.phase = Phase::Closing;
                    state.dropped = 0;
                    self.closed.store(true, Ordering::Release);
                } else {
                    state.dropped += line.stands_for;
                    state.dropped_in_all += u64::from(!line.is_notice);
                    state.failing = true;
                }
            }
            if !self.has_room() && state.cost <= QUEUE_LIMIT / 2 {
                self.full.store(false, Ordering::Release);
                self.is_stuck.store(false, Ordering::Release);
                self.room.notify_waiters();
            }
        }
    }

    /// Waits for a line. `None`: the log was closed and all is written.
    fn next_line(&self) -> Option<Line> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                return Some(line);
            }
            state.lines.shrink_to(64);
            if !state.failing && state.tell_dropped() {
                continue;
            }
            if state.phase == Phase::Closing {
                state.phase = Phase::Ended;
                self.all_written.notify_all();
                return None;
            }
            state.phase = Phase::Idle;
            self.all_written.notify_all();
            state = self.lines_came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A poisoned lock is taken all the same: a panic elsewhere is no reason to lose the log.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, line: Line) {
        self.cost += line.cost();
        self.lines.push_back(line);
    }

    /// Puts the line about dropped lines into the queue, if there were any.
    fn tell_dropped(&mut self) -> bool {
        let count = std::mem::take(&mut self.dropped);
        if count == 0 {
            return false;
        }
        let text = format!("{} dropped", counted(count, "line"));
        self.push(Line {
            bytes: self.form.line(Clock::wall(), Level::Warning, MASTER, &text, None).into_bytes(),
            stands_for: count,
            is_notice: true,
        });
        true
    }
}

/// One `write`, unless the other side takes less at once. Waits for an output that somebody made non-blocking.
fn write_line(mut output: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // Its result does not matter: the next write tells.
                let _ = poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
