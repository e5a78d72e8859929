//! Surveys: whether any attached queue has work left.
//!
//! A count of 0 proves little: for about a millisecond an expiring message is in neither queue, and a quorum queue whose
//! leader does not answer reports 0. So two readings at least half a second apart must agree, delay queues first, with
//! nothing of ours happening in between, and not before the last delayed task must have come back.

use std::{cell::RefCell, rc::Rc, time::Duration};

use super::{counter::Counter, delay_queues, in_transit::InTransit};
use crate::{
    clock::{Clock, Instant},
    jobs::record::Record,
    transport::{
        Event,
        amqp::{
            broker_error::Fault,
            consume::consumer::ConsumedQueue,
            ledger::left::{JobsSurvey, Left},
            session::{
                connections::Session,
                note::{Note, SessionNote},
                state::{Actor, PendingSurvey},
            },
        },
    },
};

/// Between two readings that must agree.
const APART: Duration = Duration::from_millis(500);
/// A reading that took longer may be of a queue without a leader.
const SLOW: Duration = Duration::from_millis(200);
/// When to ask again about work that is about to be delivered.
const SOON: Duration = Duration::from_millis(100);
/// When to ask again about work that waits.
const LATER: Duration = Duration::from_millis(500);
/// Longest wait inside one survey; beyond it the answer says when to ask again.
const LONGEST: Duration = Duration::from_secs(3);

impl Actor {
    /// Takes a survey on; an earlier one is given up.
    pub(crate) fn survey(&mut self, serial: u64, jobs: Option<String>) {
        let by = self.now().at + LONGEST;
        if let Some(PendingSurvey { reading: Some(earlier), .. }) =
            self.surveying.replace(PendingSurvey { serial, jobs, by, reading: None })
        {
            earlier.abort();
        }
    }

    /// Something happened between the readings: they count for nothing.
    pub(crate) fn disturbed(&mut self, disturbed: u64) {
        if let Some(pending) = self.surveying.as_mut().filter(|pending| pending.serial == disturbed) {
            pending.reading = None;
        }
    }

    /// The session ended, and the readings with it.
    pub(crate) fn interrupt_survey(&mut self) {
        if let Some(pending) = &mut self.surveying {
            pending.reading = None;
        }
    }

    /// The survey was answered.
    pub(crate) fn surveyed(&mut self, serial: u64, empty: bool, stranded: Vec<Record>, again_in: Duration) {
        if self.surveying.as_ref().is_some_and(|pending| pending.serial == serial) {
            self.surveying = None;
            self.emit(Event::Surveyed { serial, empty, stranded, again_in });
        }
    }

