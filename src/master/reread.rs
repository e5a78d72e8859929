//! Reading the settings again while the master runs: the shell's part of a reload.
//!
//! Whoever started the run gave a [`Reader`] that reads and checks them as at the start. What is not right changes nothing
//! and is told. What is right goes to the core with a number for each thing to be started: the same number means the same
//! program in the same environment.

use std::collections::BTreeSet;

use super::{Launch, Shell, event};
use crate::{
    config::{self, Schedule},
    control::types::Answer,
    logging::{Level, MASTER},
    schedule::Timer,
    systemd,
    transport::Request,
};

/// The settings as they are now, as far as a running master can take them.
#[derive(Debug)]
pub struct Fresh {
    /// The queues to work, with what to start for each.
    pub queues: Vec<(event::QueuePlan, Launch)>,
    /// The queues that the settings name.
    pub names: config::Names,
    /// Limits of the master.
    pub supervisor: config::Supervisor,
    /// The schedules; `None` where this master is not to be their scheduler.
    pub schedules: Option<Vec<Schedule>>,
}

/// Why they are not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// All that is wrong with them.
    Invalid(String),
    /// They are right, but not for this run.
    Refused(String),
}

/// Reads and checks the settings. It is called on the main thread and must not wait for anybody.
pub struct Reader(Box<dyn Fn() -> Result<Fresh, Objection>>);

impl Reader {
    /// A reader that does this.
    pub fn new(read: impl Fn() -> Result<Fresh, Objection> + 'static) -> Self {
        Self(Box::new(read))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

impl Shell {
    /// Reads the settings again and hands them to the core. `number` names the command that asked for it.
    pub(super) fn reload(&mut self, number: Option<u64>, wait: bool, by: &str) {
        if let Some(notifier) = &mut self.notifier {
            notifier.reloading(self.core.phase());
        }
        if self.core.phase() == systemd::Phase::Stopping {
            return self.object(number, by, Objection::Refused("the master is stopping".to_owned()));
        }
        let Some(reader) = &self.reader else {
            let why = "there are no settings to be read again".to_owned();
            return self.object(number, by, Objection::Refused(why));
        };
        let fresh = match (reader.0)() {
            Ok(fresh) => fresh,
            Err(objection) => return self.object(number, by, objection),
        };
        let mut used = BTreeSet::new();
        let mut queues = Vec::with_capacity(fresh.queues.len());
        for (plan, launch) in fresh.queues {
            let number = self.number_of(launch);
            used.insert(number);
            queues.push(event::QueuePlan { launch: number, ..plan });
        }
        if let Some(schedules) = fresh.schedules {
            self.reschedule(schedules);
        }
        let (names, scheduler) = (fresh.names, self.timer.is_some());
        let settings = Box::new(event::Settings { queues, supervisor: fresh.supervisor, scheduler, names });
        self.handle(event::Event::SettingsRead { number, wait, by: by.to_owned(), settings });
        self.launches.retain(|number, _| used.contains(number));
    }

    /// The number of something to start.
    fn number_of(&mut self, launch: Launch) -> usize {
        if let Some((number, _)) = self.launches.iter().find(|(_, known)| **known == launch) {
            return *number;
        }
        self.launched += 1;
        self.launches.insert(self.launched - 1, launch);
        self.launched - 1
    }

    fn reschedule(&mut self, schedules: Vec<Schedule>) {
        if self.timer_stopped {
            return;
        }
        let now = self.clock.now().wall;
        let new = match &mut self.timer {
            Some(timer) => timer.replace(schedules, now),
            None if schedules.is_empty() => return,
            None => {
                self.transport.ask(Request::Lease { application: self.application.clone() });
                self.timer = Some(Timer::new(schedules.clone(), now));
                schedules
            }
        };
        for schedule in new {
            self.logger.line(Level::Info, MASTER, &schedule.announcement_at(now));
        }
    }

    /// The settings are not taken: whoever asked is told, and the log.
    fn object(&mut self, number: Option<u64>, by: &str, objection: Objection) {
        let (answer, why) = match objection {
            Objection::Invalid(problems) => {
                let why = format!("the settings are not right, and stay as they were\n{problems}");
                (Answer::Invalid { problems }, why)
            }
            Objection::Refused(message) => {
                let why = format!("{message}; the settings stay as they were");
                (Answer::Refused { message }, why)
            }
        };
        self.logger.line(Level::Error, MASTER, &format!("{by} asks: reload: {why}"));
        if let Some(number) = number {
            self.answer(number, answer);
        }
    }
}
