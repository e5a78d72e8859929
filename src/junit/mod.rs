//! The report of a run for continuous integration: JUnit XML, a test case for each task that came to an end.
//!
//! `classname` is the queue, `name` the task's id, `time` the seconds in a worker's hands (of the last attempt). A dead
//! letter has a `failure` with its reason, error, detail and last output. Attempts that are made again are no cases; the
//! property `retried_attempts` counts them. Readers take cases of one class and name for one: the second of an id is
//! `ID (2)`.
//!
//! Tasks of jobs are in suites of their own, one a job, in which each step is a case and each of its items (`jobs`).
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

mod failure;
mod jobs;
#[cfg(test)]
mod tests;
mod xml;

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufWriter},
    path::{Path, PathBuf},
    time::Duration,
};

use self::{
    failure::FailureTexts,
    jobs::Jobs,
    xml::{Suite, Verdict},
};
use crate::{
    clock::{Clock, Timestamp},
    jobs::{entry::MemberId, ledger::View},
    task::Failure,
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
    /// Cases of jobs count as cases, too.
    of_jobs: usize,
    jobs: Jobs,
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
            of_jobs: 0,
            jobs: Jobs::default(),
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
    pub fn has_failures(&self) -> bool {
        self.failures > 0 || self.jobs.have_failures()
    }

    /// A task of a queue was done, or dead-lettered. `member`: its place in a job.
    pub fn ended(
        &mut self,
        queue: &str,
        id: String,
        in_hand: Duration,
        failure: Option<Box<Failure>>,
        member: Option<Box<MemberId>>,
    ) {
        let room = if failure.is_some() { 2 * CASES } else { CASES };
        if self.cases.len() + self.of_jobs >= room {
            self.left_out += 1;
            return;
        }
        if let Some(member) = member.filter(|member| self.jobs.has_room(member)) {
            let failure = failure.map(|failure| Box::new(self.texts_of(&failure)));
            self.of_jobs += 1;
            return self.jobs.ended(*member, id, in_hand.as_secs_f64(), failure);
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
            None if self.jobs.reopened(id) => self.of_jobs -= 1,
            // There was no room for it.
            None => self.left_out = self.left_out.saturating_sub(1),
        }
    }

    /// The jobs of which tasks ended.
    pub fn jobs(&self) -> impl Iterator<Item = &str> {
        self.jobs.ids()
    }

    /// What is stored of one of them when the run has ended.
    pub fn job_found(&mut self, view: Box<View>) {
        self.jobs.found(view);
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
        let seconds = self.clock.now().at.since_start().as_secs_f64();
        let left_out = [("left_out", self.left_out)];
        let properties = counts.iter().chain(&left_out).map(|(name, count)| (*name, count.to_string())).collect();
        let of_queues = self.cases.iter().map(|case| xml::Case {
            class: self.queues.get(case.queue).map_or("", String::as_str),
            name: case.id.clone(),
            seconds: case.seconds,
            verdict: case.failure.as_ref().map_or(Verdict::Good, |failure| failure.verdict()),
        });
        let of_run = match end {
            End::Complete => None,
            End::Stopped(why) => Some(Verdict::Skipped { why: why.clone() }),
            End::Failed { message, text } => Some(Verdict::Error { kind: "run", message, text }),
        };
        let of_run = of_run.map(|verdict| xml::Case { class: RUN.0, name: RUN.1.to_owned(), seconds, verdict });
        let own = Suite {
            name: self.suite.clone(),
            began_at: self.began_at,
            seconds,
            properties,
            cases: of_queues.chain(of_run).collect(),
        };
        let suites: Vec<Suite<'_>> = std::iter::once(own).chain(self.jobs.suites()).collect();
        xml::write(&mut out, &self.suite, seconds, &suites)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    /// The name it has while it is written.
    fn beside(&self) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{}", std::process::id()))
    }
}
