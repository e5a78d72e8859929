//! The master's end of a worker's frame socket.
//!
//! It never blocks and never grows without bound: what the worker does not read is kept up to [`UNSENT_LIMIT`], and a
//! worker whose frame has no end is at fault at [`frames::LIMIT`](crate::frames::LIMIT). Many frames cost one read or one
//! write; buffers that a large frame has grown are given back.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
};

use super::{
    read_state::{ReadState, readable_bytes},
    readiness::{Room, Watch},
};
use crate::frames::{LIMIT, LineBuffer};

/// Most bytes that wait for a worker to read them: two frames of the largest size.
pub const UNSENT_LIMIT: usize = 2 * LIMIT;

/// After this many bytes [`FrameChannel::read_frames`] gives others their turn.
const TURN: usize = 1024 * 1024;

/// Size of the outgoing buffer at rest.
const REST: usize = 64 * 1024;

/// Why a worker's socket is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A frame over the limit.
    #[error("a frame of the worker exceeds {LIMIT} bytes")]
    Oversized,
    /// The worker does not read, and too much waits for it.
    #[error("the worker does not read its frames: {UNSENT_LIMIT} bytes wait for it")]
    Clogged,
    /// The operating system's word, `BrokenPipe` or `ConnectionReset` if the worker has closed its end.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A frame socket with its buffers.
#[derive(Debug)]
pub struct FrameChannel {
    stream: Arc<UnixStream>,
    inbox: LineBuffer,
    outbox: Vec<u8>,
    sent: usize,
    unread: bool,
}

impl FrameChannel {
    /// The channel over `stream`, which must be non-blocking, as [`spawn`](super::spawn()) made it.
    #[must_use]
    pub fn new(stream: UnixStream) -> Self {
        Self { stream: Arc::new(stream), inbox: LineBuffer::new(), outbox: Vec::new(), sent: 0, unread: false }
    }

    /// Tells when there is something to read. Within a tokio runtime with I/O only.
    ///
    /// # Errors
    /// If the socket cannot be added to the event loop (`epoll_ctl(2)`). The channel stays as it is.
    pub fn watch(&self) -> io::Result<Watch> {
        Watch::socket(&self.stream)
    }

    /// Tells when there is room to write; for as long as something [waits](Self::has_unsent). Within a tokio runtime
    /// with I/O only.
    ///
    /// # Errors
    /// Those of [`watch`](Self::watch).
    pub fn watch_room(&self) -> io::Result<Room> {
        Room::of(&self.stream)
    }

    /// Takes one frame, its newline included, to be sent by [`flush`](Self::flush) with those before it. One that is large is sent
    /// at once as far as the worker's end takes it, rather than copied.
    ///
    /// # Errors
    /// [`Fault::Clogged`] if more than [`UNSENT_LIMIT`] bytes would wait: nothing of the frame is sent, and the channel stays usable.
    /// [`Fault::Io`] if the worker has closed its end: the channel is of no use any more.
    pub fn push(&mut self, frame: &[u8]) -> Result<(), Fault> {
        debug_assert_eq!(frame.last(), Some(&b'\n'), "a frame ends with its newline");
        if self.unsent() + frame.len() > UNSENT_LIMIT {
            return Err(Fault::Clogged);
        }
        let written = if self.has_unsent() || frame.len() < REST { 0 } else { self.write_now(frame)? };
        self.outbox.extend_from_slice(&frame[written..]);
        Ok(())
    }

    /// [`push`](Self::push) and [`flush`](Self::flush).
    ///
    /// # Errors
    /// Those of both.
    pub fn send(&mut self, frame: &[u8]) -> Result<(), Fault> {
        self.push(frame)?;
        self.flush().map(drop)
    }

