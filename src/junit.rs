//! The report of a run for continuous integration: JUnit XML, a test case for each task that came to an end.
//!
//! `classname` is the queue, `name` the task's id, `time` the seconds in a worker's hands (of the last attempt). A dead
//! letter has a `failure` with its reason, error, detail and last output. Attempts that are made again are no cases; the
//! property `retried_attempts` counts them.
//!
//! Memory is bounded: beyond 100,000 cases only failures are kept, another 100,000 of them, and beyond 64 MiB of text only
//! the first line of an error. The property `left_out` says how many tasks have no case.
//!
//! The file is written beside its place and then renamed, so nobody reads half of it.

use std::{
    fmt::{self, Write as _},
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    clock::{Clock, Timestamp},
    frames::cut,
    task::{Failure, Reason},
};

/// Cases of any kind; the same number of failures may come after them.
const CASES: usize = 100_000;
/// Bytes of what failures say.
const TEXT: usize = 64 << 20;
/// Longest part of a failure's text that is kept, each of error, detail and output.
const PART: usize = 16 << 10;

/// Gathers what became of tasks.
#[derive(Debug)]
pub struct Report {
    path: PathBuf,
    suite: String,
    queues: Vec<String>,
    clock: Clock,
    began_at: Timestamp,
    cases: Vec<Case>,
    failures: usize,
    left_out: u64,
    text: usize,
}

#[derive(Debug)]
struct Case {
    queue: usize,
    id: String,
    seconds: f64,
    failure: Option<Box<Told>>,
}

/// What a failure says in the report.
#[derive(Debug)]
struct Told {
    reason: Reason,
    message: String,
    text: String,
}

impl Report {
    /// A report with nothing in it, of a run that works these queues.
    ///
    /// # Errors
    /// If no file can be made at `path`. Nothing is left there yet.
    pub fn begin(path: &Path, suite: &str, queues: Vec<String>) -> io::Result<Self> {
        if path.is_dir() || path.file_name().is_none() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let report = Self {
            path: path.to_owned(),
            suite: suite.to_owned(),
            queues,
            clock: Clock::start(),
            began_at: Clock::wall(),
            cases: Vec::new(),
            failures: 0,
            left_out: 0,
            text: 0,
        };
        let beside = report.beside();
        drop(File::create(&beside)?);
        fs::remove_file(beside)?;
        Ok(report)
    }

    /// Where it will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A task of a queue was done, or dead-lettered.
    pub fn ended(&mut self, queue: &str, id: String, in_hand: Duration, failure: Option<Box<Failure>>) {
        let room = if failure.is_some() { 2 * CASES } else { CASES };
        if self.cases.len() >= room {
            self.left_out += 1;
            return;
        }
        let queue = self.queues.iter().position(|known| known == queue).unwrap_or_else(|| {
            self.queues.push(queue.to_owned());
            self.queues.len() - 1
        });
        let failure = failure.map(|failure| Box::new(self.told(&failure)));
        self.failures += usize::from(failure.is_some());
        self.cases.push(Case { queue, id, seconds: in_hand.as_secs_f64(), failure });
    }

    /// A task that was said to be done has not ended.
    pub fn reopened(&mut self, queue: &str, id: &str) {
        let is_it = |case: &Case| case.failure.is_none() && case.id == id && self.queues[case.queue] == queue;
        match self.cases.iter().rposition(is_it) {
            Some(position) => drop(self.cases.remove(position)),
            // There was no room for it.
            None => self.left_out = self.left_out.saturating_sub(1),
        }
    }

    fn told(&mut self, failure: &Failure) -> Told {
        let first = failure.error.lines().next().unwrap_or_default();
        let message = cut(first, 500).to_owned();
        let mut text = String::new();
        if self.text < TEXT {
            let exit = failure.exit.as_ref().map(ToString::to_string).unwrap_or_default();
            for (title, part) in [
                ("", &failure.error),
                ("", &failure.detail),
                ("exit: ", &exit),
                ("last output:\n", &failure.output_tail),
            ] {
                if !part.is_empty() {
                    let _ = writeln!(text, "{title}{}", cut(part, PART));
                }
            }
        }
        self.text += text.len() + message.len();
        Told { reason: failure.reason, message, text }
    }

