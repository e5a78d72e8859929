//! Reading the settings again while the master runs: the shell's part of a reload.
//!
//! Whoever started the run gave a [`Reader`] that reads and checks them as at the start. It works on a thread of its own:
//! to check them, users are looked up, and a directory server or a file system that does not answer must not hold up
//! the loop. What is not right changes nothing and is told. What is right goes to the core with a number for each
//! thing to be started: the same number means the same program in the same environment.
//!
//! One reading serves all who asked before it began; who asks while it is under way gets the next one, because the files
//! may have changed since. One that gives nothing for [`LIMIT`] is given up, and whoever asked is told; its thread cannot be
//! ended, so there are at most [`UNENDED`] of them.

use std::{collections::BTreeSet, future, io, pin::Pin, sync::Arc, thread, time::Duration};

use tokio::{sync::oneshot, time::Timeout};

use crate::{
    config::{self, Schedule},
    control::types::Answer,
    logging::{Level, MASTER},
    master::{Launch, Shell, core::event},
    process::stacks,
    schedule::Timer,
    systemd,
    transport::Request,
};

/// How long a reading may take. Clients of directory servers give up sooner by themselves, as a rule.
const LIMIT: Duration = Duration::from_mins(1);
/// Readings that were given up and have not ended: where so many hang, no other is begun.
const UNENDED: usize = 8;

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

/// Reads and checks the settings. It is called on a thread of its own.
#[derive(Clone)]
pub struct Reader {
    read: Arc<dyn Fn() -> Result<Fresh, Objection> + Send + Sync>,
    has_files: bool,
}

impl Reader {
    /// A reader that does this. `has_files`: there are files that may say something else by now.
    pub fn new(has_files: bool, read: impl Fn() -> Result<Fresh, Objection> + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(read), has_files }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

/// Somebody who asked for the settings to be read.
#[derive(Debug)]
struct Asker {
    /// The command's number; `None`: a signal.
    number: Option<u64>,
    /// Whether the answer comes when all is in force.
    wait: bool,
    /// Who it was.
    by: String,
}

/// What the thread of a reading gives.
type Read = oneshot::Receiver<Result<Fresh, Objection>>;

/// Readings of the settings: the one that is under way, and who waits for the next.
#[derive(Debug, Default)]
pub(in crate::master) struct Reading {
    under_way: Option<Pin<Box<Timeout<Read>>>>,
    /// Each thread that reads has one of these.
    threads: Arc<()>,
    /// For whom it is.
    askers: Vec<Asker>,
    next: Vec<Asker>,
}

impl Reading {
    pub(in crate::master) const fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// What the reading that is under way gave; without one this never ends. May be dropped and called again.
    pub(in crate::master) async fn done(&mut self) -> Result<Fresh, Objection> {
        let Some(under_way) = &mut self.under_way else { return future::pending().await };
        // The thread says something unless it panics.
        let read = under_way.await;
        self.under_way = None;
        let Ok(read) = read else {
            let text = "they were not read and checked in time: a file system or a directory server does not answer";
            return Err(Objection::Refused(text.to_owned()));
        };
        read.unwrap_or_else(|_| Err(Objection::Refused("their check broke off".to_owned())))
    }

    /// Begins a reading, which may take so long.
    fn begin(&mut self, reader: Reader, limit: Duration) -> io::Result<()> {
        let of_thread = Arc::clone(&self.threads);
        // This one and ours are not given up.
        if Arc::strong_count(&of_thread) - 2 >= UNENDED {
            return Err(io::Error::other(format!("{UNENDED} readings before this one have not ended")));
        }
        let (told, read) = oneshot::channel();
        let run = move || {
            // The master may have ended meanwhile, or given it up.
            let _ = told.send((reader.read)());
            drop(of_thread);
        };
        thread::Builder::new().name("settings".to_owned()).stack_size(stacks::LARGE).spawn(run)?;
        self.under_way = Some(Box::pin(tokio::time::timeout(limit, read)));
        Ok(())
    }
}

impl Shell {
    /// A HUP: of somebody who wants the settings to be read again, or of a terminal that closes. Where no file has settings it
    /// can only be the latter, and a master without its terminal is one that nobody would find again.
    pub(in crate::master) fn hung_up(&mut self) {
        if self.reader.as_ref().is_some_and(|reader| reader.has_files) {
            return self.reload(None, false, "HUP");
        }
        // A closing terminal's HUP comes from the shell and from the kernel: the second is no wish for haste.
        if self.core.phase() != systemd::Phase::Stopping {
            let text = "HUP asks: stop, because there is no configuration file to be read again";
            self.logger.line(Level::Info, MASTER, text);
            self.handle(event::Event::StopAsked);
        }
    }

