//! Moving tasks: a copy is stored and confirmed before the original may go.
//!
//! The work here never gives up and never loses: a message that the broker does not take is kept and offered again,
//! with growing pauses, until it is stored or the session ends (and the original comes back by itself).

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
    time::Duration,
};

use super::{
    bulk::{CLIENT_SENDS, MASTER_SENDS},
    bulk_results::Fates,
    publisher::{Outgoing, Published, Silence},
    undeliverable::Offered,
};
use crate::{
    backoff::Backoff,
    transport::{
        Error,
        amqp::{
            queues::{
                delay_queues,
                topology::{Fault, Place},
            },
            session::{
                connections::Session,
                state::{Note, Notes},
            },
        },
    },
};

pub(crate) const PAUSES: Backoff =
    Backoff { first: Duration::from_secs(1), factor: 2.0, longest: Duration::from_secs(30) };

/// Delay queues that left confirms unanswered in this session, by name.
pub(crate) type Stuck = Rc<RefCell<HashMap<String, u32>>>;

/// Delay queues that were full or not available, until they take a task again.
pub(crate) type Full = Rc<RefCell<HashSet<String>>>;

/// Stores messages of one session.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) session: Rc<Session>,
    pub(crate) notes: Notes,
    pub(crate) stuck: Stuck,
    pub(crate) full: Full,
}

/// A message and where it belongs.
#[derive(Clone)]
pub(crate) struct Parcel {
    pub(crate) place: Place,
    pub(crate) outgoing: Outgoing,
}

/// A queue that refuses is asked again after these before the refusal counts: one that was just made on a busy machine
/// refused now and then (3.10.8), and took the same task a moment later.
const NACKED: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(500)];

/// What a refusal without a reason means: a limit with `x-overflow: reject-publish`, or a queue without a leader.
pub(crate) const FULL: &str = "is full or not available";

/// Whether one try of [`Store::try_one`] is the last.
pub(crate) enum Tried {
    Stored,
    /// Not stored, or unknown; worth another try after a pause.
    Again(String),
    /// Not taken, though asked several times: the queue is full, or has nobody who could take it for a moment.
    Full,
    /// Never.
    No(String),
    /// Sent as often as was allowed, and not answered.
    Unanswered(Silence),
}

/// Why several were not stored, at least not all of them.
pub(crate) enum Unstored {
    /// Another try may succeed.
    Now(Error),
    /// The same, where a queue said several times that it takes nothing: it is full as long as nobody works it.
    Full(Error),
    /// None ever will.
    Ever(Error),
}

impl From<Unstored> for Error {
    fn from(unstored: Unstored) -> Self {
        let (Unstored::Now(error) | Unstored::Full(error) | Unstored::Ever(error)) = unstored;
        error
    }
}

impl Store {
    /// Stores one message that a queue owes, however long it takes; says so while it is not taken. Ends without only when
    /// the session cannot go on.
    pub(crate) async fn insist(&self, queue: usize, parcel: Parcel) -> Result<(), ()> {
        let mut failures = 0;
        let tell = |offered| self.offered(queue, &parcel.outgoing.queue, offered);
        loop {
            // Each time from the step that its delay asks for.
            let cause = match self.try_one(&mut parcel.clone()).await? {
                Tried::Stored => {
                    if failures > 0 {
                        tell(Offered::Taken);
                    }
                    return Ok(());
                }
                Tried::Full => format!("it {FULL}"),
                Tried::Again(cause) | Tried::No(cause) => cause,
                Tried::Unanswered(silence) => silence.cause(),
            };
            failures += 1;
            self.session.topology.ask_again(&parcel.place);
            tell(Offered::Refused { cause, is_first: failures == 1 });
            tokio::time::sleep(PAUSES.delay(failures)).await;
        }
    }

    /// Stores several for one queue at once. `false`: each must be stored by itself.
    pub(crate) async fn together(&self, parcels: &[Parcel]) -> bool {
        let [first, _, ..] = parcels else { return false };
        if self.stuck.borrow().contains_key(&first.outgoing.queue)
            || self.session.topology.ensure(&self.session.reader(), &first.place).await.is_err()
        {
            return false;
        }
        let outgoing: Vec<_> = parcels.iter().map(|parcel| parcel.outgoing.clone()).collect();
        self.session.publisher.window(&outgoing).await
    }