    /// Writes the file, with further counts among the properties.
    ///
    /// # Errors
    /// If that fails; what was at the place before is still there.
    pub fn write(&self, counts: &[(&str, u64)]) -> io::Result<()> {
        let beside = self.beside();
        let written = self.write_to(&beside, counts).and_then(|()| fs::rename(&beside, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }

    fn write_to(&self, path: &Path, counts: &[(&str, u64)]) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        let (suite, tests, failures) = (Attribute(&self.suite), self.cases.len(), self.failures);
        let seconds = self.clock.now().at.since_start().as_secs_f64();
        let began_at = jiff::Timestamp::from_millisecond(self.began_at.0).unwrap_or_default().to_string();
        writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
        let totals = format!(r#"tests="{tests}" failures="{failures}" errors="0" skipped="0" time="{seconds:.3}""#);
        writeln!(out, r#"<testsuites name="{suite}" {totals}>"#)?;
        let began_at = began_at.trim_end_matches('Z');
        writeln!(out, r#"<testsuite name="{suite}" {totals} timestamp="{began_at}">"#)?;
        writeln!(out, "<properties>")?;
        for (name, count) in counts.iter().chain([&("left_out", self.left_out)]) {
            writeln!(out, r#"<property name="{name}" value="{count}"/>"#)?;
        }
        writeln!(out, "</properties>")?;
        for case in &self.cases {
            let queue = self.queues.get(case.queue).map_or("", String::as_str);
            let (queue, id, seconds) = (Attribute(queue), Attribute(&case.id), case.seconds);
            write!(out, r#"<testcase classname="{queue}" name="{id}" time="{seconds:.6}""#)?;
            match &case.failure {
                None => writeln!(out, "/>")?,
                Some(told) => {
                    let (reason, message) = (told.reason.as_str(), Attribute(&told.message));
                    let text = Text(&told.text);
                    writeln!(out, r#"><failure type="{reason}" message="{message}">{text}</failure></testcase>"#)?;
                }
            }
        }
        writeln!(out, "</testsuite>\n</testsuites>")?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    /// The name it has while it is written.
    fn beside(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{}", std::process::id()))
    }
}

/// Text between tags.
struct Text<'a>(&'a str);

/// Text of an attribute: line ends and tabs would be read as spaces.
struct Attribute<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            // As it stands, a reader would turn it into a line end.
            '\r' => f.write_str("&#13;"),
            '\n' | '\t' => f.write_char(letter),
            letter => escape(letter, f),
        })
    }
}

impl fmt::Display for Attribute<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|letter| match letter {
            '\n' | '\r' | '\t' => write!(f, "&#{};", u32::from(letter)),
            letter => escape(letter, f),
        })
    }
}

/// Control characters cannot be in XML 1.0, not even escaped.
fn escape(letter: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match letter {
        '&' => f.write_str("&amp;"),
        '<' => f.write_str("&lt;"),
        '>' => f.write_str("&gt;"),
        '"' => f.write_str("&quot;"),
        '\0'..=' ' if letter != ' ' => f.write_char('\u{fffd}'),
        '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}'),
        letter => f.write_char(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_say_is_replaced_and_the_rest_escaped() {
        let hostile = "a<b>&\"'\u{1b}[31m\r\n\t\0\u{ffff}🦀]]>";
        assert_eq!(Text(hostile).to_string(), "a&lt;b&gt;&amp;&quot;'\u{fffd}[31m&#13;\n\t\u{fffd}\u{fffd}🦀]]&gt;");
        assert_eq!(Attribute("a\r\n\tb").to_string(), "a&#13;&#10;&#9;b");
    }

    #[test]
    fn memory_is_bounded_and_failures_are_kept_longest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.xml");
        let mut report = Report::begin(&path, "s", vec!["foo".to_owned()]).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        for number in 0..CASES + 10 {
            report.ended("q", number.to_string(), Duration::ZERO, None);
        }
        let mut failure = Failure::new(Reason::Crash, "e".repeat(100_000), Timestamp(0));
        failure.output_tail = "o".repeat(100_000);
        for _ in 0..5_000 {
            report.ended("q", "x".to_owned(), Duration::ZERO, Some(Box::new(failure.clone())));
        }
        assert_eq!((report.cases.len(), report.failures, report.left_out), (CASES + 5_000, 5_000, 10));
        assert!(report.text < TEXT + 5_000 * 600 + 3 * PART, "{}", report.text);
        report.write(&[]).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains(r#"<property name="left_out" value="10"/>"#));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_task_that_was_not_done_after_all_is_no_case() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::begin(&folder.path().join("report.xml"), "s", Vec::new()).unwrap();
        for (queue, id) in [("q", "a"), ("q", "b"), ("r", "a")] {
            report.ended(queue, id.to_owned(), Duration::ZERO, None);
        }
        report.reopened("q", "a");
        let left: Vec<_> = report.cases.iter().map(|case| (case.queue, case.id.as_str())).collect();
        assert_eq!((left, report.left_out), (vec![(0, "b"), (1, "a")], 0));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_known_at_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Report::begin(folder.path(), "s", Vec::new()).is_err());
        assert!(Report::begin(&folder.path().join("absent/report.xml"), "s", Vec::new()).is_err());
    }
}
