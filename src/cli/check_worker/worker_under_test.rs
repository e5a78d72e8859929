//! The program that is checked, as its master has it: frames in and out, and its end. Blocks, with a limit.

use std::{collections::VecDeque, io, os::fd::AsFd, time::Duration};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{
    clock::{Clock, Instant},
    frames::{self, FromWorker},
    process::{
        Environment, FrameChannel, Output, Program, ReadState, Signal, Signals, frame_channel, kill_group, next_exit,
        reap::GroupSignal, spawn,
    },
    task::Exit,
};

/// What came of the program.
#[derive(Debug)]
pub(super) enum Received {
    /// A frame.
    Frame(FromWorker),
    /// Something that is no frame.
    Fault(String),
    /// It has ended; its last frames were received before.
    Ended(Exit),
    /// Nothing in time.
    Silence,
}

/// A running program.
pub(super) struct WorkerUnderTest<'a> {
    pid: u32,
    channel: FrameChannel,
    output: Output,
    signals: &'a Signals,
    clock: Clock,
    received: VecDeque<Received>,
    link_is_open: bool,
    output_is_open: bool,
    is_reaped: bool,
}

impl<'a> WorkerUnderTest<'a> {
    /// Starts it. On the main thread.
    ///
    /// # Errors
    /// Why it could not be started.
    pub(super) fn start(
        program: &Program,
        environment: &Environment,
        signals: &'a Signals,
        clock: Clock,
    ) -> io::Result<Self> {
        let spawned = spawn(program, environment)?;
        Ok(Self {
            pid: spawned.pid,
            channel: FrameChannel::new(spawned.frames),
            output: Output::new(spawned.output),
            signals,
            clock,
            received: VecDeque::new(),
            link_is_open: true,
            output_is_open: true,
            is_reaped: false,
        })
    }

    /// Sends a frame. A program that has closed its socket does not get it: how it ended is received.
    pub(super) fn send(&mut self, frame: &[u8]) {
        if let Err(fault) = self.channel.send(frame) {
            self.broke(&fault);
        }
    }

    /// Waits for the next thing that it does, until `limit`.
    ///
    /// # Errors
    /// Those of the operating system, and `Interrupted` after a signal that asks for the end of this process.
    pub(super) fn receive(&mut self, limit: Instant) -> io::Result<Received> {
        loop {
            if let Some(received) = self.received.pop_front() {
                return Ok(received);
            }
            let left = limit.since(self.clock.now().at);
            if self.is_reaped || left.is_zero() || !self.wait(left)? {
                return Ok(Received::Silence);
            }
            self.take_in()?;
        }
    }

    /// Kills it, if it runs, and waits until it is gone.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(super) fn kill(mut self) -> io::Result<()> {
        while !self.is_reaped {
            kill_group(self.pid, GroupSignal::Kill)?;
            self.wait(Duration::from_secs(1))?;
            self.take_in()?;
        }
        Ok(())
    }

    /// Whether something came before the time was over.
    fn wait(&self, left: Duration) -> io::Result<bool> {
        let mut flags = PollFlags::POLLIN;
        flags.set(PollFlags::POLLOUT, self.channel.has_unsent());
        let mut descriptors = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if self.link_is_open {
            descriptors.push(PollFd::new(self.channel.as_fd(), flags));
        }
        if self.output_is_open {
            descriptors.push(PollFd::new(self.output.as_fd(), PollFlags::POLLIN));
        }
        // Up, so that it is never asked again before the time.
        let millis = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        match poll(&mut descriptors, PollTimeout::from(millis)) {
            Ok(count) => Ok(count > 0 || left > Duration::from_millis(millis.into())),
            Err(Errno::EINTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn take_in(&mut self) -> io::Result<()> {
        self.output_is_open =
            self.output_is_open && self.output.read_available(|line| eprintln!("{line}"))? != ReadState::Closed;
        if self.link_is_open {
            if let Err(fault) = self.channel.flush() {
                self.broke(&fault);
            }
            let received = &mut self.received;
            match self.channel.read_frames(|line| received.push_back(received_in(line))) {
                Ok(ReadState::Closed) => self.link_is_open = false,
                Ok(ReadState::Drained | ReadState::More) => {}
                Err(fault) => self.broke(&fault),
            }
        }
        let mut is_wanted = true;
        for signal in self.signals.drain() {
            match signal {
                Signal::Child => self.reap()?,
                Signal::Terminate | Signal::Interrupt | Signal::Quit => is_wanted = false,
                Signal::HangUp | Signal::User1 => {}
            }
        }
        if is_wanted { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    }

    fn reap(&mut self) -> io::Result<()> {
        while let Some(ended) = next_exit(|pid| pid == self.pid)? {
            let received = &mut self.received;
            if self.link_is_open {
                // A socket that cannot be read any more has nothing to say.
                let _ = self.channel.read_last_frames(|line| received.push_back(received_in(line)));
            }
            received.push_back(Received::Ended(ended.exit));
            let _ = self.output.read_available(|line| eprintln!("{line}"));
            self.output.finish(|line| eprintln!("{line}"));
            self.is_reaped = true;
        }
        Ok(())
    }

    /// Its end of the socket is closed, or it is at fault.
    fn broke(&mut self, fault: &frame_channel::Fault) {
        self.link_is_open = false;
        if !matches!(fault, frame_channel::Fault::Io(_)) {
            self.received.push_back(Received::Fault(fault.to_string()));
        }
    }
}

fn received_in(line: &[u8]) -> Received {
    frames::parse(line).map_or_else(|fault| Received::Fault(fault.to_string()), Received::Frame)
}
