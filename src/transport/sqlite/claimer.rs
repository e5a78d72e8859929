//! What only an attached transport has: its queues, the deliveries in hand, the settlements to be stored, and when the next task
//! is due.
//!
//! Group commit: the settlements that were asked for while a transaction ran are stored by the next one, which also claims what
//! the credit allows.
//!
//! A settlement is never dropped: where a transaction fails, all that it was to store stays pending, and nothing that it claimed
//! is delivered.

use std::{collections::BTreeSet, sync::Arc};

use rusqlite::Connection;

use super::{
    file::{
        database::{Database, Synchronous},
        schema::QueueIds,
    },
    jobs::entries,
    peers::{
        owner::{owners, unregister},
        wake::Socket,
    },
    tasks::{
        claim::{Claimed, claim, next_due},
        settle::{Effect, PendingSettlement, Row},
        unique_keys,
    },
};
use crate::{
    clock::{Clock, Timestamp},
    task::{Delivery, Handle, QueueIndex, Settlement, Task},
    transport::{
        QueueSetup,
        attached::{AttachedQueues, Begun},
        delivery_key::DeliveryKey,
        identity::{identity, next_handle},
    },
};

/// The queues and deliveries of an attached transport.
pub(super) struct Claimer {
    /// Its owner number; see [`super::peers::owner`].
    pub(super) owner: i64,
    /// `None` where no socket could be bound: then the file is polled once a second.
    pub(super) socket: Option<Socket>,
    /// The owner numbers of all other masters that there were at the last poll.
    pub(super) others: Vec<i64>,
    attached: AttachedQueues<Queue, Held>,
    pending: Vec<PendingSettlement>,
    /// Deliveries whose keys were asked for.
    asked: Vec<Handle>,
}

/// An attached queue.
struct Queue {
    setup: QueueSetup,
    /// Of its row.
    id: i64,
    next: NextDue,
}

/// When the next task of a queue is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextDue {
    /// The file has to be asked.
    Unknown,
    /// Not before this.
    At(Timestamp),
    /// Not before a task is stored.
    Never,
}

impl NextDue {
    fn of(due: Option<Timestamp>) -> Self {
        due.map_or(Self::Never, Self::At)
    }

    fn is_due(self, now: Timestamp) -> bool {
        match self {
            Self::Unknown => true,
            Self::At(due) => due <= now,
            Self::Never => false,
        }
    }
}

/// A delivery that is open.
struct Held {
    row: Row,
    task: Arc<Task>,
    key: DeliveryKey,
}

/// What a transaction did.
#[derive(Default)]
pub(super) struct StepResult {
    /// Of these a retry, snooze or dead letter is stored.
    pub(super) stored: Vec<Handle>,
    /// Settled for good.
    pub(super) settled: Vec<Handle>,
    /// New deliveries, a list a queue.
    pub(super) delivered: Vec<Vec<Delivery>>,
    /// Answers about keys: the task that has one, if it is not ours.
    pub(super) locked: Vec<(Handle, Option<String>)>,
    /// Owner numbers of other masters, which have something new to claim.
    pub(super) wake: Vec<i64>,
    /// Settlements that came too late: another had taken the tasks back.
    pub(super) stale: usize,
    /// Queues that are gone with the last of their deliveries.
    pub(super) removed: Vec<QueueIndex>,
}

impl StepResult {
    /// Stores settlements, and notes what they did. Gives whether there is something new to claim.
    fn store(
        &mut self,
        pending: &[PendingSettlement],
        transaction: &Connection,
        ids: &mut QueueIds,
        now: Timestamp,
        owner: i64,
    ) -> rusqlite::Result<bool> {
        entries::gather(transaction, |entries| {
            let mut claimable = false;
            for settlement in pending {
                let effect = settlement.store(transaction, ids, now, owner, entries)?;
                claimable |= self.record(settlement, effect);
            }
            Ok(claimable)
        })
    }

    /// Notes what a settlement did. Gives whether there is something new to claim.
    fn record(&mut self, pending: &PendingSettlement, effect: Effect) -> bool {
        match effect {
            Effect::Stale => self.stale += 1,
            Effect::Ended | Effect::Claimable if pending.settlement.is_copy() => self.stored.push(pending.handle),
            Effect::Ended | Effect::Claimable => {}
        }
        effect == Effect::Claimable
    }
}

