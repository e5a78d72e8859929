//! The shell's ends of the worker processes: frames in and out, output to the log, events to the core.
//!
//! Two tasks of the runtime watch each worker, one its socket, one its output. They turn what comes into events in
//! the [`Inbox`]; nothing is decided here. Before the frames of a turn become events, the output that the worker had
//! written by then is read, so that its lines stand before the master's own about the same task.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    rc::Rc,
};

use tokio::{sync::Notify, task::JoinHandle};

use super::once_files::OnceFiles;
use crate::{
    frames,
    logging::{LogContext, Logger},
    master::core::event::{Event, WorkerId, Written},
    process::{FrameChannel, Output, PayloadFile, ReadState, Spawned, SpawnedOnce, Watch, frame_channel},
};

/// Events that wait for the core.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    events: RefCell<VecDeque<Event>>,
    filled: Notify,
}

impl Inbox {
    pub(super) fn push(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        self.filled.notify_one();
    }

    pub(super) fn take(&self) -> VecDeque<Event> {
        std::mem::take(&mut *self.events.borrow_mut())
    }

    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}

/// A process that was started, with frames or without.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    frames: Option<UnixStream>,
    output: OwnedFd,
    master_peak_bytes: u64,
    payload: Option<PayloadFile>,
    files: Option<OnceFiles>,
}

impl Process {
    /// The same, with files to read from and to write to.
    pub(super) fn with_files(self, files: Option<OnceFiles>) -> Self {
        Self { files, ..self }
    }
}

impl From<Spawned> for Process {
    fn from(spawned: Spawned) -> Self {
        let Spawned { pid, frames, output, master_peak_bytes } = spawned;
        Self { pid, frames: Some(frames), output, master_peak_bytes, payload: None, files: None }
    }
}

impl From<SpawnedOnce> for Process {
    fn from(spawned: SpawnedOnce) -> Self {
        let SpawnedOnce { pid, output, master_peak_bytes, payload } = spawned;
        Self { pid, frames: None, output, master_peak_bytes, payload, files: None }
    }
}

/// Our end of the frame socket.
#[derive(Debug)]
struct Ends {
    channel: RefCell<FrameChannel>,
    ready: Watch,
}

/// A running worker process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) pid: u32,
    /// The master's own peak memory when it was started.
    pub(super) master_peak_bytes: u64,
    /// Out-of-memory kills counted when it was started.
    pub(super) oom_before: Option<u64>,
    /// A process for one task speaks no frames.
    ends: Option<Ends>,
    /// Removed with this.
    payload: Option<PayloadFile>,
    /// What it reads and writes beside its payload.
    files: Option<OnceFiles>,
    output: RefCell<Output>,
    output_ready: Watch,
    /// The channel has unsent bytes now: wait for it to be writable too.
    unsent: Notify,
    /// Nothing can be sent to it any more.
    broken: Cell<bool>,
    /// Everything that it will ever say was read.
    closed: Cell<bool>,
    /// The process was waited for.
    reaped: Cell<bool>,
    /// Frames were taken that [`flush`](Self::flush) is to write.
    to_be_flushed: Cell<bool>,
    /// The last frame could not be sent.
    undelivered: Cell<bool>,
    inbox: Rc<Inbox>,
    logger: Logger,
    /// Whose lines its output is.
    context: LogContext,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