    /// One try, with what can be mended at once mended: a missing queue, a connection that does not answer.
    pub(crate) async fn try_one(&self, parcel: &mut Parcel) -> Result<Tried, ()> {
        self.try_times(parcel, MASTER_SENDS).await
    }

    /// [`Self::try_one`], in which a message that is not answered is sent at most so often.
    pub(crate) async fn try_times(&self, parcel: &mut Parcel, sends: u32) -> Result<Tried, ()> {
        let (mut declared, mut unanswered, mut pauses) = (false, 0, NACKED.into_iter());
        if self.full.borrow().contains(&parcel.outgoing.queue) {
            // It was asked as often as that.
            pauses.by_ref().for_each(drop);
        }
        self.avoid_stuck(parcel);
        match self.find_step(parcel).await {
            Ok(()) => {}
            Err(Fault::Broken(cause)) => return self.broken(cause),
            Err(Fault::Late(cause)) => return Ok(Tried::Again(cause)),
            Err(fault) => return Ok(Tried::No(fault.cause())),
        }
        loop {
            let name = parcel.outgoing.queue.clone();
            match self.session.publisher.single(&parcel.outgoing).await {
                Published::Stored => {
                    self.stuck.borrow_mut().remove(&name);
                    self.full.borrow_mut().remove(&name);
                    return Ok(Tried::Stored);
                }
                Published::Returned if declared => return Ok(Tried::Again("it does not exist".to_owned())),
                Published::Returned => {
                    declared = true;
                    self.session.topology.forget(&parcel.place);
                    match self.session.topology.ensure(&self.session.reader(), &parcel.place).await {
                        Ok(()) => {}
                        Err(Fault::Absent(_)) if self.step_down(parcel, "does not exist") => declared = false,
                        Err(Fault::Absent(_)) => return Ok(Tried::No("it does not exist".to_owned())),
                        // Another step, which is looked for at the next try.
                        Err(Fault::Late(cause)) => return Ok(Tried::Again(cause)),
                        Err(Fault::Forbidden(cause) | Fault::Refused(cause)) => return Ok(Tried::No(cause)),
                        Err(Fault::Broken(cause)) => return self.broken(cause),
                    }
                }
                Published::Nacked => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None if self.passes_full(parcel).await => {}
                    None => return Ok(Tried::Full),
                },
                Published::Refused(cause) => {
                    return if self.session.stands() { Ok(Tried::No(cause)) } else { self.broken(cause) };
                }
                Published::Unknown { why, .. } if sends <= CLIENT_SENDS => return Ok(Tried::Unanswered(why)),
                Published::Unknown { line, why } => {
                    let cause = why.cause();
                    if let Err(error) = self.session.publisher.renew(line).await {
                        return self.broken(format!("{cause}; {error}"));
                    }
                    unanswered += 1;
                    if matches!(parcel.place, Place::Delay(..)) {
                        *self.stuck.borrow_mut().entry(name).or_default() += 1;
                        self.avoid_stuck(parcel);
                    }
                    if unanswered >= sends {
                        return Ok(Tried::Again(cause));
                    }
                }
            }
        }
    }

    /// Makes sure that the delay queue of a task is there and leads back. Where it is not to be had, or is not ours, another
    /// step is taken: the next smaller one that is, else the next larger one.
    async fn find_step(&self, parcel: &mut Parcel) -> Result<(), Fault> {
        let Place::Delay(queue, step) = parcel.place.clone() else { return Ok(()) };
        let connection = self.session.reader();
        let mut refused = None;
        for other in delay_queues::from(step) {
            let place = Place::Delay(queue.clone(), other);
            match self.session.topology.ensure(&connection, &place).await {
                Ok(()) if other == step => return Ok(()),
                Ok(()) => {
                    parcel.outgoing.queue = place.name();
                    parcel.place = place;
                    return Ok(());
                }
                Err(fault @ (Fault::Late(_) | Fault::Broken(_))) => return Err(fault),
                Err(fault) => {
                    refused.get_or_insert(fault);
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// A delay queue that left two messages unanswered is passed by.
    fn avoid_stuck(&self, parcel: &mut Parcel) {
        while self.stuck.borrow().get(&parcel.outgoing.queue).is_some_and(|unanswered| *unanswered >= 2) {
            if !self.step_down(parcel, "does not answer") {
                return;
            }
        }
    }

    /// A delay queue that is full is passed by for the next smaller one that is to be had, which is said once until it takes
    /// something again. `false`: there is none, or it is no delay queue.
    async fn passes_full(&self, parcel: &mut Parcel) -> bool {
        let Place::Delay(queue, step) = parcel.place.clone() else { return false };
        let full = parcel.outgoing.queue.clone();
        let is_news = self.full.borrow_mut().insert(full.clone());
        let mut smaller = step;
        while let Some(next) = delay_queues::smaller(smaller) {
            let place = Place::Delay(queue.clone(), next);
            if self.session.topology.ensure(&self.session.reader(), &place).await.is_ok() {
                parcel.outgoing.queue = place.name();
                parcel.place = place;
                if is_news {
                    let taken = &parcel.outgoing.queue;
                    self.warn(format!("delay queue \"{full}\" {FULL}; tasks take \"{taken}\" instead"));
                }
                return true;
            }
            smaller = next;
        }
        false
    }

    /// Takes the next smaller step of the ladder, and says so.
    fn step_down(&self, parcel: &mut Parcel, why: &str) -> bool {
        let Place::Delay(queue, step) = &parcel.place else { return false };
        let Some(smaller) = delay_queues::smaller(*step) else { return false };
        let place = Place::Delay(queue.clone(), smaller);
        self.warn(format!(
            "delay queue \"{}\" {why}; a task takes \"{}\" instead",
            parcel.outgoing.queue,
            place.name()
        ));
        parcel.outgoing.queue = place.name();
        parcel.place = place;
        true
    }

    /// [`Self::bulk_of`] for whom it is all or nothing.
    pub(crate) async fn bulk(&self, parcels: &[Parcel]) -> Result<(), Unstored> {
        self.bulk_of(parcels, &Fates::new(parcels.len()), MASTER_SENDS).await
    }

    /// Stores many, and notes what becomes of each, up to the first that is not stored; see [`super::bulk`]. Queues are made
    /// first.
    pub(crate) async fn bulk_of(&self, parcels: &[Parcel], fates: &Fates, sends: u32) -> Result<(), Unstored> {
        let passing = |parcel: &Parcel, cause| Unstored::Now(not_stored(parcel, cause));
        let mut parcels = parcels.to_vec();
        for parcel in &mut parcels {
            // If no step is to be had, that of the task itself is what the error is about.
            let _ = self.find_step(parcel).await;
            match self.session.topology.ensure(&self.session.reader(), &parcel.place).await {
                Ok(()) => {}
                Err(Fault::Absent(queue)) => return Err(Unstored::Ever(Error::NoSuchQueue { queue })),
                // The queue alone is refused: somebody's own, one too many, one that is not made for this.
                Err(Fault::Forbidden(cause) | Fault::Refused(cause)) => {
                    return Err(Unstored::Ever(not_stored(parcel, cause)));
                }
                Err(Fault::Late(cause)) => return Err(passing(parcel, cause)),
                Err(Fault::Broken(cause)) => {
                    let _: Result<(), ()> = self.broken(cause.clone());
                    return Err(passing(parcel, cause));
                }
            }
        }
        self.in_order(&parcels, fates, sends).await
    }

    /// Says what became of a message that a queue owes.
    pub(crate) fn offered(&self, queue: usize, to: &str, offered: Offered) {
        let _ = self.notes.send(Note::Offered { session: self.session.number, queue, to: to.to_owned(), offered });
    }

    pub(crate) fn warn(&self, text: String) {
        let _ = self.notes.send(Note::Warning(text));
    }

    /// The session cannot go on.
    pub(crate) fn broken<T>(&self, cause: String) -> Result<T, ()> {
        let _ = self.notes.send(Note::Broken { session: self.session.number, cause });
        Err(())
    }
}

pub(crate) fn not_stored(parcel: &Parcel, cause: String) -> Error {
    Error::NotStored { queue: parcel.outgoing.queue.clone(), cause }
}
