//! The context of a running task: its properties, and the frames that its code can send.

mod in_job;
mod submit_error;

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use serde::Serialize;
use serde_json::value::RawValue;

pub use self::submit_error::SubmitError;
use super::{frame_writer::FrameWriter, job::Job, lines::Lines};
use crate::{
    clock::{Clock, Instant},
    frames::{self, LIMIT, from_worker, to_worker::Assignment},
    json_text::JsonText,
    level::Level,
    outcome::{FollowUp, Target},
    properties::Properties,
    task::{Headers, is_foreign_queue_name, is_queue_name},
    text::cut,
};

/// Room in the outcome's frame for all but the result and the payloads of what was submitted.
const FRAME_REST: usize = 64 * 1024;

/// A task, as its code sees it. Clones are the same task; after its end they do nothing any more.
#[derive(Clone)]
pub struct Context(Arc<Facts>);

struct Facts {
    id: String,
    queue: Arc<str>,
    attempt: u32,
    max_attempts: u32,
    headers: Headers,
    properties: Option<Properties>,
    deadline: Option<Instant>,
    job: Option<Job>,
    memo: Option<Box<RawValue>>,
    surroundings: Arc<Surroundings>,
    held: Mutex<Held>,
}

/// What all tasks of a worker have in common, so that each costs few allocations.
#[derive(Debug)]
pub(super) struct Surroundings {
    clock: Clock,
    lines: Lines,
    writer: Arc<FrameWriter>,
    /// The name of the queue that the first task came from: a worker does the tasks of one.
    queue: OnceLock<Arc<str>>,
}

impl Surroundings {
    pub(super) fn new(lines: &Lines, writer: &Arc<FrameWriter>) -> Arc<Self> {
        let (lines, writer) = (lines.clone(), Arc::clone(writer));
        Arc::new(Self { clock: Clock::start(), lines, writer, queue: OnceLock::new() })
    }

    fn queue(&self, name: &str) -> Arc<str> {
        let queue = self.queue.get_or_init(|| name.into());
        if **queue == *name { Arc::clone(queue) } else { name.into() }
    }
}

/// What ends with the task.
#[derive(Debug)]
enum Held {
    /// In hand. `bytes`: those of its follow-ups.
    Working { left: Left, bytes: usize, accepted: bool },
    /// Its outcome is decided; nothing may be said of it any more.
    Ended,
}

/// What goes with the end of a task.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// With one that is done.
    pub(super) follow_ups: Vec<FollowUp>,
    /// Likewise.
    pub(super) result: Option<Box<RawValue>>,
    /// With any other.
    pub(super) memo: Option<JsonText>,
}

impl Context {
    pub(super) fn new(task: &Assignment<'_>, surroundings: &Arc<Surroundings>) -> Self {
        Self(Arc::new(Facts {
            id: task.id.clone().into_owned(),
            queue: surroundings.queue(&task.queue),
            attempt: task.attempt,
            max_attempts: task.max_attempts,
            headers: task.headers(),
            properties: task.properties(),
            deadline: task.time_left().map(|left| surroundings.clock.now().at + left),
            job: task.job().map(Job::of),
            memo: task.memo().map(ToOwned::to_owned),
            surroundings: Arc::clone(surroundings),
            held: Mutex::new(Held::Working { left: Left::default(), bytes: 0, accepted: false }),
        }))
    }

    /// The task's id: the same in every attempt.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The queue it came from.
    #[must_use]
    pub fn queue(&self) -> &str {
        &self.0.queue
    }

    /// Which attempt this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Attempts in all.
    #[must_use]
    pub fn max_attempts(&self) -> u32 {
        self.0.max_attempts
    }