impl Worker {
    /// Takes over a process that was just started and begins to watch it.
    pub(super) fn watch(
        id: WorkerId,
        process: Process,
        mut context: LogContext,
        oom_before: Option<u64>,
        inbox: Rc<Inbox>,
        logger: Logger,
    ) -> io::Result<Rc<Self>> {
        context.pid = Some(process.pid);
        let output = Output::new(process.output);
        let ends = match process.frames.map(FrameChannel::new) {
            Some(channel) => Some(Ends { ready: channel.watch()?, channel: RefCell::new(channel) }),
            None => None,
        };
        let worker = Rc::new(Self {
            id,
            pid: process.pid,
            master_peak_bytes: process.master_peak_bytes,
            payload: process.payload,
            files: process.files,
            oom_before,
            ends,
            output_ready: output.watch()?,
            output: RefCell::new(output),
            unsent: Notify::new(),
            broken: Cell::new(false),
            closed: Cell::new(false),
            reaped: Cell::new(false),
            to_be_flushed: Cell::new(false),
            undelivered: Cell::new(false),
            inbox,
            logger,
            context,
            tasks: RefCell::default(),
        });
        let mut tasks = vec![tokio::task::spawn_local(watch_output(Rc::clone(&worker)))];
        if worker.ends.is_some() {
            tasks.push(tokio::task::spawn_local(watch_frames(Rc::clone(&worker))));
        }
        worker.tasks.borrow_mut().extend(tasks);
        Ok(worker)
    }

    /// The name of its slot.
    pub(super) fn slot(&self) -> &str {
        self.context.slot.as_deref().unwrap_or_default()
    }

    /// What it has written, if it was given files for that.
    pub(super) fn written(&self) -> Option<Box<Written>> {
        self.files.as_ref().map(|files| Box::new(files.written()))
    }

    /// Descriptors that are open for it in this process.
    pub(super) fn descriptors(&self) -> u64 {
        1 + u64::from(self.ends.is_some()) + u64::from(self.payload.is_some()) + u64::from(self.files.is_some())
    }

    /// Takes a frame, to be written by [`flush`](Self::flush). Whether that is to be called for it: not if it will be for an earlier
    /// frame.
    #[must_use]
    pub(super) fn send(&self, frame: &[u8]) -> bool {
        let Some(ends) = &self.ends else { return false };
        // A process that it started may hold the socket open, and reads nothing.
        if self.broken.get() || self.reaped.get() {
            self.undelivered.set(true);
            return false;
        }
        let pushed = ends.channel.borrow_mut().push(frame);
        if let Err(fault) = pushed {
            self.undelivered.set(true);
            self.broke(&fault);
            return false;
        }
        !self.to_be_flushed.replace(true)
    }

    /// Writes the frames that were taken, as far as the socket takes them; the rest when it has room.
    pub(super) fn flush(&self) {
        self.to_be_flushed.set(false);
        let Some(ends) = self.ends.as_ref().filter(|_| !self.broken.get()) else { return };
        let flushed = ends.channel.borrow_mut().flush();
        match flushed {
            Ok(true) => {}
            Ok(false) => self.unsent.notify_one(),
            Err(fault) => {
                self.undelivered.set(true);
                self.broke(&fault);
            }
        }
    }

    /// The process was reaped: everything that it said is read. Its last output.
    pub(super) fn drain(&self) -> String {
        self.reaped.set(true);
        for task in self.tasks.borrow_mut().drain(..) {
            task.abort();
        }
        let mut events = Vec::new();
        if let Some(ends) = self.ends.as_ref().filter(|_| !self.closed.get()) {
            let id = self.id;
            // A socket that cannot be read any more has nothing to say.
            let _ = ends.channel.borrow_mut().read_last_frames(|line| events.push(event_of(id, line)));
        }
        let mut output = self.output.borrow_mut();
        let _ = output.read_available(|line| self.logger.worker_line(line, &self.context));
        output.finish(|line| self.logger.worker_line(line, &self.context));
        for event in events {
            self.inbox.push(event);
        }
        output.tail()
    }

    /// Of a process that was reaped: whether it ended without having read the last frame.
    pub(super) fn ended_unread(&self) -> bool {
        let is_unread = |ends: &Ends| {
            let channel = ends.channel.borrow();
            channel.closed_unread() || channel.has_unsent()
        };
        self.undelivered.get() || self.ends.as_ref().is_some_and(is_unread)
    }

