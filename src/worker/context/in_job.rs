//! What a task of a job knows and gives beside others, and the memo, which every task may leave.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{Context, SubmitError, with_room};
use crate::{
    json_text::JsonText,
    limits,
    outcome::{FollowUp, Target},
    worker::job::{self, Job},
};

/// Longest result of a task that is of no job, in bytes of JSON: that of a producer that waits for it.
const LONGEST_RESULT: usize = limits::RESULT as usize;

impl Context {
    /// The task's place in a job; `None` outside of jobs.
    #[must_use]
    pub fn job(&self) -> Option<&Job> {
        self.0.job.as_ref()
    }

    /// What the last attempt left for this one, by [`Self::set_memo`]; `None` if none has left anything.
    ///
    /// # Errors
    /// It cannot be read as this type.
    pub fn memo<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        job::read(self.0.memo.as_deref())
    }

    /// Leaves a memo, of at most 16 KiB as JSON, for when this task comes again: it goes with any end but
    /// [`Done`](crate::Outcome::Done), and with an error. Without a new one, the task keeps the one that it has.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use asynctask::{Context, Outcome};
    /// # fn begin(_: &str) -> u64 { 7 }
    /// # fn is_over(_: u64) -> bool { true }
    /// fn crawl(site: String, context: &Context) -> asynctask::TaskResult {
    ///     let crawl = match context.memo()? {
    ///         Some(crawl) => crawl,
    ///         None => begin(&site),
    ///     };
    ///     if is_over(crawl) {
    ///         return Ok(Outcome::Done);
    ///     }
    ///     context.set_memo(&crawl)?;
    ///     Ok(Outcome::Snooze { after: Duration::from_secs(60) })
    /// }
    /// ```
    ///
    /// # Errors
    /// [`SubmitError`]; the memo is as it was then.
    pub fn set_memo<M: Serialize + ?Sized>(&self, memo: &M) -> Result<(), SubmitError> {
        let memo = written("memo", memo, limits::MEMO)?;
        self.leave(|left, _| {
            left.memo = Some(JsonText::of(&memo));
            Ok(())
        })
    }

    /// Gives a result, once this task is [`Done`](crate::Outcome::Done): to the steps of its job that need this one, where it may
    /// have 32 KiB as JSON, or to a producer that waits for it. Elsewhere nobody hears of it.
    ///
    /// # Errors
    /// [`SubmitError`]; the result is as it was then.
    pub fn set_result<R: Serialize + ?Sized>(&self, result: &R) -> Result<(), SubmitError> {
        let most = if self.0.job.is_some() { limits::JOB_RESULT } else { LONGEST_RESULT };
        let result = written("result", result, most)?;
        self.leave(|left, bytes| {
            let before = left.result.as_ref().map_or(0, |result| result.get().len());
            *bytes = with_room(*bytes - before + result.get().len())?;
            left.result = Some(result);
            Ok(())
        })
    }

    /// Submits one more task of this step of the job, to the queue of its items, once this one is
    /// [`Done`](crate::Outcome::Done). The step is done when all of them are.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing is submitted then.
    pub fn item<P: Serialize + ?Sized>(&self, payload: &P) -> Result<(), SubmitError> {
        self.item_after(Duration::ZERO, payload)
    }

    /// [`Self::item`], due only after `delay`.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing is submitted then.
    pub fn item_after<P: Serialize + ?Sized>(&self, delay: Duration, payload: &P) -> Result<(), SubmitError> {
        self.keep_member(Target::Item, delay, payload)
    }

    /// Submits one more task of this step of the job to the step's own queue, as [`Self::item`] does to that of its items: the one
    /// that goes on with the next thousand items.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing is submitted then.
    pub fn more<P: Serialize + ?Sized>(&self, payload: &P) -> Result<(), SubmitError> {
        self.more_after(Duration::ZERO, payload)
    }

    /// [`Self::more`], due only after `delay`.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing is submitted then.
    pub fn more_after<P: Serialize + ?Sized>(&self, delay: Duration, payload: &P) -> Result<(), SubmitError> {
        self.keep_member(Target::More, delay, payload)
    }

    /// Starts a job of a pipeline, once this task is [`Done`](crate::Outcome::Done). Nobody waits for it. With an `id` that a job has,
    /// none is started; without one, a repeated run of this task starts the same.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing is started then.
    pub fn start_pipeline<P: Serialize + ?Sized>(
        &self,
        pipeline: &str,
        payload: &P,
        id: Option<&str>,
    ) -> Result<(), SubmitError> {
        let payload = serde_json::value::to_raw_value(payload)?;
        let target = Target::Pipeline { name: pipeline.to_owned(), id: id.map(str::to_owned) };
        self.keep(FollowUp { target, payload, delay: Duration::ZERO })
    }

    fn keep_member<P: Serialize + ?Sized>(
        &self,
        target: Target,
        delay: Duration,
        payload: &P,
    ) -> Result<(), SubmitError> {
        if self.0.job.is_none() {
            return Err(SubmitError::NoJob { id: self.0.id.clone() });
        }
        let payload = serde_json::value::to_raw_value(payload)?;
        self.keep(FollowUp { target, payload, delay })
    }
}

/// What is given, as JSON of at most so many bytes.
fn written<V: Serialize + ?Sized>(what: &'static str, value: &V, most: usize) -> Result<Box<RawValue>, SubmitError> {
    let text = serde_json::value::to_raw_value(value).map_err(|source| SubmitError::Unwritable { what, source })?;
    let bytes = text.get().len();
    if bytes > most { Err(SubmitError::TooLong { what, bytes, most }) } else { Ok(text) }
}
