//! What a submission of many lines has stored, and what it says when it breaks off: which lines are stored, which may be,
//! and from which line on nothing is.

use std::ops::Range;

use crate::{
    cli::{output::print, waiting::CallFailed},
    exit_code::Error,
    plural::{self, counted},
    transport::{self, Extent},
};

/// How far a submission has come.
pub(super) struct StoredLines {
    /// Tasks that are stored, in the order of their lines.
    pub(super) stored: u64,
    /// The last line that was read and booked.
    line: u64,
    /// Print the ids of what is stored.
    json: bool,
}

impl StoredLines {
    pub(super) const fn new(json: bool) -> Self {
        Self { stored: 0, line: 0, json }
    }

    /// Takes down what became of tasks with these ids, from these lines.
    pub(super) fn record(
        &mut self,
        ids: &[String],
        lines: &[u64],
        stored: Result<(), CallFailed<()>>,
    ) -> Result<(), Error> {
        let (extent, broken) = match stored {
            Ok(()) => (all(ids), None),
            Err(broken) if broken.done.is_some() => (all(ids), Some(broken)),
            Err(broken) if broken.is_unanswered() => {
                (Extent { unknown: std::iter::once(0..ids.len()).collect(), ..Extent::default() }, Some(broken))
            }
            Err(broken) => (broken.last().map(transport::Error::extent).unwrap_or_default(), Some(broken)),
        };
        self.stored += extent.stored as u64;
        self.line = match extent.stored {
            0 => self.line,
            stored => lines[stored - 1],
        };
        let printed = self.tell(ids, &extent);
        if let Some(broken) = broken {
            let error = at_line(lines.get(extent.stored).copied().unwrap_or(self.line + 1), broken.error());
            return Err(self.with_hint(error, lines, &extent));
        }
        printed.map_err(|error| {
            let (stored, line) = (count(self.stored), self.line);
            error.hint(format!("{stored} submitted, up to line {line} of standard input; nothing after it is stored"))
        })
    }

    /// The end of a submission whose next line, whatever it is, will not be stored.
    pub(super) fn stopped(&self, error: Error) -> Error {
        self.stopped_at(self.line + 1, error)
    }

    /// The end of a submission at this line.
    pub(super) fn stopped_at(&self, line: u64, error: Error) -> Error {
        self.with_hint(at_line(line, error), &[line], &Extent::default())
    }

    fn tell(&self, ids: &[String], extent: &Extent) -> Result<(), Error> {
        if !self.json {
            return Ok(());
        }
        let later = extent.beyond.iter().cloned().flatten();
        print(&(0..extent.stored).chain(later).map(|position| json_line(&ids[position])).collect::<String>())
    }

    fn with_hint(&self, error: Error, lines: &[u64], extent: &Extent) -> Error {
        let mut parts = vec![match self.stored {
            0 => "no task was submitted before it".to_owned(),
            stored => format!("{} submitted", before(stored)),
        }];
        parts.extend(extent.unknown.iter().map(|range| format!("{} may or may not be stored", span(range, lines))));
        let is = |range: &Range<usize>| if range.len() == 1 { "is" } else { "are" };
        parts.extend(extent.beyond.iter().map(|range| format!("{} {} stored", span(range, lines), is(range))));
        let goes_on = match (&extent.unknown[..], &extent.beyond[..]) {
            ([], []) => Some(lines.get(extent.stored).copied().unwrap_or(self.line + 1)),
            ([range], []) if range.start == extent.stored => Some(lines[range.end - 1] + 1),
            _ => None,
        };
        parts.push(goes_on.map_or_else(
            || "no other line is stored".to_owned(),
            |line| format!("nothing from line {line} on is stored"),
        ));
        error.hint(parts.join("; "))
    }
}

fn all(ids: &[String]) -> Extent {
    Extent { stored: ids.len(), ..Extent::default() }
}

fn at_line(line: u64, error: Error) -> Error {
    Error { message: format!("standard input, line {line}: {}", error.message), ..error }
}

/// The lines of these positions.
fn span(range: &Range<usize>, lines: &[u64]) -> String {
    match (lines[range.start], lines[range.end - 1]) {
        (first, last) if first == last => format!("line {first}"),
        (first, last) => format!("lines {first} to {last}"),
    }
}

fn before(stored: u64) -> String {
    let verb = if stored == 1 { "was" } else { "were" };
    format!("{} before it {verb}", counted(stored, "task"))
}

fn count(stored: u64) -> String {
    plural::were(stored, "task")
}

pub(super) fn json_line(id: &str) -> String {
    serde_json::json!({ "id": id }).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_answered_may_be_stored() {
        let mut stored_lines = StoredLines::new(false);
        let ids = ["a", "b"].map(str::to_owned);
        stored_lines.record(&ids, &[1, 3], Ok(())).unwrap();
        let error = stored_lines.record(&ids, &[4, 6], Err(CallFailed::unanswered())).unwrap_err();
        assert!(error.message.starts_with("standard input, line 4: "), "{error:?}");
        assert_eq!(
            error.hint.as_deref(),
            Some(
                "2 tasks before it were submitted; lines 4 to 6 may or may not be stored; nothing from line 7 on is stored"
            )
        );
    }
}
