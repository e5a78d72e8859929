//! What the transport says: the lease of the schedules and what they fire is the shell's, the ledger is the coordinator's, all else
//! is the core's.

use super::{jobs::is_of_the_ledger, state::Shell};
use crate::{
    logging::{Level, MASTER},
    master::core::event::Event,
    redact::redact,
    schedule::Act,
    transport::{self, Request},
};

impl Shell {
    pub(super) fn transport_event(&mut self, event: transport::Event) {
        match event {
            transport::Event::LeaseHeld { memory } => {
                self.leading = true;
                let wall = self.clock.now().wall;
                let acts = self.timer.as_mut().map_or_else(Vec::new, |timer| timer.lead(wall, &memory));
                self.fire(acts);
            }
            transport::Event::Connected(uri) => self.connected_to = Some(uri),
            transport::Event::LeaseRefused => {
                self.logger.line(Level::Info, MASTER, "Another scheduler holds the schedules; waiting for it to go");
            }
            transport::Event::LeaseLost => {
                self.leading = false;
                if let Some(timer) = &mut self.timer {
                    timer.follow();
                }
            }
            transport::Event::Fired { schedule, moment, stored } => {
                if let Err(error) = &stored {
                    self.logger.line(Level::Error, MASTER, &format!("cannot store the task of {schedule}: {error}"));
                }
                let wall = self.clock.now().wall;
                if let Some(timer) = &mut self.timer {
                    timer.fired(wall, &schedule, moment, stored.is_ok());
                }
            }
            event if is_of_the_ledger(&event) => self.ledger_event(event),
            event => {
                if let transport::Event::Refused(error) = &event {
                    self.hint = error.hint();
                }
                self.handle(Event::Transport(event));
            }
        }
    }

    pub(super) fn fire(&mut self, acts: Vec<Act>) {
        for Act::Fire { schedule, moment, task, target } in acts {
            if task.is_some() {
                let text = format!("Triggering scheduled execution of {}", redact(&target));
                self.logger.line(Level::Debug, MASTER, &text);
            }
            self.transport.ask(Request::Fire { schedule, moment, task });
        }
    }
}
