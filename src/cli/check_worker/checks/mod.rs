//! What a worker has to get right, one check after the other.

mod ahead;
mod of_job;

use std::{io, time::Duration};

use super::worker_under_test::{Received, WorkerUnderTest};
use crate::{
    clock::Clock,
    frames::{self, FromWorker, HaltReason, PROTOCOL, Payload, Ready, TaskFrame},
    json_text::JsonText,
    membership::Membership,
    outcome::Report,
    plural::counted,
    process::{Environment, Program, Signals},
    properties::Properties,
    task::{Exit, Headers},
};

/// The queue that tasks come from, as the program sees it.
pub(super) const QUEUE: &str = "check";
/// A master gives a worker so long between its bye and its exit.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// Payload of a long task, in bytes.
const LONG: usize = 10 << 20;

/// What came of one check.
pub(super) struct Finding {
    /// Its name.
    pub(super) check: &'static str,
    /// What was seen, if it is right.
    pub(super) what: String,
    /// What is wrong.
    pub(super) wrong: Option<String>,
}

/// Why a check did not pass.
enum Failed {
    /// The program is wrong.
    Wrong(String),
    /// We are, or the system.
    Io(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Passed = Result<String, Failed>;
type Check<T> = fn(&mut T) -> Passed;

fn wrong<T>(text: impl Into<String>) -> Result<T, Failed> {
    Err(Failed::Wrong(text.into()))
}

/// Plays the master.
pub(super) struct Checker<'a> {
    program: &'a Program,
    environment: &'a Environment,
    signals: &'a Signals,
    clock: Clock,
    within: Duration,
    /// Of good tasks, if one is known.
    payload: Option<&'a str>,
    running: Option<WorkerUnderTest<'a>>,
    ahead: u32,
    wants_properties: bool,
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        program: &'a Program,
        environment: &'a Environment,
        signals: &'a Signals,
        within: Duration,
        payload: Option<&'a str>,
    ) -> Self {
        let clock = Clock::start();
        Self { program, environment, signals, clock, within, payload, running: None, ahead: 0, wants_properties: false }
    }

    /// Does all checks, and gives each finding to `tell`. One that never gets ready is not asked any further.
    ///
    /// # Errors
    /// Those of the operating system; what is wrong with the program is a finding.
    pub(super) fn run(mut self, mut tell: impl FnMut(&Finding)) -> io::Result<()> {
        let checks: [(&str, Check<Self>); 11] = [
            ("good task", Self::good_task),
            ("several tasks", Self::several_tasks),
            ("unknown frame", Self::unknown_frame),
            ("unknown keys", Self::unknown_keys),
            ("task of a job", Self::task_of_a_job),
            ("ping when idle", Self::ping),
            ("recall", Self::recall),
            ("tasks ahead", Self::tasks_ahead),
            ("long payload", Self::long_payload),
            ("payload of another shape", Self::other_shapes),
            ("halt", Self::halt),
        ];
        let ready = self.begin();
        let is_ready = ready.is_ok();
        self.conclude("ready", ready, &mut tell)?;
        if !is_ready {
            return Ok(());
        }
        for (name, check) in checks {
            let mut passed = Ok(String::new());
            if self.running.is_none() {
                passed = self.begin();
            }
            let passed = passed.and_then(|_| check(&mut self));
            self.conclude(name, passed, &mut tell)?;
        }
        self.running.take().map_or(Ok(()), WorkerUnderTest::kill)
    }

    fn conclude(&mut self, check: &'static str, passed: Passed, tell: &mut impl FnMut(&Finding)) -> io::Result<()> {
        let finding = match passed {
            Ok(what) => Finding { check, what, wrong: None },
            Err(Failed::Wrong(wrong)) => {
                // What it says from here on would be an answer to nothing.
                self.running.take().map_or(Ok(()), WorkerUnderTest::kill)?;
                Finding { check, what: String::new(), wrong: Some(wrong) }
            }
            Err(Failed::Io(error)) => return Err(error),
        };
        tell(&finding);
        Ok(())
    }

    fn begin(&mut self) -> Passed {
        let started = WorkerUnderTest::start(self.program, self.environment, self.signals, self.clock);
        self.running = Some(started.or_else(|error| wrong(format!("it could not be started: {error}")))?);
        let ready = match self.receive()? {
            Received::Frame(FromWorker::Ready(ready)) => ready,
            other => {
                return wrong(format!("expected {{\"ready\":…}} as the first frame, but {}", self.describe(&other)));
            }
        };
        let Ready { protocol, name, concurrency, ahead, wants, .. } = ready;
        if protocol != PROTOCOL {
            return wrong(format!("it speaks protocol {protocol}, not {PROTOCOL}"));
        }
        self.ahead = ahead;
        self.wants_properties = wants.properties;
        let name = name.map_or_else(|| "without a name".to_owned(), |name| format!("named {name}"));
        let known = if wants.properties { ", wants properties" } else { "" };
        let unknown = match &wants.unknown[..] {
            [] => String::new(),
            unknown => format!(", wants {}, which this master does not know and ignores", unknown.join(", ")),
        };
        Ok(format!("protocol {protocol}, {name}, {concurrency} at once, {ahead} ahead{known}{unknown}"))
    }