impl Claimer {
    /// A claimer with nothing in hand and no credit. `ids` are the queues' rows.
    pub(super) fn new(owner: i64, socket: Option<Socket>, setups: Vec<QueueSetup>, ids: &[i64]) -> Self {
        let attached = AttachedQueues::default();
        let mut claimer = Self { owner, socket, others: Vec::new(), attached, pending: Vec::new(), asked: Vec::new() };
        for (index, (setup, id)) in setups.into_iter().zip(ids).enumerate() {
            claimer.add(QueueIndex(index), setup, *id);
        }
        claimer
    }

    /// Changes a queue's credit.
    pub(super) fn set_credit(&mut self, queue: QueueIndex, credit: u32) {
        self.attached.set_credit(queue, credit);
    }

    /// Attaches one more queue, or changes the setup of one that is attached.
    pub(super) fn add(&mut self, queue: QueueIndex, setup: QueueSetup, id: i64) {
        self.attached.add(queue, Queue { setup, id, next: NextDue::Unknown });
    }

    /// Begins to remove a queue; the step after which nothing of it is open says that it is gone. `false`: it is not attached.
    pub(super) fn remove(&mut self, queue: QueueIndex) -> bool {
        self.attached.remove(queue)
    }

    /// Settlements to be stored by the next step. Those of handles that are not open are ignored.
    pub(super) fn add_settlements(&mut self, settlements: Vec<(Handle, Settlement)>) {
        for (handle, settlement) in settlements {
            let is_acceptance = settlement == Settlement::Accept;
            let begun = if is_acceptance { self.attached.accept(handle) } else { self.attached.settle(handle) };
            let Some(Begun { queue, delivery, was_accepted }) = begun else { continue };
            // The key ends with the settlement, not with an acceptance.
            let key = if is_acceptance { None } else { delivery.key.end(handle, &mut self.asked) };
            self.pending.push(PendingSettlement {
                handle,
                row: (!was_accepted).then_some(delivery.row),
                queue: queue.id,
                keep: queue.setup.dead.keep,
                task: Arc::clone(&delivery.task),
                key,
                settlement,
            });
        }
    }

    /// Asks for a key. Ignored for a handle that is not open, or has a key.
    pub(super) fn lock(&mut self, handle: Handle, key: String) {
        if self.attached.delivery_mut(handle).is_some_and(|held| held.key.ask(key)) {
            self.asked.push(handle);
        }
    }

    /// A task was stored: when the next one of each queue is due has to be asked again.
    pub(super) fn recheck_all(&mut self) {
        for queue in self.attached.queues_mut() {
            queue.content.next = NextDue::Unknown;
        }
    }

