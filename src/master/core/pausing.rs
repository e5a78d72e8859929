//! The core's chapter on queues that a person has paused: nothing of them is taken until they are resumed, or a time is over.
//!
//! A pause outlives the master: who pauses a queue because a database is being mended does not want a deploy to resume it.
//! So whatever shows the queue says that it is paused, by whom and until when, and a start that finds it paused says so.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Core,
    event::{Action, PausedQueue},
    state::{pause::Pause, pool, timers::Owner},
};
use crate::{
    clock::{Instant, Timestamp},
    logging::Level,
};

impl Core {
    /// Takes nothing of a queue any more, for good or for a time. One that is paused already is paused anew: the last word counts.
    pub(super) fn pause(
        &mut self,
        index: usize,
        limit: Option<Duration>,
        is_kept: bool,
        by: &str,
    ) -> Result<String, String> {
        let until = limit.map(|limit| self.now.at + limit);
        if self.pools[index].is_paused() && until.is_none() && self.pools[index].pause_ends_at().is_none() {
            return Err("it is paused already".to_owned());
        }
        self.begin_pause(index, Pause { by: by.to_owned(), since: self.now.wall, until, is_kept });
        self.give_back(index);
        self.keep_paused();
        let until = limit.map_or_else(
            || "until it is resumed".to_owned(),
            |limit| format!("for {} s, then resumed by itself", limit.as_secs_f64()),
        );
        Ok(format!("paused {until}; tasks in hand are finished"))
    }

    fn begin_pause(&mut self, index: usize, pause: Pause) {
        if let Some(until) = pause.until {
            self.timers.arm(Owner::Queue(index), until);
        }
        self.pools[index].pause = Some(pause);
    }

    /// Takes tasks of it again.
    pub(super) fn resume(&mut self, index: usize) -> Result<String, String> {
        if self.pools[index].pause.take().is_none() {
            return Err("it is not paused".to_owned());
        }
        self.serial += 1;
        self.renew_credit(index);
        self.keep_paused();
        Ok("resumed".to_owned())
    }

    /// A look at the queue: its pause may be over.
    pub(super) fn end_pause_if_due(&mut self, index: usize) {
        let Some(until) = self.pools[index].pause_ends_at() else { return };
        // In a stop nothing is resumed: armed again, its end would be due for ever.
        if self.stop.is_stopping() {
            return;
        }
        if until > self.now.at {
            self.timers.arm(Owner::Queue(index), until);
        } else if self.resume(index).is_ok() {
            let queue = self.pools[index].name().to_owned();
            self.log(Level::Info, || format!("Queue {queue} is resumed: its pause is over"));
        }
    }

    /// What the next run is to know.
    pub(super) fn keep_paused(&mut self) {
        let kept = |pool: &pool::Pool| {
            let pause = pool.pause.as_ref().filter(|pause| pause.is_kept)?;
            let until = pause.until.map(|until| self.wall(until));
            Some(PausedQueue { queue: pool.name().to_owned(), by: pause.by.clone(), since: pause.since, until })
        };
        let paused = self.members().filter_map(kept).collect();
        self.actions.push(Action::KeepPaused(paused));
    }

    /// What the wall clock shows at a moment to come.
    fn wall(&self, at: Instant) -> Timestamp {
        self.now.wall.plus(at.since(self.now.at))
    }

    /// What the run before has left paused ([`Action::KeepPaused`]), before this one begins.
    pub fn begin_with_paused(&mut self, paused: Vec<PausedQueue>) {
        self.paused_before = paused;
    }

    /// At the beginning: what the run before has left paused stays so. A pause whose time is over by the wall clock is over.
    pub(super) fn pause_as_before(&mut self) {
        if self.paused_before.is_empty() {
            return;
        }
        for PausedQueue { queue, by, since, until } in std::mem::take(&mut self.paused_before) {
            let Some(index) = self.pools.iter().position(|pool| pool.name() == queue) else { continue };
            let left = until.map(|until| until.remaining(self.now.wall));
            if left.is_some_and(|left| left.is_zero()) {
                continue;
            }
            let until = left.map(|left| self.now.at + left);
            let words = left.map_or_else(String::new, |left| format!(" for {:.0} s more", left.as_secs_f64()));
            self.begin_pause(index, Pause { by: by.clone(), since, until, is_kept: true });
            self.log(Level::Warning, || {
                format!(
                    "Queue {queue} is paused{words}, as {by} asked the run before: `control resume {queue}` works it at once"
                )
            });
        }
        self.keep_paused();
    }

    /// The pause of a queue for programs: by whom, since when, until when.
    pub(super) fn paused_status(&self, index: usize) -> Value {
        let Some(pause) = &self.pools[index].pause else { return Value::Null };
        let text = |moment: Timestamp| jiff::Timestamp::from_millisecond(moment.0).unwrap_or_default().to_string();
        json!({
            "by": pause.by,
            "since": text(pause.since),
            "until": pause.until.map(|until| text(self.wall(until))),
            "kept": pause.is_kept,
        })
    }
}