    /// Reads what the socket holds at this moment, whether or not its task has heard of it. The end of the stream is left
    /// to that task.
    pub(super) fn catch_up(&self) {
        if let Some(ends) = self.ends.as_ref().filter(|_| !self.closed.get()) {
            self.read(ends, |channel, frame| channel.read_held_frames(frame));
        }
    }

    /// Reads the frames that have come; true if there may be more at once.
    fn read_frames(&self, ends: &Ends) -> ReadState {
        self.read(ends, |channel, frame| channel.read_frames(frame))
    }

    fn read(
        &self,
        ends: &Ends,
        read: impl FnOnce(&mut FrameChannel, &mut dyn FnMut(&[u8])) -> Result<ReadState, frame_channel::Fault>,
    ) -> ReadState {
        let mut events = Vec::new();
        let id = self.id;
        let state = read(&mut ends.channel.borrow_mut(), &mut |line| events.push(event_of(id, line)));
        // An end of the pipe is for the other task to notice.
        let _ = self.output.borrow_mut().read_held(|line| self.logger.worker_line(line, &self.context));
        for event in events {
            self.inbox.push(event);
        }
        state.unwrap_or_else(|fault| {
            self.broke(&fault);
            ReadState::Closed
        })
    }

    fn read_output(&self) -> ReadState {
        let mut output = self.output.borrow_mut();
        output.read_available(|line| self.logger.worker_line(line, &self.context)).unwrap_or(ReadState::Closed)
    }

    /// The socket is of no use any more.
    fn broke(&self, fault: &frame_channel::Fault) {
        self.broken.set(true);
        let worker = self.id;
        self.inbox.push(match fault {
            frame_channel::Fault::Io(_) => Event::HungUp { worker },
            frame_channel::Fault::Oversized | frame_channel::Fault::Clogged => {
                Event::Faulted { worker, fault: fault.to_string() }
            }
        });
    }
}

fn event_of(worker: WorkerId, line: &[u8]) -> Event {
    match frames::parse(line) {
        Ok(frame) => Event::Said { worker, frame },
        Err(fault) => Event::Faulted { worker, fault: fault.to_string() },
    }
}

async fn watch_frames(worker: Rc<Worker>) {
    let Some(ends) = &worker.ends else { return };
    loop {
        let has_unsent = ends.channel.borrow().has_unsent();
        tokio::select! {
            readable = ends.ready.readable() => {
                if readable.is_err() {
                    return;
                }
                loop {
                    match worker.read_frames(ends) {
                        ReadState::Drained => break,
                        ReadState::More => tokio::task::yield_now().await,
                        ReadState::Closed => {
                            worker.closed.set(true);
                            if !worker.broken.replace(true) {
                                worker.inbox.push(Event::HungUp { worker: worker.id });
                            }
                            return;
                        }
                    }
                }
            }
            writable = room(ends), if has_unsent => {
                let flushed = ends.channel.borrow_mut().flush();
                match (writable, flushed) {
                    (Err(_), _) => return,
                    (Ok(()), Err(fault)) => return worker.broke(&fault),
                    (Ok(()), Ok(_)) => {}
                }
            }
            () = worker.unsent.notified() => {}
        }
    }
}

/// Waits until the worker's socket takes more.
async fn room(ends: &Ends) -> io::Result<()> {
    let room = ends.channel.borrow().watch_room()?;
    room.writable().await
}

async fn watch_output(worker: Rc<Worker>) {
    loop {
        // A full log must not grow: the worker's pipe fills, and the worker waits.
        worker.logger.room().await;
        match worker.read_output() {
            // A pipe that was refilled before it was empty does not fire again: a worker that writes more than it holds at once
            // waits for the master, which must not wait for the worker.
            ReadState::More => tokio::task::yield_now().await,
            ReadState::Drained if worker.output_ready.readable().await.is_ok() => {}
            ReadState::Drained | ReadState::Closed => return,
        }
    }
}
