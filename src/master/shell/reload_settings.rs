//! Reading the settings again while the master runs: the shell's part of a reload.
//!
//! Settings with errors change nothing; the errors are reported. Settings without errors go to the core with a number for each
//! launch: the same number means the same program in the same environment.
//!
//! One reading serves all requests before its begin; a request while it is under way gets the next one, because the files
//! may have changed since.

use std::{collections::BTreeSet, time::Duration};

use super::{
    settings_reader::{Fresh, Objection, ReadRequest},
    state::Shell,
};
use crate::{
    config::Schedule,
    control::types::Answer,
    logging::{Level, MASTER},
    master::{
        core::event::{Event, QueuePlan, Settings},
        queue_run::{Launch, QueueRun},
    },
    schedule::Timer,
    systemd,
    transport::{self, Request},
};

/// How long a reading may take. Clients of directory servers give up sooner by themselves, as a rule.
const LIMIT: Duration = Duration::from_mins(1);

impl Shell {
    /// A HUP: a request to read the settings again, or the end of a terminal. Without configuration files it can only be the
    /// latter, and the master stops: without its terminal and a control socket it could not be reached again.
    pub(super) fn hang_up(&mut self) {
        if self.reader.as_ref().is_some_and(|reader| reader.has_files) {
            return self.reload(None, false, "HUP");
        }
        // A closing terminal's HUP comes from the shell and from the kernel: the second is no wish for haste.
        if self.core.phase() != systemd::Phase::Stopping {
            let text = "HUP asks: stop, because there is no configuration file to be read again";
            self.logger.line(Level::Info, MASTER, text);
            self.handle(Event::StopAsked);
        }
    }

    /// Has the settings read again. `number` names the command that asked for it.
    pub(super) fn reload(&mut self, number: Option<u64>, wait: bool, by: &str) {
        if let Some(notifier) = &mut self.notifier {
            notifier.reloading(self.core.phase());
        }
        if self.core.phase() == systemd::Phase::Stopping {
            return self.refuse_reload(number, by, Objection::Refused("the master is stopping".to_owned()));
        }
        if self.reader.is_none() {
            let why = "there are no settings to be read again".to_owned();
            return self.refuse_reload(number, by, Objection::Refused(why));
        }
        // Of many signals one is left, as the kernel has it.
        if number.is_some() || self.reading.next.iter().all(|request| request.number.is_some()) {
            self.reading.next.push(ReadRequest { number, wait, by: by.to_owned() });
        }
        self.read_settings();
    }

    /// Begins a reading for all requests that wait, if none is under way.
    fn read_settings(&mut self) {
        let Some(reader) = self.reader.clone() else { return };
        if self.reading.is_under_way() || self.reading.next.is_empty() {
            return;
        }
        self.reading.requests = std::mem::take(&mut self.reading.next);
        if let Err(error) = self.reading.begin(reader, LIMIT) {
            self.settings_read(Err(Objection::Refused(format!("they cannot be read: {error}"))));
        }
    }

    /// The settings were read: they go to the core, or each request is answered with what is wrong with them.
    pub(super) fn settings_read(&mut self, read: Result<Fresh, Objection>) {
        let requests = std::mem::take(&mut self.reading.requests);
        let is_stopping = self.core.phase() == systemd::Phase::Stopping;
        match read {
            Ok(fresh) if !is_stopping => self.take_settings(fresh, requests),
            read => {
                let stopping = Objection::Refused("the master is stopping".to_owned());
                let objection = read.err().filter(|_| !is_stopping).unwrap_or(stopping);
                for ReadRequest { number, by, .. } in requests {
                    self.refuse_reload(number, &by, objection.clone());
                }
            }
        }
        self.read_settings();
    }

    fn take_settings(&mut self, fresh: Fresh, requests: Vec<ReadRequest>) {
        let is_other = self.settings != fresh.settings || self.dashboard != fresh.dashboard;
        (self.settings, self.dashboard) = (fresh.settings, fresh.dashboard);
        if let Some(page) = self.page.as_ref().filter(|_| is_other) {
            page.restart();
        }
        let pipelines = fresh.pipelines.iter().map(|pipeline| pipeline.name.clone()).collect();
        transport::tell(&*self.transport, fresh.protocols);
        let worked = fresh.queues.iter().map(|queue| queue.plan.settings.name.clone()).collect();
        self.reload_jobs(fresh.pipelines, &worked, |queue| fresh.names.unknown(queue).is_none());
        let mut used = BTreeSet::new();
        let mut queues = Vec::with_capacity(fresh.queues.len());
        for QueueRun { plan, launch } in fresh.queues {
            let number = self.number_of(launch);
            used.insert(number);
            queues.push(QueuePlan { launch: number, ..plan });
        }
        if let Some(schedules) = fresh.schedules {
            self.reschedule(schedules);
        }
        self.celery.start(fresh.celery);
        self.count_descriptors();
        let (names, scheduler) = (fresh.names, self.timer.is_some());
        let settings = Settings { queues, supervisor: fresh.supervisor, scheduler, names, pipelines };
        for ReadRequest { number, wait, by } in requests {
            self.handle(Event::SettingsRead { number, wait, by, settings: Box::new(settings.clone()) });
        }
        self.launches.retain(|number, _| used.contains(number));
    }

    /// The number of something to start.
    fn number_of(&mut self, launch: Launch) -> usize {
        if let Some((number, _)) = self.launches.iter().find(|(_, known)| **known == launch) {
            return *number;
        }
        self.next_launch += 1;
        self.launches.insert(self.next_launch - 1, launch);
        self.next_launch - 1
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

    /// The settings are not taken: logged, and answered.
    fn refuse_reload(&mut self, number: Option<u64>, by: &str, objection: Objection) {
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
