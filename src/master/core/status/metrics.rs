//! The core's chapter on what it counts: what somebody who measures is shown of it.
//!
//! It may never change anything, nor go through the slots more than once: somebody asks every few seconds, on the loop that
//! hands out the tasks. What it counts may never go down, because who reads it takes that for a new beginning.

use crate::{
    master::core::{
        Core,
        state::{
            pool::Standing,
            slot::{KillReason, Life, Phase},
        },
    },
    metrics::{QueueReading, SLOT_STATES, counts::Cause},
};

impl Core {
    /// How each queue stands, and what happened there.
    #[must_use]
    pub fn readings(&self) -> Vec<QueueReading> {
        let mut slots = vec![[0; SLOT_STATES.len()]; self.pools.len()];
        for slot in self.slots.iter().filter(|slot| slot.is_shown()) {
            if let Some(state) = SLOT_STATES.iter().position(|state| *state == slot.state_word()) {
                slots[slot.queue][state] += 1;
            }
        }
        let queues = slots.into_iter().enumerate().filter(|(index, _)| self.pools[*index].standing != Standing::Vacant);
        queues.map(|(index, slots)| self.reading(index, slots)).collect()
    }

    fn reading(&self, index: usize, slots: [u64; SLOT_STATES.len()]) -> QueueReading {
        let pool = &self.pools[index];
        let settings = &pool.plan.settings;
        QueueReading {
            name: settings.name.clone(),
            kind: settings.kind.clone(),
            dead: settings.dead_letter.clone(),
            state: self.queue_state(index),
            in_hand: pool.in_hand,
            waiting: pool.waiting.len(),
            stuck: pool.stuck.tasks(),
            slots,
            counts: pool.counts.clone(),
        }
    }

    /// Whether a session with the transport stands, and how many came after the first one.
    #[must_use]
    pub const fn sessions(&self) -> (bool, u32) {
        (self.attached, self.session.saturating_sub(1))
    }
}

/// Why a process that has ended without being asked to is to be started again.
pub(in crate::master::core) fn cause(life: &Life) -> Cause {
    match &life.phase {
        _ if !life.was_ready => Cause::Start,
        Phase::Killed(KillReason::TimeLimit { .. }) => Cause::Timeout,
        Phase::Killed(KillReason::Fault(_)) => Cause::Fault,
        Phase::Killed(KillReason::Cancelled | KillReason::Void) => Cause::Cancelled,
        Phase::Killed(KillReason::Silent) => Cause::Silent,
        Phase::Killed(KillReason::StartLimit | KillReason::Stop)
        | Phase::Starting { .. }
        | Phase::Working { .. }
        | Phase::Leaving
        | Phase::Interrupted { .. }
        | Phase::LeftProcesses { .. } => {
            if life.in_flight.is_empty() {
                Cause::Idle
            } else {
                Cause::Crash
            }
        }
    }
}