    fn good_task(&mut self) -> Passed {
        let outcome = self.task("check-1", self.payload.unwrap_or("{}"))?;
        match (outcome, self.payload) {
            (Report::Done { submit, .. }, _) => Ok(format!("done, {} submitted", counted(submit.len(), "task"))),
            (outcome, Some(_)) => wrong(format!("it said {}, not done", word(&outcome))),
            (outcome, None) => Ok(format!("it said {}; give a good payload with --payload", word(&outcome))),
        }
    }

    fn several_tasks(&mut self) -> Passed {
        // An id may be any text: it is given back as it came.
        for id in ["check-2", "ü \"quoted\" \\ id", "check-4", "check-5"] {
            self.task(id, self.payload.unwrap_or("{}"))?;
        }
        Ok("each got its outcome, under its id".to_owned())
    }

    fn unknown_frame(&mut self) -> Passed {
        self.send(b"{\"of_a_later_protocol\":{\"a\":[1,null]}}\n");
        self.send(&frames::ping(1));
        self.pong(1).or_else(|failed| match failed {
            Failed::Wrong(text) => wrong(format!("a frame of a later protocol is to be ignored, but {text}")),
            failed @ Failed::Io(_) => Err(failed),
        })?;
        Ok("ignored".to_owned())
    }

    fn unknown_keys(&mut self) -> Passed {
        let mut frame = self.frame_of("check-6", self.payload.unwrap_or("{}"));
        // Before the braces of the task and of the frame.
        frame.truncate(frame.len() - b"}}\n".len());
        frame.extend_from_slice(b",\"of_later\":{\"a\":1}},\"of_later\":[]}\n");
        self.send(&frame);
        self.outcome("check-6")?;
        Ok("ignored".to_owned())
    }

    fn ping(&mut self) -> Passed {
        for n in [2, 1_234_567_890_123] {
            self.send(&frames::ping(n));
            self.pong(n)?;
        }
        Ok("answered with its number".to_owned())
    }

    fn recall(&mut self) -> Passed {
        self.send(&frames::recall());
        self.send(&frames::ping(3));
        match self.receive()? {
            Received::Frame(FromWorker::Returned { ids }) if ids.is_empty() => {
                self.pong(3).map(|_| "answered".to_owned())
            }
            Received::Frame(FromWorker::Pong { n: 3 }) if self.ahead == 0 => {
                Ok("not answered, which is allowed without \"ahead\"".to_owned())
            }
            other => wrong(format!("expected {{\"returned\":{{\"ids\":[]}}}}, but {}", self.describe(&other))),
        }
    }

    fn long_payload(&mut self) -> Passed {
        let payload = format!("{{\"long\":\"{}\"}}", "x".repeat(LONG));
        let outcome = self.task("check-7", &payload)?;
        Ok(format!("{} MiB, it said {}", LONG >> 20, word(&outcome)))
    }

    fn other_shapes(&mut self) -> Passed {
        let mut words = Vec::new();
        for payload in ["{}", "null", "\"42\"", "[[]]"] {
            match self.task("check-8", payload) {
                Ok(outcome) => words.push(word(&outcome)),
                Err(Failed::Wrong(text)) => return wrong(format!("{payload}: {text}; malformed is what to say")),
                Err(failed) => return Err(failed),
            }
        }
        Ok(format!("it said {}", words.join(", ")))
    }

    fn halt(&mut self) -> Passed {
        self.send(&frames::halt(HaltReason::Stop));
        match self.receive()? {
            Received::Frame(FromWorker::Bye) => {}
            other => return wrong(format!("expected {{\"bye\":{{}}}}, but {}", self.describe(&other))),
        }
        match self.hear_within(EXIT_TIMEOUT)? {
            Received::Ended(Exit::Code { code: 0 }) => {
                self.running = None;
                Ok("it said bye and ended".to_owned())
            }
            Received::Silence => wrong(format!("it said bye and did not end within {} s", EXIT_TIMEOUT.as_secs())),
            other => wrong(format!("after its bye only an exit with 0 may come, but {}", self.describe(&other))),
        }
    }

    // What the checks are made of.

