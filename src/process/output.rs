//! A worker's output: lines for the log, and the last of it as evidence of why it died.
//!
//! Reading never goes on until the end of the pipe (a grandchild may hold it for ever), only through what the pipe holds
//! when the read begins. While the log is full, output is not read: then the
//! pipe fills and the worker waits. Memory is bounded whatever the worker writes.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io::{self, ErrorKind, PipeReader, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use memchr::memchr;

use super::{
    read_state::{ReadState, readable_bytes},
    readiness::Watch,
};

/// Longest line in bytes; the rest of it is dropped.
pub const LINE_LIMIT: usize = 64 * 1024;

/// How much of the end of the output is kept, in bytes.
pub const TAIL: usize = 8 * 1024;

/// What stands at the end of a line that was cut.
pub const CUT_MARK: &str = " … (line cut at 64 KiB)";

/// The master's end of a worker's output pipe. Non-blocking.
#[derive(Debug)]
pub struct Output {
    pipe: Arc<PipeReader>,
    lines: Lines,
    tail: Tail,
}

impl Output {
    /// The output that comes through `pipe`, as [`spawn`](super::spawn()) made it.
    #[must_use]
    pub fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Arc::new(pipe.into()), lines: Lines::default(), tail: Tail::default() }
    }

    /// Tells when there is something to read. Within a tokio runtime with I/O only.
    ///
    /// # Errors
    /// If the pipe cannot be added to the event loop (`epoll_ctl(2)`). The output can still be read.
    pub fn watch(&self) -> io::Result<Watch> {
        Watch::pipe(&self.pipe)
    }

    /// Reads what the pipe holds at this moment and gives each whole line, without its newline, to `line`. Bytes that
    /// are not UTF-8 are replaced. [`ReadState::More`] if more may have come meanwhile: then read again before you wait. The
    /// pipe was never empty, and an edge-triggered poll fires only when it has been.
    ///
    /// # Errors
    /// Those of `read(2)` and `ioctl(2)`. Lines before the error were given to `line`; the beginning of the next one is kept.
    pub fn read_available(&mut self, mut line: impl FnMut(&str)) -> io::Result<ReadState> {
        let mut chunk = [0; 8 * 1024];
        // At least one read, which tells an empty pipe from a closed one.
        let mut wanted = readable_bytes(&self.pipe)?.max(1);
        while wanted > 0 {
            match (&*self.pipe).read(&mut chunk) {
                Ok(0) => return Ok(ReadState::Closed),
                Ok(length) => {
                    wanted = wanted.saturating_sub(length);
                    self.tail.push(&chunk[..length]);
                    self.lines.push(&chunk[..length], &mut line);
                    if length < chunk.len() {
                        return Ok(ReadState::Drained);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(ReadState::Drained),
                Err(error) => return Err(error),
            }
        }
        Ok(ReadState::More)
    }

    /// [`read_available`](Self::read_available) for before a frame is acted on: nothing is read, and one system call
    /// made, if nothing is there.
    ///
    /// # Errors
    /// Those of [`read_available`](Self::read_available).
    pub fn read_held(&mut self, line: impl FnMut(&str)) -> io::Result<ReadState> {
        if readable_bytes(&*self.pipe)? == 0 { Ok(ReadState::Drained) } else { self.read_available(line) }
    }

    /// Gives the last line if it had no newline; for when the worker has ended and all was read.
    pub fn finish(&mut self, line: impl FnMut(&str)) {
        self.lines.finish(line);
    }

    /// The last of what was read, at most [`TAIL`] bytes, from the beginning of a line if there is one.
    #[must_use]
    pub fn tail(&self) -> String {
        self.tail.text()
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line whose end has not come yet; at most [`LINE_LIMIT`].
    begun: Vec<u8>,
    /// The line was given already, cut: what comes until its end is dropped.
    skipping: bool,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(&str)) {
        while let Some(end) = memchr(b'\n', bytes) {
            let (head, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            if self.skipping {
                self.skipping = false;
            } else if self.begun.is_empty() {
                // Shorter than the limit: a chunk is.
                line(&String::from_utf8_lossy(head));
            } else {
                self.begin(head, &mut line);
                if !std::mem::take(&mut self.skipping) {
                    line(&String::from_utf8_lossy(&self.begun));
                    self.forget();
                }
            }
        }
        if !self.skipping {
            self.begin(bytes, line);
        }
    }

    /// Adds to the line that has begun, and gives it, cut, if it gets too long.
    fn begin(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
        let room = LINE_LIMIT - self.begun.len();
        if bytes.len() <= room {
            self.begun.extend_from_slice(bytes);
            return;
        }
        self.begun.extend_from_slice(&bytes[..room]);
        line(&cut(&self.begun));
        self.forget();
        self.skipping = true;
    }

    fn finish(&mut self, mut line: impl FnMut(&str)) {
        if !self.begun.is_empty() {
            line(&String::from_utf8_lossy(&self.begun));
        }
        self.forget();
        self.skipping = false;
    }

    /// Empties the buffer; one that has grown is given back.
    fn forget(&mut self) {
        self.begun.clear();
        self.begun.shrink_to(1024);
    }
}

fn cut(line: &[u8]) -> String {
    let whole = match str::from_utf8(line) {
        // The cut went through a character.
        Err(error) if error.error_len().is_none() => &line[..error.valid_up_to()],
        _ => line,
    };
    String::from_utf8_lossy(whole).into_owned() + CUT_MARK
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
struct Tail {
    ring: VecDeque<u8>,
    /// The last byte that was pushed out: the ring begins at a line if it was a newline.
    before: Option<u8>,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        let over = (self.ring.len() + bytes.len()).saturating_sub(TAIL);
        if over >= self.ring.len() && over > 0 {
            let kept = bytes.len().saturating_sub(TAIL);
            self.before = if kept > 0 { Some(bytes[kept - 1]) } else { self.ring.back().copied() };
            self.ring.clear();
            self.ring.extend(&bytes[kept..]);
        } else {
            if over > 0 {
                self.before = Some(self.ring[over - 1]);
                self.ring.drain(..over);
            }
            self.ring.extend(bytes);
        }
    }

    fn text(&self) -> String {
        let (front, back) = self.ring.as_slices();
        let bytes: Cow<'_, [u8]> = if back.is_empty() { front.into() } else { [front, back].concat().into() };
        let mut start = 0;
        if self.before.is_some_and(|byte| byte != b'\n') {
            let in_ring = &bytes[..bytes.len().saturating_sub(1)];
            start = match in_ring.iter().position(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                // One long line: at least not from the middle of a character.
                None => bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count(),
            };
        }
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut cutter = Lines::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            cutter.push(chunk, |line| lines.push(line.to_owned()));
        }
        cutter.finish(|line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_come_whole_however_they_were_read() {
        assert_eq!(lines(&[b"a\nb", b"c\n", b"\n", b"d"]), ["a", "bc", "", "d"]);
        assert_eq!(lines(&["ä".as_bytes()[..1].as_ref(), &"ä".as_bytes()[1..], b"\n"]), ["ä"]);
        assert_eq!(lines(&[b"a\xffb\n"]), ["a\u{fffd}b"]);
        assert!(lines(&[b"", b""]).is_empty());
    }

    #[test]
    fn a_long_line_is_cut_once_and_the_next_is_whole() {
        let part = [b'x'; 1000];
        let mut chunks = vec![part.as_slice(); 200];
        chunks.push(b"end\nnext\n");
        let lines = lines(&chunks);
        assert_eq!(lines, ["x".repeat(LINE_LIMIT) + CUT_MARK, "next".to_owned()]);
    }

    #[test]
    fn a_line_of_the_limit_is_not_cut() {
        let half = vec![b'x'; LINE_LIMIT / 2];
        assert_eq!(lines(&[&half, &half, b"\n"]), ["x".repeat(LINE_LIMIT)]);
        let cut = lines(&[&half, &half, b"y\nz\n"]);
        assert_eq!(cut, ["x".repeat(LINE_LIMIT) + CUT_MARK, "z".to_owned()]);
    }

    #[test]
    fn a_cut_does_not_go_through_a_character() {
        assert_eq!(cut("aä".as_bytes().split_last().unwrap().1), format!("a{CUT_MARK}"));
    }

    fn tail(chunks: &[&[u8]]) -> String {
        let mut tail = Tail::default();
        for chunk in chunks {
            tail.push(chunk);
        }
        tail.text()
    }

    #[test]
    fn the_tail_is_the_end_from_a_line_on() {
        assert_eq!(tail(&[b"a\n", b"b"]), "a\nb");
        let line = [b"0123456789abcde\n".as_slice(); 1000];
        assert_eq!(tail(&line).len(), TAIL, "it begins at a line already");
        assert!(tail(&line).starts_with("0123"));
        let mut shifted = line.to_vec();
        shifted.push(b"xyz");
        let text = tail(&shifted);
        assert!(text.starts_with("0123") && text.ends_with("\nxyz"), "{text:.40}");
        assert_eq!(text.len(), TAIL - 13);
        let huge = ["ä".repeat(100_000).into_bytes(), b"x".to_vec()].concat();
        let text = tail(&[&huge]);
        assert!(text.starts_with('ä') && text.ends_with("äx"));
    }
}