    /// Has the settings read again. `number` names the command that asked for it.
    pub(in crate::master) fn reload(&mut self, number: Option<u64>, wait: bool, by: &str) {
        if let Some(notifier) = &mut self.notifier {
            notifier.reloading(self.core.phase());
        }
        if self.core.phase() == systemd::Phase::Stopping {
            return self.object(number, by, Objection::Refused("the master is stopping".to_owned()));
        }
        if self.reader.is_none() {
            let why = "there are no settings to be read again".to_owned();
            return self.object(number, by, Objection::Refused(why));
        }
        // Of many signals one is left, as the kernel has it.
        if number.is_some() || self.reading.next.iter().all(|asker| asker.number.is_some()) {
            self.reading.next.push(Asker { number, wait, by: by.to_owned() });
        }
        self.read_settings();
    }

    /// Begins to read for all who wait for it, if nothing is being read.
    fn read_settings(&mut self) {
        let Some(reader) = self.reader.clone() else { return };
        if self.reading.is_under_way() || self.reading.next.is_empty() {
            return;
        }
        self.reading.askers = std::mem::take(&mut self.reading.next);
        if let Err(error) = self.reading.begin(reader, LIMIT) {
            self.settings_came(Err(Objection::Refused(format!("they cannot be read: {error}"))));
        }
    }

    /// The settings were read: they go to the core, or whoever asked is told what is wrong with them.
    pub(in crate::master) fn settings_came(&mut self, read: Result<Fresh, Objection>) {
        let askers = std::mem::take(&mut self.reading.askers);
        let is_stopping = self.core.phase() == systemd::Phase::Stopping;
        match read {
            Ok(fresh) if !is_stopping => self.take_settings(fresh, askers),
            read => {
                let stopping = Objection::Refused("the master is stopping".to_owned());
                let objection = read.err().filter(|_| !is_stopping).unwrap_or(stopping);
                for Asker { number, by, .. } in askers {
                    self.object(number, &by, objection.clone());
                }
            }
        }
        self.read_settings();
    }

    fn take_settings(&mut self, fresh: Fresh, askers: Vec<Asker>) {
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
        let settings = event::Settings { queues, supervisor: fresh.supervisor, scheduler, names };
        for Asker { number, wait, by } in askers {
            self.handle(event::Event::SettingsRead { number, wait, by, settings: Box::new(settings.clone()) });
        }
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

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[test]
    fn a_reading_that_never_ends_is_given_up_and_so_many_hang_at_most() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (answers, answer) = mpsc::channel();
        let answer = Mutex::new(answer);
        // Of a directory server that does not answer until it is asked to.
        let reader = Reader::new(true, move || {
            let said = answer.lock().unwrap().recv().unwrap_or("gone");
            Err(Objection::Refused(said.to_owned()))
        });
        let mut reading = Reading::default();
        runtime.block_on(async {
            for _ in 0..UNENDED {
                reading.begin(reader.clone(), Duration::ZERO).unwrap();
                let Err(Objection::Refused(text)) = reading.done().await else { panic!("it hangs") };
                assert!(text.contains("in time") && !reading.is_under_way(), "{text}");
            }
            let refused = reading.begin(reader.clone(), LIMIT).unwrap_err();
            assert!(refused.to_string().contains("have not ended") && !reading.is_under_way(), "{refused}");
            // They come back one after the other.
            for _ in 0..UNENDED {
                answers.send("late").unwrap();
            }
            while Arc::strong_count(&reading.threads) > 1 {
                thread::yield_now();
            }
            answers.send("again").unwrap();
            reading.begin(reader, LIMIT).unwrap();
            assert_eq!(reading.done().await.unwrap_err(), Objection::Refused("again".to_owned()));
        });
    }
}
