//! The report of a run for continuous integration: JUnit XML, a test case for each task that came to an end.
//!
//! `classname` is the queue, `name` the task's id, `time` the seconds in a worker's hands (of the last attempt). A dead
//! letter has a `failure` with its reason, error, detail and last output. Attempts that are made again are no cases; the
//! property `retried_attempts` counts them. Readers take cases of one class and name for one: the second of an id is
//! `ID (2)`.
//!
//! Where the run itself failed, there is a case for it (`RUN`) with an `error`: what reads as good here was good. From the
//! beginning of the run on the file is there and says that the run has not ended, so that after a run that was killed
//! the report of the run before is not read as its own.
//!
//! Memory is bounded: beyond 100,000 cases only failures are kept, another 100,000 of them, and beyond 64 MiB of text only
//! the first line of an error. The property `left_out` says how many tasks have no case.
//!
//! The file is written beside its place and then renamed, so it is never read by halves. Only elements and attributes stand in
//! it that the strictest of its readers know (the schema of Jenkins' xUnit plugin).

use std::{
    collections::{HashMap, HashSet},
    fmt::{self, Write as _},
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    clock::{Clock, Timestamp},
    task::{Failure, Reason},
    text::cut,
};

/// Cases of any kind; the same number of failures may come after them.
const CASES: usize = 100_000;
/// Bytes of what failures say.
const TEXT: usize = 64 << 20;
/// Longest part of a failure's text that is kept, each of error, detail and output.
const PART: usize = 16 << 10;
/// Class and name of the case for the run itself.
const RUN: (&str, &str) = ("asynctask", "run");

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
    failure: Option<Box<FailureTexts>>,
}

/// The texts of a failure in the report.
#[derive(Debug)]
struct FailureTexts {
    reason: Reason,
    message: String,
    text: String,
}

/// How the run itself ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It ended by itself, and its cases are all there is to report.
    Complete,
    /// It was stopped before everything was done, as asked for.
    Stopped(String),
    /// It failed.
    Failed {
        /// In one line.
        message: String,
        /// Whatever else there is to say.
        text: String,
    },
}