    /// When the next delayed task can be claimed.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let waiting = self.attached.queues().filter(|(_, queue)| queue.free_once_settled() > 0);
        waiting
            .filter_map(|(_, queue)| match queue.content.next {
                NextDue::At(due) => Some(due),
                NextDue::Never => None,
                NextDue::Unknown => Some(Timestamp(0)),
            })
            .min()
    }

    /// Whether a delivery or a settlement is open here, whatever the file says.
    pub(super) fn holds_any(&self) -> bool {
        self.attached.has_open()
    }

    /// The queues' rows.
    pub(super) fn queue_ids(&self) -> impl Iterator<Item = i64> + '_ {
        self.attached.queues().map(|(_, queue)| queue.content.id)
    }

    /// Stores the pending settlements and claims what is due, in one transaction. On an error nothing has changed, and all is
    /// still pending.
    pub(super) fn step(&mut self, database: &mut Database) -> rusqlite::Result<StepResult> {
        if self.pending.is_empty() && self.asked.is_empty() && !self.anything_due(database)? {
            return Ok(StepResult { removed: self.attached.take_drained(), ..StepResult::default() });
        }
        let (owner, pending, attached, asked) = (self.owner, &self.pending, &self.attached, &self.asked);
        let (mut result, claims) = database.write(Synchronous::Normal, |transaction, ids| {
            // Read after the lock was waited for: what others stored meanwhile is due before it.
            let now = Clock::wall();
            let mut result = StepResult::default();
            let claimable = result.store(pending, transaction, ids, now, owner)?;
            for handle in asked {
                if let Some(Held { key: DeliveryKey::Asked(key), task, .. }) = attached.delivery(*handle) {
                    result.locked.push((*handle, unique_keys::take(transaction, owner, key, &task.id)?));
                }
            }
            let mut claims = Vec::new();
            for (index, queue) in attached.queues() {
                let Queue { id, next, .. } = queue.content;
                let next = if claimable { NextDue::Unknown } else { next };
                let room = queue.free_once_settled();
                if room == 0 || !next.is_due(now) {
                    claims.push((index, next, Vec::new()));
                    continue;
                }
                let claimed = claim(transaction, owner, id, now, room)?;
                let next = if claimed.len() < room as usize {
                    NextDue::of(next_due(transaction, id)?)
                } else {
                    NextDue::Unknown
                };
                claims.push((index, next, claimed));
            }
            result.wake = if claimable { owners(transaction)? } else { coordinators_of(transaction, pending)? };
            result.wake.retain(|other| *other != owner);
            Ok((result, claims))
        })?;
        result.settled = self.pending.drain(..).map(|settlement| settlement.handle).collect();
        for handle in &result.settled {
            self.attached.answered(*handle);
        }
        self.asked.clear();
        for (handle, holder) in &result.locked {
            if let Some(held) = self.attached.delivery_mut(*handle) {
                held.key.answered(holder.is_none());
            }
        }
        for (index, next, claimed) in claims {
            if let Some(queue) = self.attached.queue_mut(index) {
                queue.content.next = next;
                if !claimed.is_empty() {
                    let name = queue.content.setup.name.clone();
                    result.delivered.push(self.deliver(index, &name, claimed));
                }
            }
        }
        result.removed = self.attached.take_drained();
        Ok(result)
    }

    /// Looks without a lock, so that an idle master writes nothing.
    fn anything_due(&mut self, database: &Database) -> rusqlite::Result<bool> {
        let now = Clock::wall();
        let mut any = false;
        for queue in self.attached.queues_mut().filter(|queue| queue.free_once_settled() > 0) {
            let queue = &mut queue.content;
            if queue.next == NextDue::Unknown {
                queue.next = NextDue::of(next_due(database.read(), queue.id)?);
            }
            any |= queue.next.is_due(now);
        }
        Ok(any)
    }

    fn deliver(&mut self, queue: QueueIndex, name: &str, claimed: Vec<Claimed>) -> Vec<Delivery> {
        let open = |Claimed { row, claim, redelivered, task, .. }| {
            let handle = next_handle();
            let held = Held { row: Row { id: row, claim }, task: Arc::clone(&task), key: DeliveryKey::None };
            self.attached.deliver(queue, handle, held);
            let identity = Some(identity(name, &task.id, task.attempts, &task.body));
            Delivery { handle, queue, task, redelivered, identity }
        };
        claimed.into_iter().map(open).collect()
    }

    /// Stores the pending settlements and gives all other deliveries back, uncounted. The owner number is gone after it.
    pub(super) fn leave(&mut self, database: &mut Database) -> rusqlite::Result<StepResult> {
        let (owner, pending) = (self.owner, &self.pending);
        let mut result = database.write(Synchronous::Normal, |transaction, ids| {
            let now = Clock::wall();
            let mut result = StepResult::default();
            result.store(pending, transaction, ids, now, owner)?;
            unregister(transaction, owner)?;
            result.wake = owners(transaction)?;
            Ok(result)
        })?;
        result.settled = self.pending.drain(..).map(|pending| pending.handle).collect();
        Ok(result)
    }
}