    /// Gives a task and waits for its outcome.
    fn task(&mut self, id: &str, payload: &str) -> Result<Report, Failed> {
        let frame = self.frame_of(id, payload);
        self.send(&frame);
        self.outcome(id)
    }

    fn outcome(&mut self, task: &str) -> Result<Report, Failed> {
        loop {
            match self.receive()? {
                Received::Frame(FromWorker::Outcome { id, outcome }) if id == task => return Ok(outcome),
                Received::Frame(FromWorker::Accept { id } | FromWorker::Progress { id, .. }) if id == task => {}
                other => return wrong(format!("expected the outcome of a task, but {}", self.describe(&other))),
            }
        }
    }

    fn pong(&mut self, number: u64) -> Passed {
        match self.receive()? {
            Received::Frame(FromWorker::Pong { n }) if n == number => Ok(String::new()),
            other => wrong(format!("expected {{\"pong\":{{\"n\":{number}}}}}, but {}", self.describe(&other))),
        }
    }

    /// A task as a master would hand it out, with all properties for a program that wants them.
    fn frame_of(&self, id: &str, payload: &str) -> Vec<u8> {
        self.framed(id, payload, None)
    }

    /// The same, with its place in a job and a memo.
    fn framed(&self, id: &str, payload: &str, of_job: Option<(&Membership, &JsonText)>) -> Vec<u8> {
        let headers = Headers::new();
        let properties = properties();
        let task = TaskFrame {
            id,
            queue: QUEUE,
            attempt: 1,
            max_attempts: 3,
            payload: Payload::Json(payload),
            headers: &headers,
            properties: self.wants_properties.then_some(&properties),
            deadline: Some(Duration::from_mins(10)),
            job: of_job.map(|(place, _)| place),
            memo: of_job.map(|(_, memo)| memo),
        };
        let mut frame = Vec::new();
        // A payload of the command line may be as long as the kernel lets it be, which is less.
        frames::task(&task, &mut frame).unwrap_or_else(|fault| unreachable!("a payload of the checks fits: {fault}"));
        frame
    }

    fn send(&mut self, frame: &[u8]) {
        if let Some(running) = &mut self.running {
            running.send(frame);
        }
    }

    fn receive(&mut self) -> io::Result<Received> {
        self.hear_within(self.within)
    }

    /// What it says next; lines for the log and frames of a later protocol may stand anywhere.
    fn hear_within(&mut self, within: Duration) -> io::Result<Received> {
        let limit = self.clock.now().at + within;
        loop {
            let Some(running) = &mut self.running else { return Ok(Received::Silence) };
            match running.receive(limit)? {
                Received::Frame(FromWorker::Log { .. } | FromWorker::Unknown(_)) => {}
                received => return Ok(received),
            }
        }
    }

    fn describe(&self, received: &Received) -> String {
        let frame = match received {
            Received::Silence => return format!("nothing came within {} s", self.within.as_secs_f64()),
            Received::Ended(exit) => return format!("it ended ({exit})"),
            Received::Fault(fault) => return format!("what it said is no frame: {fault}"),
            Received::Frame(frame) => frame,
        };
        match frame {
            FromWorker::Ready(_) => "it said ready a second time".to_owned(),
            FromWorker::Outcome { id, outcome } => format!("it said {} of task \"{id}\"", word(outcome)),
            FromWorker::Accept { id } => format!("it accepted task \"{id}\""),
            FromWorker::Progress { id, .. } => format!("it told the progress of task \"{id}\""),
            FromWorker::Bye => "it said bye".to_owned(),
            FromWorker::Pong { n } => format!("it said pong {n}"),
            FromWorker::Returned { ids } => format!("it returned {}", counted(ids.len(), "task")),
            FromWorker::Reported { id, .. } => format!("it reported task \"{id}\""),
            FromWorker::Controlled { ticket } => format!("it said controlled {ticket}"),
            FromWorker::Log { .. } | FromWorker::Unknown(_) => "it said something else".to_owned(),
        }
    }
}

/// One of each.
fn properties() -> Properties {
    let text = |text: &str| Some(text.to_owned());
    Properties {
        content_type: text("application/json"),
        content_encoding: text("utf-8"),
        correlation_id: text("check"),
        reply_to: text("answers"),
        kind: text("check"),
        priority: Some(1),
        app_id: text("asynctask"),
        timestamp: text("2026-01-02T03:04:05Z"),
        redelivered: None,
    }
}

/// The name of an outcome's frame.
fn word(outcome: &Report) -> &'static str {
    match outcome {
        Report::Done { .. } => "done",
        Report::Error { .. } => "error",
        Report::Retry { .. } => "retry",
        Report::Snooze { .. } => "snooze",
        Report::DeadLetter { .. } => "failed",
        Report::Malformed { .. } => "malformed",
    }
}