    /// Headers that came with the task.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.0.headers
    }

    /// What the message says of itself, for a kind that [asks for it](crate::App::with_properties); of another one, and
    /// where the transport has none, nothing.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        self.0.properties.as_ref().unwrap_or(Properties::NONE)
    }

    /// Time left until this process is killed for taking too long; `None` without a limit.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.0.deadline.map(|deadline| deadline.since(self.0.surroundings.clock.now().at))
    }

    /// Puts a task into a queue, once this one is [`Done`](super::Outcome::Done): both are stored together. With
    /// any other end it is dropped.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing is submitted then.
    pub fn submit<P: Serialize + ?Sized>(&self, queue: &str, payload: &P) -> Result<(), SubmitError> {
        self.submit_after(Duration::ZERO, queue, payload)
    }

    /// [`Self::submit`], due only after `delay`.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing is submitted then.
    pub fn submit_after<P: Serialize + ?Sized>(
        &self,
        delay: Duration,
        queue: &str,
        payload: &P,
    ) -> Result<(), SubmitError> {
        // Whether a queue of others may have it is for the master to say.
        if !is_queue_name(queue) && !is_foreign_queue_name(queue) {
            return Err(SubmitError::QueueName { queue: queue.to_owned() });
        }
        let payload = serde_json::value::to_raw_value(payload)?;
        self.keep(FollowUp { target: Target::Queue(queue.to_owned()), payload, delay })
    }

    /// Puts a task into the queue that this one came from, as [`Self::submit`] does.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing is submitted then.
    pub fn requeue<P: Serialize + ?Sized>(&self, payload: &P) -> Result<(), SubmitError> {
        let payload = serde_json::value::to_raw_value(payload)?;
        let line = format!("Requeued payload: {}", payload.get());
        self.keep(FollowUp { target: Target::Queue(self.queue().to_owned()), payload, delay: Duration::ZERO })?;
        self.log(Level::Debug, &line);
        Ok(())
    }

    fn keep(&self, follow_up: FollowUp) -> Result<(), SubmitError> {
        self.leave(|left, bytes| {
            // A queue's name and the punctuation around it are under 300 bytes.
            *bytes = with_room(*bytes + follow_up.payload.get().len() + length(&follow_up.target) + 300)?;
            left.follow_ups.push(follow_up);
            Ok(())
        })
    }

    /// Changes what goes with the task's end, and how many bytes that has, its memo aside.
    fn leave(&self, change: impl FnOnce(&mut Left, &mut usize) -> Result<(), SubmitError>) -> Result<(), SubmitError> {
        match &mut *self.held() {
            Held::Working { left, bytes, .. } => change(left, bytes),
            Held::Ended => Err(SubmitError::Ended { id: self.0.id.clone() }),
        }
    }

    /// Takes the task out of its queue now: if this process or machine is lost from here on, the task is lost too.
    /// An error or crash that the master sees is still retried and dead-lettered. The second call does nothing.
    pub fn accept(&self) {
        if let Held::Working { accepted, .. } = &mut *self.held()
            && !std::mem::replace(accepted, true)
        {
            self.tell(|frame| from_worker::accept(&self.0.id, frame));
        }
    }

    /// Tells how far the task is, in percent, with a note of at most 1,000 bytes; `asynctask status` shows it.
    pub fn progress(&self, percent: f64, note: &str) {
        if let Held::Working { .. } = *self.held() {
            self.tell(|frame| from_worker::progress(&self.0.id, Some(percent), cut(note, 1000), frame));
        }
    }

    /// Writes a line to the log, under this worker's name, in order with what the code prints.
    pub fn log(&self, level: Level, message: &(impl fmt::Display + ?Sized)) {
        self.0.surroundings.lines.write(level, &format_args!("{message}"));
    }

    /// Ends the task's rights and gives what goes with its end.
    pub(super) fn end(&self) -> Left {
        match std::mem::replace(&mut *self.held(), Held::Ended) {
            Held::Working { left, .. } => left,
            Held::Ended => Left::default(),
        }
    }

    /// Sends the outcome. After [`Self::end`], so that nothing else is said of the task behind it.
    pub(super) fn report(&self, outcome: &crate::outcome::Report) -> io::Result<()> {
        self.0.surroundings.writer.send(|frame| frames::from_worker::outcome(&self.0.id, outcome, frame))
    }

    fn tell(&self, fill: impl FnOnce(&mut Vec<u8>)) {
        // A master that is gone is noticed by the worker's loop.
        let _ = self.0.surroundings.writer.send(fill);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of what is submitted and given, if a frame has room for so many.
fn with_room(bytes: usize) -> Result<usize, SubmitError> {
    if bytes > LIMIT - FRAME_REST { Err(SubmitError::TooLarge) } else { Ok(bytes) }
}

/// Bytes of the names in a target, a queue's aside: those are bounded.
fn length(target: &Target) -> usize {
    match target {
        Target::Queue(_) | Target::Item | Target::More => 0,
        Target::Pipeline { name, id } => name.len() + id.as_ref().map_or(0, String::len),
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("id", &self.0.id)
            .field("queue", &self.0.queue)
            .field("attempt", &self.0.attempt)
            .field("max_attempts", &self.0.max_attempts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn each_task_knows_its_own_queue() {
        let surroundings = Surroundings::new(&Lines::new("kind", Level::Error), &Arc::new(FrameWriter::nowhere()));
        let payload = RawValue::from_string("null".to_owned()).unwrap();
        let queues = ["foo", "bar", "foo"];
        let contexts = queues.map(|queue| Context::new(&Assignment::new("id-1", queue, &payload), &surroundings));
        assert_eq!(contexts.map(|context| context.queue().to_owned()), queues);
    }

    #[test]
    fn a_task_is_accepted_once_and_nothing_is_said_of_it_after_its_end() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let payload = RawValue::from_string("null".to_owned()).unwrap();
        let task = Assignment::new("id-1", "foo", &payload);
        let writer = Arc::new(FrameWriter::to(theirs));
        let surroundings = Surroundings::new(&Lines::new("kind", Level::Error), &writer);
        let context = Context::new(&task, &surroundings);
        context.accept();
        context.accept();
        context.progress(40.0, &"ü".repeat(2000));
        context.end();
        context.accept();
        context.progress(50.0, "late");
        drop((context, surroundings, writer));
        let mut told = String::new();
        ours.read_to_string(&mut told).unwrap();
        let note = "ü".repeat(500);
        let progress = format!(r#"{{"progress":{{"id":"id-1","percent":40.0,"note":"{note}"}}}}"#);
        assert_eq!(told, format!("{}\n{progress}\n", r#"{"accept":{"id":"id-1"}}"#));
    }
}