/// The owner numbers of the masters whose ledgers settlements have told something.
fn coordinators_of(transaction: &Connection, pending: &[PendingSettlement]) -> rusqlite::Result<Vec<i64>> {
    let applications: BTreeSet<&str> = pending.iter().flat_map(PendingSettlement::ledgers).collect();
    if applications.is_empty() { Ok(Vec::new()) } else { entries::coordinators(transaction, applications) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        jobs::entry_list::LONGEST_LIST,
        membership::ledger_queue,
        protocol::Protocol,
        task::NewTask,
        transport::{
            DeadQueue,
            sqlite::{file::schema, tasks::submit},
        },
    };

    const QUEUE: QueueIndex = QueueIndex(0);

    /// A database with so many tasks in one queue, and a claimer of it with this credit.
    fn with_tasks(count: usize, credit: u32) -> (tempfile::TempDir, Database, Claimer) {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Database::open_or_create(&folder.path().join("a.db"), &Arc::default()).unwrap();
        let filled = database.write(Synchronous::Normal, |transaction, ids| {
            for number in 0..count {
                let task = NewTask { queue: "foo".to_owned(), id: number.to_string(), ..NewTask::default() };
                submit::insert(transaction, ids, Timestamp(0), &task)?;
            }
            schema::queue_id(transaction, ids, "foo")
        });
        let setup = QueueSetup {
            name: "foo".to_owned(),
            dead: DeadQueue::of("foo"),
            delays: Vec::new(),
            protocol: Protocol::default(),
        };
        let mut claimer = Claimer::new(1, None, vec![setup], &[filled.unwrap()]);
        claimer.set_credit(QUEUE, credit);
        (folder, database, claimer)
    }

    fn run(database: &mut Database, statement: &str) {
        database.write(Synchronous::Normal, |transaction, _| transaction.execute_batch(statement)).unwrap();
    }

    fn delivered(result: &StepResult) -> Vec<Handle> {
        result.delivered.iter().flatten().map(|delivery| delivery.handle).collect()
    }

    #[test]
    fn after_a_step_that_fails_all_settlements_are_pending_and_nothing_is_delivered() {
        let (_folder, mut database, mut claimer) = with_tasks(3, 2);
        let handles = delivered(&claimer.step(&mut database).unwrap());
        let [done, accepted] = handles[..] else { panic!("{handles:?} for a credit of 2") };
        let settlements = vec![(done, Settlement::Done { submit: Vec::new() }), (accepted, Settlement::Accept)];
        claimer.add_settlements(settlements);
        run(&mut database, "CREATE TRIGGER full BEFORE DELETE ON task BEGIN SELECT RAISE(ABORT, 'full'); END");
        for _ in 0..2 {
            assert!(claimer.step(&mut database).is_err());
        }
        run(&mut database, "DROP TRIGGER full");
        let result = claimer.step(&mut database).unwrap();
        assert_eq!(result.settled, [done, accepted]);
        // The acceptance frees no credit.
        assert_eq!(delivered(&result).len(), 1);
        assert_eq!(claimer.step(&mut database).unwrap().settled, []);
    }

    #[test]
    fn what_one_step_tells_a_ledger_is_one_row_and_an_order_stands_alone() {
        let (_folder, mut database, mut claimer) = with_tasks(7, 7);
        let handles = delivered(&claimer.step(&mut database).unwrap());
        let told = |application: &str, body: &str| NewTask {
            queue: ledger_queue(application),
            body: body.as_bytes().to_vec(),
            ..NewTask::default()
        };
        let long = format!("{{\"end\":\"{}\"}}", "x".repeat(LONGEST_LIST / 2));
        let bodies = [
            told("a", "{\"end\":1}"),
            told("b", "{\"end\":2}"),
            told("a", "{\"order\":{}}"),
            told("a", "{\"end\":[3,\n4]}"),
            told("a", "{\"end\":5}"),
            told("a", &long),
            told("a", &long),
        ];
        let done = |body: NewTask| Settlement::Done { submit: vec![body] };
        claimer.add_settlements(handles.iter().copied().zip(bodies.map(done)).collect());
        run(&mut database, "CREATE TRIGGER full BEFORE INSERT ON entry BEGIN SELECT RAISE(ABORT, 'full'); END");
        assert!(claimer.step(&mut database).is_err(), "an end is stored in the transaction that settles its task");
        run(&mut database, "DROP TRIGGER full");
        claimer.step(&mut database).unwrap();
        let stored = |application: &str| {
            let rows = entries::after(database.read(), application, 0, (100, usize::MAX)).unwrap();
            rows.into_iter().map(|row| String::from_utf8(row.body).unwrap()).collect::<Vec<_>>()
        };
        let list = format!("\n{{\"end\":1}}\n{{\"end\":5}}\n{long}");
        assert_eq!(stored("a"), ["{\"order\":{}}", "{\"end\":[3,\n4]}", &list, &long]);
        assert_eq!(stored("b"), ["{\"end\":2}"]);
        let left: i64 = database.read().query_row("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_queue_is_gone_after_the_step_that_stores_its_last_settlement() {
        let (_folder, mut database, mut claimer) = with_tasks(2, 2);
        let handles = delivered(&claimer.step(&mut database).unwrap());
        claimer.add_settlements(vec![(handles[0], Settlement::Accept)]);
        assert!(claimer.remove(QUEUE) && !claimer.remove(QueueIndex(1)));
        claimer.set_credit(QUEUE, 2);
        claimer.add_settlements(vec![(handles[1], Settlement::Release)]);
        let result = claimer.step(&mut database).unwrap();
        assert_eq!((result.settled, result.removed), (handles.clone(), Vec::new()));
        claimer.add_settlements(vec![(handles[0], Settlement::Snooze { after: Duration::from_secs(9), memo: None })]);
        assert!(claimer.holds_any());
        let result = claimer.step(&mut database).unwrap();
        assert_eq!((result.settled, result.removed, result.delivered.len()), (vec![handles[0]], vec![QUEUE], 0));
        assert!(!claimer.holds_any());
        let rows =
            database.read().query_row("SELECT count(*) FROM task WHERE state = 0", [], |row| row.get::<_, i64>(0));
        assert_eq!(rows.unwrap(), 2, "what was accepted is stored anew");
    }
}
