//! Lines of standard input, read ahead of their storing.
//!
//! A thread reads and checks them, since nothing wakes a read of standard input. It hands over what it has when that is
//! enough for one step, or when the next line is not there yet: a producer that is slow sees its tasks stored at once.

use std::{
    io::{self, BufRead, BufReader},
    thread,
};

use tokio::sync::mpsc;

use crate::task::{json_payload, without_mark};

/// Tasks that are stored in one step.
const MOST: usize = 1000;
/// Bytes of payload that are stored in one step, unless one task has more.
const MOST_BYTES: usize = 8 << 20;
/// Longest line, in bytes.
const LINE_LIMIT: usize = 64 * 1024 * 1024;
/// Bytes that are read at once.
const READ: usize = 256 * 1024;

/// Payloads with the numbers of their lines.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) payloads: Vec<Vec<u8>>,
    /// In the same order, from 1.
    pub(super) lines: Vec<u64>,
    /// Nothing comes after it, because of this line.
    pub(super) bad: Option<Bad>,
    bytes: usize,
}

/// Why reading ended before the end.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) line: u64,
    pub(super) error: String,
}

/// Begins to read standard input.
pub(super) fn read() -> io::Result<mpsc::Receiver<Batch>> {
    let (sender, batches) = mpsc::channel(1);
    let run = move || {
        let input = BufReader::with_capacity(READ, io::stdin().lock());
        read_all(input, |batch| sender.blocking_send(batch).is_ok());
    };
    thread::Builder::new().name("asynctask-lines".to_owned()).spawn(run)?;
    Ok(batches)
}

/// Reads to the end, to a bad line, or until `hand_over` gives `false`.
fn read_all<R: io::Read>(mut input: BufReader<R>, mut hand_over: impl FnMut(Batch) -> bool) {
    let mut batch = Batch::default();
    let mut number = 0;
    loop {
        let line = read_line(&mut input).and_then(|line| line.map(|line| usable(line, number == 0)).transpose());
        let line = match line {
            Ok(None) => break,
            Ok(Some(line)) => line,
            Err(error) => {
                batch.bad = Some(Bad { line: number + 1, error });
                break;
            }
        };
        number += 1;
        if let Some(line) = line {
            batch.bytes += line.len();
            batch.payloads.push(line);
            batch.lines.push(number);
        }
        let full = batch.payloads.len() == MOST || batch.bytes >= MOST_BYTES;
        let dry = !input.buffer().contains(&b'\n');
        if (full || dry) && !batch.payloads.is_empty() && !hand_over(std::mem::take(&mut batch)) {
            return;
        }
    }
    hand_over(batch);
}

/// The payload of a line; none in a blank one.
fn usable(mut line: Vec<u8>, first: bool) -> Result<Option<Vec<u8>>, String> {
    if first {
        let mark = line.len() - without_mark(&line)?.len();
        line.drain(..mark);
    }
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    check(&line)?;
    Ok(Some(line))
}

/// The next line without its end, or `None` at the end of the input.
fn read_line(input: &mut impl BufRead) -> Result<Option<Vec<u8>>, String> {
    let mut line = Vec::new();
    let mut limited = io::Read::take(input, LINE_LIMIT as u64 + 1);
    let length = limited.read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
    if length > LINE_LIMIT {
        return Err(format!("it is longer than {LINE_LIMIT} bytes"));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok((length > 0).then_some(line))
}

/// Whether this is the payload of a task.
pub(super) fn check(payload: &[u8]) -> Result<(), String> {
    json_payload(payload, false).map(drop).map_err(|error| error.replace("the body", "the payload"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(text: &[u8]) -> Vec<Batch> {
        let mut all = Vec::new();
        read_all(BufReader::new(text), |batch| {
            all.push(batch);
            true
        });
        all
    }

    #[test]
    fn lines_are_numbered_and_those_before_a_bad_one_are_kept() {
        let all = batches(b"1\n\n[2]\r\n{oops\n3\n");
        let lines: Vec<u64> = all.iter().flat_map(|batch| batch.lines.clone()).collect();
        assert_eq!(lines, [1, 3]);
        assert_eq!(all.last().unwrap().bad.as_ref().map(|bad| bad.line), Some(4));
    }

    #[test]
    fn a_mark_is_skipped_at_the_beginning_alone() {
        let all = batches(b"\xef\xbb\xbf{\"a\":1}\n\xef\xbb\xbf2\n");
        assert_eq!(all[0].payloads, [b"{\"a\":1}"]);
        assert_eq!(all.last().unwrap().bad.as_ref().map(|bad| bad.line), Some(2));
        let all = batches(b"\xff\xfe1\0\n\0");
        assert!(all[0].bad.as_ref().is_some_and(|bad| bad.line == 1 && bad.error.contains("UTF-16")));
        assert!(batches(b"\xef\xbb\xbf")[0].payloads.is_empty());
    }

    #[test]
    fn a_step_is_bounded_in_tasks_and_in_bytes() {
        let all = batches("7\n".repeat(MOST * 2 + 1).as_bytes());
        assert!(all.iter().all(|batch| batch.payloads.len() <= MOST));
        assert_eq!(all.iter().map(|batch| batch.payloads.len()).sum::<usize>(), MOST * 2 + 1);
        let long = format!("\"{}\"\n", "x".repeat(MOST_BYTES / 2));
        let all = batches(long.repeat(5).as_bytes());
        assert!(all.iter().all(|batch| batch.payloads.len() <= 2), "{}", all.len());
    }
}
