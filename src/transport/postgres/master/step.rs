//! A step: one transaction that stores the pending settlements, grants keys, and claims what the credit allows, sent as one pipeline, so
//! that it takes one round trip and one flush of the server's log.
//!
//! Group commit: what was asked for while a step ran is stored by the next one. Nothing is told before the commit was answered and each
//! statement has succeeded: the commit of a transaction that failed is no error.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tokio_postgres::{Row, types::ToSql};

use super::claimer::{Claimer, Held, NO_FLOOR, NextDue};
use crate::{
    clock::{Clock, Instant},
    task::{Delivery, Handle, QueueIndex},
    transport::{
        delivery_key::DeliveryKey,
        postgres::{
            connect::{fault::Fault, pipeline, session::Session},
            jobs::taken_out::take_out,
            schema::queue_ids::QueueIds,
            tasks::{
                claim::{self, CLAIM, RECLAIM},
                pending::PendingSettlement,
                settle::{Batch, stale},
                submit, unique_keys,
            },
        },
    },
};

/// Settlements in one step, at most.
const MOST: usize = 1_000;

/// What a step did.
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
    /// Queues with something new to claim; whether it may have waited before.
    pub(super) claimable: BTreeMap<i32, bool>,
    /// Ledgers that were told something.
    pub(super) told: BTreeSet<String>,
    /// Settlements that came too late: another had taken the tasks back.
    pub(super) stale: usize,
    /// Queues that are gone with the last of their deliveries.
    pub(super) removed: Vec<QueueIndex>,
}

/// A claim of one queue.
struct Claim {
    index: QueueIndex,
    id: i32,
    room: i64,
    floor: (i64, i64),
    reclaims: bool,
}

impl Claimer {
    /// Whether a step has anything to do.
    pub(super) fn has_work(&self, now: Instant) -> bool {
        let is_due = || {
            let mut queues = self.attached.queues();
            queues.any(|(_, queue)| queue.free_once_settled() > 0 && queue.content.next.is_due(now))
        };
        !self.pending.is_empty() || !self.asked.is_empty() || (!self.holds_back && is_due())
    }

    /// Stores the first of the pending settlements and claims what is due. On an error nothing has changed, and all is still
    /// pending. `most`: so many settlements.
    pub(super) async fn step(
        &mut self,
        session: &Session,
        ids: &QueueIds,
        clock: &Clock,
        most: usize,
    ) -> Result<StepResult, Fault> {
        let count = self.pending.len().min(most.min(MOST));
        let pending = &self.pending[..count];
        let known = ids.provide(session, pending.iter().flat_map(|one| submit::queues(one.submitted()))).await?;
        let batch = Batch::new(self.owner, pending, &known, Clock::wall());
        let keys = Keys::of(self);
        let claims = self.claims(clock.now().at);
        let open = self.open_rows();
        let mut statements = batch.statements();
        let settled = statements.len();
        if !keys.wanted.is_empty() {
            statements.push((unique_keys::TAKE, vec![&self.owner, &keys.wanted, &keys.rows, &keys.tasks]));
            statements.push((unique_keys::HOLDERS, vec![&keys.wanted]));
        }
        for claim in &claims {
            let mut params: Vec<&(dyn ToSql + Sync)> = vec![&self.owner, &claim.id, &claim.room];
            if claim.reclaims {
                params.push(&open);
                statements.push((RECLAIM, params));
            } else {
                params.extend([&claim.floor.0 as &(dyn ToSql + Sync), &claim.floor.1, &session.backend]);
                statements.push((CLAIM, params));
            }
        }
        let mut rows = run(session, statements).await?.into_iter();
        let mut result = StepResult::default();
        let changed: HashSet<i64> = rows.by_ref().take(settled).flatten().map(|row| row.get(0)).collect();
        for one in pending.iter().filter(|one| one.is_claimable()) {
            result.claimable.entry(one.queue).or_default();
            for queue in submit::queues(one.submitted()) {
                result.claimable.extend(known.get(queue).map(|id| (*id, false)));
            }
            if one.settlement.puts_back() {
                result.claimable.insert(one.queue, true);
            }
        }
        result.told = pending.iter().flat_map(PendingSettlement::ledgers).map(str::to_owned).collect();
        let stale = stale(pending, &changed);
        result.stale = stale.len();
        let is_stored = |handle: &Handle| !stale.contains(handle);
        let copies = pending.iter().filter(|one| one.settlement.is_copy()).map(|one| one.handle);
        result.stored = copies.filter(is_stored).collect();
        drop(batch);
        result.settled = self.pending.drain(..count).map(|one| one.handle).collect();
        for handle in &result.settled {
            self.attached.answered(*handle);
        }
        if !keys.wanted.is_empty() {
            let granted: HashSet<String> = rows.next().into_iter().flatten().map(|row| row.get(0)).collect();
            let holders = rows.next().into_iter().flatten().map(|row| (row.get(0), row.get(1))).collect();
            self.grant(&keys, &granted, &holders, &mut result);
        }
        self.asked.clear();
        for (claim, rows) in claims.iter().zip(rows) {
            self.deliver_claimed(claim, &rows, &mut result);
        }
        for (id, may_be_old) in &result.claimable {
            self.recheck(*id, may_be_old.then_some(i64::MIN));
        }
        result.removed = self.attached.take_drained();
        Ok(result)
    }

