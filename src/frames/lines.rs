//! Splits a stream into lines, as it comes.
//!
//! Each byte is looked at once and moved a bounded number of times, however the stream is cut into pieces;
//! memory follows the longest line and is given back after it.

use std::io::{self, Read};

use memchr::memchr;

use super::fault::{Fault, LIMIT};

/// The first allocation, and the least that one read asks for.
const FIRST: usize = 8 * 1024;

/// What may stay allocated between lines.
const KEPT: usize = 256 * 1024;

/// Bytes that came and were not taken yet.
#[derive(Debug, Default)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// No newline lies between `start` and here.
    scanned: usize,
    /// Where the bytes that came end.
    end: usize,
}

impl LineBuffer {
    /// An empty one; it allocates at the first read.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, scanned: 0, end: 0 }
    }

    /// Reads once from `stream`, at most what fits. 0 is the end of the stream.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn read_from(&mut self, stream: &mut impl Read) -> io::Result<usize> {
        let room = self.room();
        let count = stream.read(room)?;
        self.came(count);
        Ok(count)
    }

    /// Free space to read into, never empty; [`Self::came`] says how much of it was filled.
    pub fn room(&mut self) -> &mut [u8] {
        self.give_back();
        if self.end == self.bytes.len() {
            // Moving only what is at most half keeps the moves proportional to the bytes that came.
            if self.start >= self.bytes.len().div_ceil(2).max(1) {
                self.bytes.copy_within(self.start..self.end, 0);
                self.scanned -= self.start;
                self.end -= self.start;
                self.start = 0;
            } else {
                self.bytes.resize((self.bytes.len() * 2).max(FIRST), 0);
            }
        }
        &mut self.bytes[self.end..]
    }

    /// Gives back what a long line has taken, once all of it was taken out.
    pub fn give_back(&mut self) {
        if self.start == self.end {
            (self.start, self.scanned, self.end) = (0, 0, 0);
            if self.bytes.len() > KEPT {
                self.bytes = Vec::new();
            }
        }
    }

    /// The first `count` bytes of [`Self::room`] are filled.
    pub fn came(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Whether no byte is waiting: neither a line nor the beginning of one.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether a whole line has come.
    ///
    /// # Errors
    /// [`Fault::TooLong`]. The stream cannot be used any further then.
    pub fn has_line(&mut self) -> Result<bool, Fault> {
        let newline = memchr(b'\n', &self.bytes[self.scanned..self.end]);
        self.scanned = newline.map_or(self.end, |found| self.scanned + found);
        if self.scanned - self.start >= LIMIT { Err(Fault::TooLong) } else { Ok(newline.is_some()) }
    }

    /// The next whole line, without its newline; `None` until more has come.
    ///
    /// # Errors
    /// [`Fault::TooLong`]. The stream cannot be used any further then.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, Fault> {
        if !self.has_line()? {
            return Ok(None);
        }
        let line = self.start..self.scanned;
        self.start = self.scanned + 1;
        self.scanned = self.start;
        Ok(Some(&self.bytes[line]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(mut stream: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, Fault> {
        let mut buffer = LineBuffer::new();
        let mut lines = Vec::new();
        loop {
            let (now, later) = stream.split_at(piece.min(stream.len()));
            let mut now = now;
            while !now.is_empty() {
                buffer.read_from(&mut now).unwrap();
                while let Some(line) = buffer.next_line()? {
                    lines.push(line.to_vec());
                }
            }
            stream = later;
            if stream.is_empty() {
                return Ok(lines);
            }
        }
    }

    #[test]
    fn a_stream_gives_the_same_lines_however_it_is_cut() {
        let mut stream = Vec::new();
        for length in [0, 1, 5, 8191, 8192, 8193, 40_000, 3, 300_000, 2, 2] {
            stream.extend(std::iter::repeat_n(b'x', length));
            stream.push(b'\n');
        }
        stream.extend_from_slice(b"not ended");
        let whole = lines_of(&stream, usize::MAX).unwrap();
        assert_eq!(
            whole.iter().map(Vec::len).collect::<Vec<_>>(),
            [0, 1, 5, 8191, 8192, 8193, 40_000, 3, 300_000, 2, 2]
        );
        for piece in [1, 7, 100, 8192, 65_536] {
            assert_eq!(lines_of(&stream, piece).unwrap(), whole, "{piece}");
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        let mut stream = vec![b'x'; LIMIT - 1];
        stream.push(b'\n');
        assert_eq!(lines_of(&stream, 1 << 20).unwrap()[0].len(), LIMIT - 1);
        stream.insert(0, b'x');
        assert_eq!(lines_of(&stream, 1 << 20), Err(Fault::TooLong));
        assert_eq!(lines_of(&vec![b'x'; LIMIT], 1 << 20), Err(Fault::TooLong));
    }

    #[test]
    fn memory_of_a_long_line_is_given_back() {
        let mut buffer = LineBuffer::new();
        let mut long = vec![b'x'; 4 << 20];
        long.push(b'\n');
        let mut stream = &long[..];
        while buffer.next_line().unwrap().is_none() {
            buffer.read_from(&mut stream).unwrap();
        }
        assert!(buffer.is_empty());
        assert!(buffer.room().len() <= KEPT);
    }
}
