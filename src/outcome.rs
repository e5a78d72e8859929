//! The report of a worker about a task. Data alone: the core decides what follows.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::json_text::JsonText;

/// A longer delay that a worker asks for, of a task or of what it submits, is taken as this: 365 days.
pub const LONGEST_DELAY: Duration = Duration::from_hours(365 * 24);

/// The end of one run of a task, as the worker tells it.
#[derive(Clone, Debug)]
pub enum Report {
    /// Done; these tasks are to be stored together with the removal.
    Done {
        /// Follow-up tasks.
        submit: Vec<FollowUp>,
        /// What it gives, where somebody waits for that.
        given: Option<Box<Given>>,
    },
    /// An error; the retry policy decides.
    Error {
        /// One line.
        error: String,
        /// Causes, a traceback.
        detail: String,
        /// For the next attempt.
        memo: Option<JsonText>,
    },
    /// An error with the worker's own delay; the retry policy decides whether an attempt is left.
    Retry {
        /// One line; may be empty.
        error: String,
        /// `None`: the policy's delay.
        delay: Option<Duration>,
        /// For the next attempt.
        memo: Option<JsonText>,
    },
    /// Not now: again after the delay, no attempt used.
    Snooze {
        /// Time until it is due again.
        delay: Duration,
        /// For when it comes again.
        memo: Option<JsonText>,
    },
    /// It can never be done.
    DeadLetter {
        /// One line.
        error: String,
        /// More.
        detail: String,
        /// For the attempt after it was put back to work.
        memo: Option<JsonText>,
    },
    /// The payload has the wrong shape for this kind.
    Malformed {
        /// What is wrong.
        error: String,
    },
}

impl Report {
    /// Done, with nothing to be stored and nothing given.
    pub const DONE: Self = Self::Done { submit: Vec::new(), given: None };

    /// An error of one line.
    #[must_use]
    pub const fn error(error: String) -> Self {
        Self::Error { error, detail: String::new(), memo: None }
    }
}

/// What a task that is done gives.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Its result, for a producer that waits for one.
    pub result: Option<Box<RawValue>>,
    /// It is done with, because a Celery application has put it back into its queue by itself, and why.
    pub retried: Option<Raised>,
    /// It failed, and the settings say that it is not kept.
    pub failure: Option<Raised>,
}

impl Given {
    /// What is given, if anything is.
    pub(crate) fn of(
        result: Option<Box<RawValue>>,
        retried: Option<Raised>,
        failure: Option<Raised>,
    ) -> Option<Box<Self>> {
        let is_any = result.is_some() || retried.is_some() || failure.is_some();
        is_any.then(|| Box::new(Self { result, retried, failure }))
    }
}

/// What was raised in a Celery application, as Python shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raised {
    /// The exception.
    pub exception: String,
    /// Where it was raised.
    pub traceback: String,
}

/// What a worker wants stored with its `Done`.
#[derive(Clone, Debug)]
pub struct FollowUp {
    /// What becomes of the payload.
    pub target: Target,
    /// Payload, as JSON text.
    pub payload: Box<RawValue>,
    /// Not due before this much time has passed.
    pub delay: Duration,
}

impl FollowUp {
    /// The queue that it names.
    #[must_use]
    pub fn queue(&self) -> Option<&str> {
        match &self.target {
            Target::Queue(queue) => Some(queue),
            Target::Item | Target::More | Target::Pipeline { .. } => None,
        }
    }
}

/// Where a follow-up goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A task of this queue, in no job.
    Queue(String),
    /// One more task of this step of the job, in the queue of its items.
    Item,
    /// The same, in the step's own queue: the next page of who submits items.
    More,
    /// A job of its own.
    Pipeline {
        /// Of this pipeline.
        name: String,
        /// The job's id; one is made where it is `None`, the same each time that this task submits it.
        id: Option<String>,
    },
}