    fn claims(&self, now: Instant) -> Vec<Claim> {
        let mut claims = Vec::new();
        if self.holds_back {
            return claims;
        }
        for (index, queue) in self.attached.queues() {
            let room = queue.free_once_settled();
            let content = &queue.content;
            if room > 0 && (content.next.is_due(now) || content.reclaims) {
                let (id, floor, reclaims) = (content.id, content.floor, content.reclaims);
                claims.push(Claim { index, id, room: i64::from(room), floor, reclaims });
            }
        }
        claims
    }

    fn deliver_claimed(&mut self, claim: &Claim, rows: &[Row], result: &mut StepResult) {
        let is_all = (rows.len() as i64) < claim.room;
        let deliveries = self.deliver(claim.index, claim::claimed(rows), claim.reclaims);
        if !deliveries.is_empty() {
            result.delivered.push(deliveries);
        }
        if let Some(queue) = self.attached.queue_mut(claim.index) {
            if claim.reclaims {
                // All that is ours is delivered before anything else is claimed.
                queue.content.reclaims = !is_all;
            } else if is_all {
                queue.content.next = NextDue::Emptied;
            }
        }
    }

    fn grant(
        &mut self,
        keys: &Keys,
        granted: &HashSet<String>,
        holders: &HashMap<String, String>,
        result: &mut StepResult,
    ) {
        for (handle, stored) in &keys.asked {
            let is_first = keys.first.get(stored) == Some(handle);
            let holder = match keys.first.get(stored).filter(|_| !is_first && granted.contains(stored)) {
                // Another of ours asked for it in the same step.
                Some(first) => self.attached.delivery(*first).map(|held| held.task.id.clone()),
                None if granted.contains(stored) => None,
                None => Some(holders.get(stored).cloned().unwrap_or_default()),
            };
            if let Some(held) = self.attached.delivery_mut(*handle) {
                held.key.answered(holder.is_none());
            }
            result.locked.push((*handle, holder));
        }
    }

    /// Asks when the next task is due of the queues of which all that is due was claimed.
    pub(super) async fn ask_next_due(&mut self, session: &Session, clock: &Clock) -> Result<(), Fault> {
        let idle = self.attached.queues().filter(|(_, queue)| {
            queue.content.next == NextDue::Emptied && queue.free_once_settled() > 0 && !queue.content.reclaims
        });
        let idle: Vec<(QueueIndex, i32)> = idle.map(|(index, queue)| (index, queue.content.id)).collect();
        for (index, id) in idle {
            let next = claim::next_due(session, id).await?;
            let Some(queue) = self.attached.queue_mut(index) else { continue };
            queue.content.next = NextDue::Never;
            if let Some(next) = next {
                let now = clock.now().at;
                let wait = std::time::Duration::from_millis(u64::try_from(next).unwrap_or(0));
                queue.content.next = NextDue::At(now + wait);
                if next <= 0 {
                    // It slipped below the bound, or has just come.
                    queue.content.floor = NO_FLOOR;
                }
            }
        }
        Ok(())
    }

    /// Takes out again what was claimed and may not be delivered. Gives whether there was anything.
    pub(super) async fn take_out(&mut self, session: &Session) -> Result<bool, Fault> {
        if self.taken_out.is_empty() {
            return Ok(false);
        }
        take_out(session, &self.taken_out).await?;
        self.taken_out.clear();
        self.recheck_all();
        Ok(true)
    }
}

/// Keys that are asked for: each once, sorted, so that two masters never wait for each other.
struct Keys {
    wanted: Vec<String>,
    rows: Vec<i64>,
    tasks: Vec<String>,
    /// Who asked, with the key as it is stored.
    asked: Vec<(Handle, String)>,
    /// Who of ours asked first for each.
    first: BTreeMap<String, Handle>,
}

impl Keys {
    fn of(claimer: &Claimer) -> Self {
        let mut keys =
            Self { wanted: Vec::new(), rows: Vec::new(), tasks: Vec::new(), asked: Vec::new(), first: BTreeMap::new() };
        for handle in &claimer.asked {
            if let Some(Held { key: DeliveryKey::Asked(key), .. }) = claimer.attached.delivery(*handle) {
                let stored = unique_keys::stored(key);
                keys.first.entry(stored.clone()).or_insert(*handle);
                keys.asked.push((*handle, stored));
            }
        }
        for (key, handle) in &keys.first {
            let (Some(held), Some(row)) = (claimer.attached.delivery(*handle), claimer.row(*handle)) else { continue };
            keys.wanted.push(key.clone());
            keys.rows.push(row);
            keys.tasks.push(held.task.id.replace('\0', "?"));
        }
        keys
    }
}

/// Runs statements as one transaction in one pipeline. Gives the rows of each.
async fn run(
    session: &Session,
    statements: Vec<(&'static str, Vec<&(dyn ToSql + Sync)>)>,
) -> Result<Vec<Vec<Row>>, Fault> {
    // Before the transaction: a statement that is unknown takes a round trip of its own.
    for (sql, _) in &statements {
        session.statement(sql).await?;
    }
    let mut calls = vec![session.batch_call("BEGIN")];
    calls.extend(statements.into_iter().map(|(sql, params)| session.call(sql, params)));
    calls.push(session.batch_call("COMMIT"));
    let mut answers = pipeline::in_order(calls).await;
    let commit = answers.pop().unwrap_or(Ok(Vec::new()));
    // The first one says why; those behind it, that the transaction had failed.
    let rows = answers.into_iter().skip(1).collect::<Result<Vec<_>, _>>()?;
    commit.map_err(Fault::of_commit)?;
    Ok(rows)
}