    /// Sends what waits, as far as the worker's end takes it; for when the socket is writable. Whether all is sent.
    ///
    /// # Errors
    /// [`Fault::Io`] if the worker has closed its end. Bytes that were not sent stay and are never sent.
    pub fn flush(&mut self) -> Result<bool, Fault> {
        while self.has_unsent() {
            match self.write_now(&self.outbox[self.sent..])? {
                0 => break,
                written => self.sent += written,
            }
        }
        if !self.has_unsent() {
            self.outbox.clear();
            self.outbox.shrink_to(REST);
            self.sent = 0;
        } else if self.sent > LIMIT {
            self.outbox.drain(..self.sent);
            self.sent = 0;
        }
        Ok(!self.has_unsent())
    }

    /// Bytes that wait for the worker to read.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.outbox.len() - self.sent
    }

    /// Whether to wait until the socket is writable and then [`flush`](Self::flush).
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.unsent() > 0
    }

    /// Reads what has come, up to a fair share, and gives each whole frame, without its newline, to `frame`.
    /// [`ReadState::Drained`] may be said after a read that came back short, with no further call to make sure:
    /// new bytes make an edge-triggered poll fire again.
    ///
    /// After [`ReadState::Closed`] nothing more comes.
    ///
    /// # Errors
    /// [`Fault::Oversized`] if a frame has no end within [`LIMIT`], [`Fault::Io`] if the read fails. Frames before the error were given
    /// to `frame`; nothing more can be read from the channel.
    pub fn read_frames(&mut self, frame: impl FnMut(&[u8])) -> Result<ReadState, Fault> {
        self.read_up_to(TURN, frame)
    }

    /// Reads all that the socket holds at this moment; for when the worker has ended. Never until the end of the
    /// stream, which a grandchild may keep open.
    ///
    /// # Errors
    /// Those of [`read_frames`](Self::read_frames).
    pub fn read_last_frames(&mut self, frame: impl FnMut(&[u8])) -> Result<(), Fault> {
        // At least one read, which tells a socket that was closed unread.
        let held = readable_bytes(&*self.stream)?.max(1);
        self.read_up_to(held, frame).map(drop)
    }

    /// [`read_frames`](Self::read_frames) for before a limit is judged: what the socket holds at this moment, without a read
    /// if that is nothing.
    ///
    /// # Errors
    /// Those of [`read_frames`](Self::read_frames).
    pub fn read_held_frames(&mut self, frame: impl FnMut(&[u8])) -> Result<ReadState, Fault> {
        match readable_bytes(&*self.stream)? {
            0 => Ok(ReadState::Drained),
            held => self.read_up_to(held, frame),
        }
    }

    /// Whether the worker closed its end with bytes in it that it had not read: it has not seen the end of the last
    /// frame. Known once [`ReadState::Closed`] was said.
    #[must_use]
    pub const fn closed_unread(&self) -> bool {
        self.unread
    }

    fn read_up_to(&mut self, most: usize, mut frame: impl FnMut(&[u8])) -> Result<ReadState, Fault> {
        let mut left = most;
        while left > 0 {
            let space = self.inbox.room();
            let room = space.len();
            let length = match (&*self.stream).read(space) {
                Ok(0) => return Ok(ReadState::Closed),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(ReadState::Drained),
                // unix(7): the other end was closed with unread bytes in it.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.unread = true;
                    return Ok(ReadState::Closed);
                }
                Err(error) => return Err(error.into()),
            };
            self.inbox.came(length);
            // The one fault of a stream that is only cut into lines.
            while let Some(line) = self.inbox.next_line().map_err(|_| Fault::Oversized)? {
                frame(line);
            }
            if length < room {
                return Ok(ReadState::Drained);
            }
            left = left.saturating_sub(length);
        }
        Ok(ReadState::More)
    }

    /// One write; zero bytes if the socket is full.
    fn write_now(&self, bytes: &[u8]) -> Result<usize, Fault> {
        loop {
            match (&*self.stream).write(bytes) {
                Ok(written) => return Ok(written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for FrameChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (FrameChannel, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (FrameChannel::new(ours), theirs)
    }

    fn frames(channel: &mut FrameChannel) -> (Vec<Vec<u8>>, ReadState) {
        let mut frames = Vec::new();
        let state = channel.read_frames(|frame| frames.push(frame.to_vec())).unwrap();
        (frames, state)
    }

    #[test]
    fn many_frames_come_with_one_read_and_a_half_one_waits() {
        let (mut channel, mut worker) = pair();
        worker.write_all(b"a\nbb\n\nccc").unwrap();
        assert_eq!(frames(&mut channel), (vec![b"a".to_vec(), b"bb".to_vec(), vec![]], ReadState::Drained));
        worker.write_all(b"c\n").unwrap();
        assert_eq!(frames(&mut channel), (vec![b"cccc".to_vec()], ReadState::Drained));
        assert_eq!(frames(&mut channel), (vec![], ReadState::Drained));
        worker.write_all(b"last\nbroken off").unwrap();
        drop(worker);
        assert_eq!(frames(&mut channel).0, [b"last".to_vec()]);
        assert_eq!(frames(&mut channel).1, ReadState::Closed);
    }

    #[test]
    fn large_frames_go_through_both_ways_and_leave_small_buffers() {
        let (mut channel, worker) = pair();
        let mut large = vec![b'x'; LIMIT - 1];
        large.push(b'\n');
        let expected = large.clone();
        let echo = std::thread::spawn(move || {
            let (mut read, mut back) = (worker.try_clone().unwrap(), worker);
            let mut frame = vec![0; LIMIT];
            for _ in 0..2 {
                read.read_exact(&mut frame).unwrap();
            }
            back.write_all(&frame).unwrap();
            frame
        });
        channel.send(&large).unwrap();
        assert!(channel.has_unsent());
        channel.send(&large).unwrap();
        assert!(matches!(channel.send(&large), Err(Fault::Clogged)));
        while !channel.flush().unwrap() {
            wait(&channel, nix::poll::PollFlags::POLLOUT);
        }
        assert!(channel.outbox.capacity() <= REST);
        let mut got = Vec::new();
        while got.is_empty() {
            wait(&channel, nix::poll::PollFlags::POLLIN);
            channel.read_frames(|frame| got.push(frame.len())).unwrap();
        }
        assert_eq!(got, [LIMIT - 1]);
        assert!(echo.join().unwrap() == expected);
    }

    #[test]
    fn a_frame_without_an_end_is_a_fault() {
        let (mut channel, mut worker) = pair();
        std::thread::spawn(move || {
            let chunk = vec![b'x'; 1024 * 1024];
            while worker.write_all(&chunk).is_ok() {}
        });
        let fault = loop {
            wait(&channel, nix::poll::PollFlags::POLLIN);
            if let Err(fault) = channel.read_frames(|_| panic!("there is no frame")) {
                break fault;
            }
        };
        assert!(matches!(fault, Fault::Oversized));
    }

    #[test]
    fn a_worker_that_is_gone_is_an_error_and_not_a_signal() {
        let (mut channel, worker) = pair();
        drop(worker);
        assert!(matches!(channel.send(b"a\n"), Err(Fault::Io(error)) if error.kind() == ErrorKind::BrokenPipe));
    }

    #[test]
    fn the_last_frames_are_read_while_a_grandchild_holds_the_socket() {
        let (mut channel, mut worker) = pair();
        let grandchild = worker.try_clone().unwrap();
        worker.write_all(b"a\nb\nhal").unwrap();
        drop(worker);
        let mut count = 0;
        channel.read_last_frames(|_| count += 1).unwrap();
        assert_eq!(count, 2);
        channel.read_last_frames(|_| panic!("there is no frame")).unwrap();
        drop(grandchild);
    }

    fn wait(channel: &FrameChannel, what: nix::poll::PollFlags) {
        let mut descriptors = [nix::poll::PollFd::new(channel.as_fd(), what)];
        assert_eq!(nix::poll::poll(&mut descriptors, 20_000u16).unwrap(), 1, "nothing happened for 20 s");
    }
}
