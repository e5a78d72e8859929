//! What the master has sent and the worker has not begun. Reads no socket and answers nothing.
//!
//! Lines stand in the order in which they came, and a task is begun when its line is taken. Two frames do not wait for their
//! turn: a recall, which is about what stands before it, and a log level, which is about now.

use std::collections::VecDeque;

use crate::{
    frames::{
        Fault, LineBuffer, is_task,
        to_worker::{self, ToWorker},
    },
    level::Level,
};

/// How many buffers of lines are used again, and of which size at most. A master sends no more tasks ahead than that.
const SPARE: usize = 64;
const SPARE_SIZE: usize = 4 * 1024;

/// The lines that came and were not taken.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    input: LineBuffer,
    waiting: VecDeque<Line>,
    spare: Vec<Vec<u8>>,
}

/// One line, without its newline.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) text: Vec<u8>,
    pub(super) is_task: bool,
}

/// What does not wait for the lines before it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Urgent {
    /// To be answered with [`Inbox::take_back`] before more is sorted: later tasks are not meant.
    Recall,
    LogLevel(Level),
}

impl Inbox {
    /// Where the next bytes go; [`Self::came`] says how many did.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.input.room()
    }

    pub(super) fn came(&mut self, count: usize) {
        self.input.came(count);
    }

    /// Puts the lines that came behind those that wait, up to the next that does not wait; `None` at the end of what came.
    ///
    /// # Errors
    /// A line that is too long. What is no frame is a fault when its turn comes.
    pub(super) fn sort(&mut self) -> Result<Option<Urgent>, Fault> {
        while let Some(line) = self.input.next_line()? {
            let is_task = is_task(line)
                || match to_worker::parse(line) {
                    Ok(ToWorker::Recall) => return Ok(Some(Urgent::Recall)),
                    Ok(ToWorker::LogLevel(level)) => return Ok(Some(Urgent::LogLevel(level))),
                    Ok(frame) => matches!(frame, ToWorker::Task(_)),
                    Err(_) => false,
                };
            let mut text = self.spare.pop().unwrap_or_default();
            text.extend_from_slice(line);
            self.waiting.push_back(Line { text, is_task });
        }
        self.input.give_back();
        Ok(None)
    }

    /// The next line, in exchange for the one before, whose buffer is used again. `false`: none waits.
    pub(super) fn next(&mut self, line: &mut Line) -> bool {
        let next = self.waiting.pop_front();
        let is_there = next.is_some();
        let mut used = std::mem::replace(line, next.unwrap_or_default()).text;
        if self.spare.len() < SPARE && (1..=SPARE_SIZE).contains(&used.capacity()) {
            used.clear();
            self.spare.push(used);
        }
        is_there
    }

    /// Takes out the tasks, and gives their ids in the order in which they came.
    pub(super) fn take_back(&mut self) -> Vec<String> {
        let mut ids = Vec::new();
        self.waiting.retain(|line| {
            if line.is_task
                && let Ok(ToWorker::Task(task)) = to_worker::parse(&line.text)
            {
                ids.push(task.id.into_owned());
                return false;
            }
            true
        });
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str) -> String {
        format!("{{\"task\":{{\"id\":\"{id}\",\"payload\":null}}}}\n")
    }

    /// What is sorted without a wait, with what was taken back for each recall.
    fn put(inbox: &mut Inbox, text: &str) -> Vec<(Urgent, Vec<String>)> {
        let mut text = text.as_bytes();
        let mut urgent = Vec::new();
        while !text.is_empty() {
            let room = inbox.room();
            let (now, later) = text.split_at(room.len().min(text.len()));
            room[..now.len()].copy_from_slice(now);
            inbox.came(now.len());
            text = later;
            while let Some(next) = inbox.sort().unwrap() {
                let ids = if next == Urgent::Recall { inbox.take_back() } else { Vec::new() };
                urgent.push((next, ids));
            }
        }
        urgent
    }

    fn rest(inbox: &mut Inbox) -> Vec<String> {
        let mut line = Line::default();
        std::iter::from_fn(|| inbox.next(&mut line).then(|| String::from_utf8(line.text.clone()).unwrap() + "\n"))
            .collect()
    }

    #[test]
    fn a_recall_takes_the_tasks_before_it_and_leaves_all_else_in_its_order() {
        let mut inbox = Inbox::default();
        let (ping, halt) = ("{\"ping\":{\"n\":1}}\n", "{\"halt\":{}}\n");
        let other_spelling = "{ \"v\":2, \"task\":{\"id\":\"c\"}}\n";
        let text =
            [&task("a"), ping, &task("b\\u00e9"), other_spelling, "{\"recall\":{}}\n", &task("d"), halt].concat();
        let ids = ["a", "bé", "c"].map(str::to_owned).to_vec();
        assert_eq!(put(&mut inbox, &text), [(Urgent::Recall, ids)]);
        assert_eq!(rest(&mut inbox), [ping, &task("d"), halt]);
        assert_eq!(put(&mut inbox, "{\"recall\":{}}\n{\"recall\":{}}\n").len(), 2);
    }

    #[test]
    fn a_level_counts_at_once_and_what_is_no_frame_in_its_turn() {
        let mut inbox = Inbox::default();
        let level = "{\"log_level\":{\"level\":\"ERROR\"}}\n";
        let broken = "{\"task\":{}}\n";
        let text = [&task("a"), level, "oops\n", broken, "{\"later\":1}\n"].concat();
        assert_eq!(put(&mut inbox, &text), [(Urgent::LogLevel(Level::Error), Vec::new())]);
        // A task without an id cannot be given back: it is met as a fault.
        assert_eq!(put(&mut inbox, "{\"recall\":{}}\n"), [(Urgent::Recall, vec!["a".to_owned()])]);
        assert_eq!(rest(&mut inbox), ["oops\n", broken, "{\"later\":1}\n"]);
    }

    #[test]
    fn small_buffers_are_used_again_and_large_ones_given_back() {
        let mut inbox = Inbox::default();
        let long = task(&"x".repeat(1 << 20));
        for _ in 0..3 {
            for id in ["a", "b"] {
                assert!(put(&mut inbox, &task(id)).is_empty());
            }
            assert!(put(&mut inbox, &long).is_empty());
            assert_eq!(rest(&mut inbox), [task("a"), task("b"), long.clone()]);
            assert_eq!(inbox.spare.len(), 2);
        }
        assert!(inbox.room().len() <= 256 * 1024);
    }
}