    /// Begins the readings of a pending survey as soon as nothing is in our hands or under way.
    pub(crate) fn begin_survey(&mut self) {
        let now = self.now().at;
        let Some(PendingSurvey { serial, jobs, by, reading: None }) = &self.surveying else { return };
        let (serial, jobs, by) = (*serial, jobs.clone(), *by);
        let Some(up) = self.state.up() else { return self.surveyed(serial, false, Vec::new(), LATER) };
        // A queue that we do not consume (credit 0) is judged by its readings alone.
        let unsettled = up.queues.iter().any(|consumed| consumed.in_hand > 0 || !consumed.held.is_empty());
        let is_awaited =
            |consumed: &ConsumedQueue| consumed.credit > 0 && consumed.channel.is_some() && !consumed.is_attached();
        // What is not taken elsewhere stays so, and the owner knows of it.
        let is_busy = |(queue, consumed): (usize, &ConsumedQueue)| {
            consumed.is_busy_beside(up.refused_messages.of(queue)) || is_awaited(consumed)
        };
        let busy = up.queues.each().any(is_busy);

        if unsettled || by <= now {
            return self.surveyed(serial, false, Vec::new(), SOON);
        }
        if busy {
            return;
        }
        let readings = SurveyReadings {
            session: Rc::clone(&up.session),
            queues: up
                .queues
                .available()
                .map(|(queue, consumed)| (queue, consumed.number, consumed.setup.name.clone()))
                .collect(),
            in_transit: Rc::clone(&self.shared.in_transit),
            clock: self.shared.clock,
            began: now,
        };
        let jobs = jobs.map(|application| JobsSurvey {
            asking: up.asking(application),
            depth_counter: Rc::clone(&self.shared.depth_counter),
            in_transit: Rc::clone(&self.shared.in_transit),
        });
        let (notes, session) = (self.shared.notes.clone(), up.session.number);
        let reading = up.tasks.spawn_local(async move {
            let note = match readings.run().await {
                Ok(Reading::Nothing) => readings.with_jobs(serial, jobs).await,
                Ok(Reading::Work(again_in)) => Note::Surveyed { serial, empty: false, stranded: Vec::new(), again_in },
                Ok(Reading::Disturbed) => Note::Disturbed { serial },
                Err((_, Fault::Broken(cause))) => SessionNote::Broken { cause }.of(session),
                Err(((queue, number), fault)) => {
                    let _ = notes.send(SessionNote::Ended { queue, number, fault }.of(session));
                    Note::Disturbed { serial }
                }
            };
            let _ = notes.send(note);
        });
        if let Some(pending) = &mut self.surveying {
            pending.reading = Some(reading);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Reading {
    Nothing,
    /// Ask again after this.
    Work(Duration),
    /// Begin again.
    Disturbed,
}

/// The queue, with the number of its channel, that could not be read, and why.
type ReadError = ((usize, u64), Fault);

struct SurveyReadings {
    session: Rc<Session>,
    /// With their indexes and the numbers of their channels.
    queues: Vec<(usize, u64, String)>,
    in_transit: Rc<RefCell<InTransit>>,
    clock: Clock,
    began: Instant,
}

impl SurveyReadings {
    /// The answer of a survey that found nothing in its queues, with what is left of jobs.
    async fn with_jobs(&self, serial: u64, jobs: Option<JobsSurvey>) -> Note {
        let left = match &jobs {
            Some(jobs) => jobs.look().await,
            None => Ok(Left::default()),
        };
        let (empty, stranded) = match left {
            Ok(Left { some, stranded }) => (!some, stranded),
            Err(error) => {
                tracing::debug!(target: "asynctask::amqp", "it is not known which jobs are left: {error}");
                (false, Vec::new())
            }
        };
        if self.in_transit.borrow().moved_at > self.began {
            return Note::Disturbed { serial };
        }
        Note::Surveyed { serial, empty, stranded, again_in: if empty { Duration::ZERO } else { LATER } }
    }

    async fn run(&self) -> Result<Reading, ReadError> {
        match self.reading().await? {
            Reading::Nothing => {}
            found => return Ok(found),
        }
        let wait = self.in_transit.borrow().clear_at().since(self.clock.now().at).max(APART);
        if wait > LONGEST {
            return Ok(Reading::Work(wait));
        }
        tokio::time::sleep(wait).await;
        if self.in_transit.borrow().moved_at > self.began {
            return Ok(Reading::Disturbed);
        }
        let found = self.reading().await?;
        Ok(if self.in_transit.borrow().moved_at > self.began { Reading::Disturbed } else { found })
    }

    /// One reading: all delay queues, then all work queues. To ask for a queue that is absent costs a channel and a line
    /// in the broker's log, so those come last, when nothing else speaks against the end.
    async fn reading(&self) -> Result<Reading, ReadError> {
        let connection = self.session.reader();
        let mut counter = Counter::new(&connection);
        let steps = |(queue, number, name): &(usize, u64, String)| {
            let of = (*queue, *number);
            delay_queues::STEPS.map(|step| (delay_queues::name(name, step), step, of))
        };
        let is_used = |(name, ..): &(String, u64, _)| self.session.topology.refusal(name).is_none();
        let delays: Vec<(String, u64, (usize, u64))> = self.queues.iter().flat_map(steps).filter(is_used).collect();
        let is_present = |delay: &&(String, u64, _)| self.in_transit.borrow().present.contains(&delay.0);
        let (present, absent): (Vec<_>, Vec<_>) = delays.iter().partition(is_present);
        for (name, step, of) in present {
            match self.count(&mut counter, name, *of).await? {
                None => return Ok(Reading::Work(LATER)),
                Some(Some(0) | None) => {}
                Some(Some(_)) => return Ok(Reading::Work(LATER.min(Duration::from_millis(*step)))),
            }
        }
        let found = self.work(&mut counter).await?;
        if found != Reading::Nothing {
            return Ok(found);
        }
        for (name, step, of) in absent {
            let count = self.count(&mut counter, name, *of).await?;
            if count != Some(None) {
                self.in_transit.borrow_mut().saw(name.clone());
            }
            match count {
                None => return Ok(Reading::Work(LATER)),
                Some(Some(0) | None) => {}
                Some(Some(_)) => return Ok(Reading::Work(LATER.min(Duration::from_millis(*step)))),
            }
        }
        // An expiring task is in neither queue for a moment: the work queues are read after all delay queues.
        self.work(&mut counter).await
    }

    /// The work queues of one reading.
    async fn work(&self, counter: &mut Counter<'_>) -> Result<Reading, ReadError> {
        for (queue, number, name) in &self.queues {
            let of = (*queue, *number);
            match self.count(counter, name, of).await? {
                Some(Some(0)) => {}
                Some(None) => return Err((of, Fault::Absent(name.clone()))),
                Some(Some(_)) | None => return Ok(Reading::Work(SOON)),
            }
        }
        Ok(Reading::Nothing)
    }

    /// One count; `None` if the answer came too slowly to be believed, three times.
    async fn count(
        &self,
        counter: &mut Counter<'_>,
        queue: &str,
        of: (usize, u64),
    ) -> Result<Option<Option<u64>>, ReadError> {
        for _ in 0..3 {
            let asked = self.clock.now().at;
            let count = counter.ready(queue).await.map_err(|fault| (of, fault))?;
            if count != Some(0) || self.clock.now().at.since(asked) <= SLOW {
                return Ok(Some(count));
            }
        }
        Ok(None)
    }
}