impl Report {
    /// A report with nothing in it. The file says from now on that the run has not ended.
    ///
    /// # Errors
    /// If no file can be made at `path`.
    pub fn begin(path: &Path, suite: &str) -> io::Result<Self> {
        if path.is_dir() || path.file_name().is_none() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // What a link leads to is written, and a device or a pipe would be replaced by a file.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::other("it is there already and is no regular file"));
        }
        let report = Self {
            path,
            suite: suite.to_owned(),
            queues: Vec::new(),
            clock: Clock::start(),
            began_at: Clock::wall(),
            cases: Vec::new(),
            failures: 0,
            left_out: 0,
            text: 0,
        };
        let message = "the run has not ended, or was killed".to_owned();
        report.write(&End::Failed { message, text: String::new() }, &[])?;
        Ok(report)
    }

    /// It is about these queues of this application.
    pub fn concerns(&mut self, suite: &str, queues: Vec<String>) {
        suite.clone_into(&mut self.suite);
        self.queues = queues;
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a case says that something failed.
    #[must_use]
    pub const fn has_failures(&self) -> bool {
        self.failures > 0
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
        let failure = failure.map(|failure| Box::new(self.texts_of(&failure)));
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

    fn texts_of(&mut self, failure: &Failure) -> FailureTexts {
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
        FailureTexts { reason: failure.reason, message, text }
    }

    /// Writes the file, with further counts among the properties.
    ///
    /// # Errors
    /// If that fails; what was at the place before is still there.
    pub fn write(&self, end: &End, counts: &[(&str, u64)]) -> io::Result<()> {
        let beside = self.beside();
        let written = self.write_to(&beside, end, counts).and_then(|()| fs::rename(&beside, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        written
    }

    fn write_to(&self, path: &Path, end: &End, counts: &[(&str, u64)]) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        let (errors, skipped) = match end {
            End::Complete => (0, 0),
            End::Stopped(_) => (0, 1),
            End::Failed { .. } => (1, 0),
        };
        let (suite, tests, failures) = (Attribute(&self.suite), self.cases.len() + errors + skipped, self.failures);
        let seconds = self.clock.now().at.since_start().as_secs_f64();
        let began_at = jiff::Timestamp::from_millisecond(self.began_at.0).unwrap_or_default().to_string();
        let began_at = began_at.trim_end_matches('Z');
        let totals = format!(r#"tests="{tests}" failures="{failures}" errors="{errors}" time="{seconds:.3}""#);
        writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
        writeln!(out, r#"<testsuites name="{suite}" {totals}>"#)?;
        writeln!(out, r#"<testsuite name="{suite}" {totals} skipped="{skipped}" timestamp="{began_at}">"#)?;
        writeln!(out, "<properties>")?;
        for (name, count) in counts.iter().chain([&("left_out", self.left_out)]) {
            writeln!(out, r#"<property name="{name}" value="{count}"/>"#)?;
        }
        writeln!(out, "</properties>")?;
        let mut names = Names::default();
        for case in &self.cases {
            let queue = self.queues.get(case.queue).map_or("", String::as_str);
            let name = names.unused(queue, Attribute(&case.id).to_string());
            let (queue, seconds) = (Attribute(queue), case.seconds);
            write!(out, r#"<testcase classname="{queue}" name="{name}" time="{seconds:.6}""#)?;
            match &case.failure {
                None => writeln!(out, "/>")?,
                Some(failure) => {
                    let (reason, message) = (failure.reason.as_str(), Attribute(&failure.message));
                    let text = Text(&failure.text);
                    writeln!(out, r#"><failure type="{reason}" message="{message}">{text}</failure></testcase>"#)?;
                }
            }
        }
        let name = names.unused(RUN.0, RUN.1.to_owned());
        let case = format!(r#"<testcase classname="{}" name="{name}" time="{seconds:.6}">"#, RUN.0);
        match end {
            End::Complete => {}
            End::Stopped(why) => {
                let why = Attribute(why);
                writeln!(out, r#"{case}<skipped message="{why}"/></testcase>"#)?;
            }
            End::Failed { message, text } => {
                let (message, text) = (Attribute(message), Text(text));
                writeln!(out, r#"{case}<error type="run" message="{message}">{text}</error></testcase>"#)?;
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

/// Names that were given out, each once in its class.
#[derive(Default)]
struct Names<'a> {
    used: HashSet<(&'a str, String)>,
    /// How often each was asked for.
    asked: HashMap<(&'a str, String), u32>,
}

impl<'a> Names<'a> {
    /// The name, or if it was given out before, the name with the first number that makes it another.
    fn unused(&mut self, class: &'a str, name: String) -> String {
        if self.used.insert((class, name.clone())) {
            return name;
        }
        let asked = self.asked.entry((class, name.clone())).or_insert(1);
        loop {
            *asked += 1;
            let numbered = format!("{name} ({asked})");
            if self.used.insert((class, numbered.clone())) {
                return numbered;
            }
        }
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
        let mut report = Report::begin(&path, "s").unwrap();
        let begun = fs::read_to_string(&path).unwrap();
        assert!(begun.contains(r#"tests="1" failures="0" errors="1""#) && begun.contains("has not ended"), "{begun}");
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
        report.write(&End::Complete, &[]).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains(r#"<property name="left_out" value="10"/>"#));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_task_that_was_not_done_after_all_is_no_case() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::begin(&folder.path().join("report.xml"), "s").unwrap();
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
        assert!(Report::begin(folder.path(), "s").is_err());
        assert!(Report::begin(&folder.path().join("absent/report.xml"), "s").is_err());
        assert!(Report::begin(Path::new("/dev/null"), "s").is_err());
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(Report::begin(&socket, "s").is_err());
    }

    #[test]
    fn no_two_cases_have_one_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.xml");
        let mut report = Report::begin(&path, "s").unwrap();
        // Two ids that only a character differs in that XML cannot have, one that has the form of ours, and a task that
        // is called as the run.
        for id in ["a", "a (2)", "a", "a", "\u{1}", "\u{2}", "b&"] {
            report.ended("q", id.to_owned(), Duration::ZERO, None);
        }
        report.ended("r", "a".to_owned(), Duration::ZERO, None);
        report.ended("asynctask", "run".to_owned(), Duration::ZERO, None);
        report.write(&End::Stopped("early".to_owned()), &[]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let name = |line: &str| {
            let line = line.strip_prefix("<testcase classname=\"")?;
            let (class, rest) = line.split_once("\" name=\"")?;
            Some(format!("{class}:{}", rest.split('"').next()?))
        };
        let names: Vec<String> = text.lines().filter_map(name).collect();
        assert_eq!(
            names,
            [
                "q:a",
                "q:a (2)",
                "q:a (3)",
                "q:a (4)",
                "q:\u{fffd}",
                "q:\u{fffd} (2)",
                "q:b&amp;",
                "r:a",
                "asynctask:run",
                "asynctask:run (2)"
            ]
        );
    }

    #[test]
    fn what_a_link_leads_to_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("real.xml"), folder.path().join("link.xml"));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Report::begin(&link, "s").unwrap().write(&End::Complete, &[]).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&path).unwrap().starts_with("<?xml"));
    }
}
