//! What keeps dead letters of jobs from work, as their ledgers say it while a walk goes on.
//!
//! The coordinator is asked for all open jobs of an application, and again when its answer is old; the ended ones are read where they
//! lie. Between the answer and the retry a job can change: then the ledger counts the end of the task for nothing.
//!
//! It is always asked over the broker, also by its own process: it answers such questions while it stores a step, in which it may wait
//! for this very walk to end.

use std::{collections::HashMap, rc::Rc, time::Duration};

use uuid::Uuid;

use crate::{
    clock::{Clock, Instant},
    jobs::record::JobFilter,
    membership::Membership,
    task::is_queue_name,
    transport::{
        Error,
        amqp::{
            connect::address::Address,
            ledger::{asking::Asking, ended, names::ended_queue},
            publish::{outbox::Outbox, replies::Replies},
        },
        job_letters::{self, Hindrance},
    },
};

/// An answer is good for this long …
const FRESH: Duration = Duration::from_secs(1);
/// … or for this many times what it took to get it.
const WORTH: u32 = 4;
/// Applications of which answers are kept: dead letters name any that they like.
const APPLICATIONS: usize = 64;

/// What is known of the jobs that dead letters name.
pub(crate) struct Hindrances {
    pub(crate) outbox: Outbox,
    pub(crate) address: Rc<Address>,
    pub(crate) replies: Replies,
    pub(crate) clock: Clock,
    pub(crate) known: HashMap<String, Application>,
}

/// What is known of the jobs of an application.
#[derive(Default)]
pub(crate) struct Application {
    open: Answer<OpenJobs>,
    ended: Answer<HashMap<String, Vec<Uuid>>>,
}

#[derive(Default)]
struct OpenJobs {
    /// The rounds of each, by its id.
    rounds: HashMap<String, Vec<Uuid>>,
    /// Who has which key of a pipeline. At a change of hands it may be two.
    holders: HashMap<(String, String), Vec<String>>,
}

#[derive(Default)]
struct Answer<T> {
    said: T,
    good_until: Option<Instant>,
}

impl<T> Answer<T> {
    fn is_good(&self, now: Instant) -> bool {
        self.good_until.is_some_and(|until| now < until)
    }

    fn of(said: T, asked_at: Instant, now: Instant) -> Self {
        Self { said, good_until: Some(now + FRESH.max(now.since(asked_at) * WORTH)) }
    }
}

impl Hindrances {
    /// What keeps a dead letter from work.
    pub(super) async fn of(&mut self, place: &Membership) -> Result<Option<Hindrance>, Error> {
        if !is_queue_name(&place.application) {
            return Ok(Some(Hindrance::Forgotten));
        }
        let mut known = self.known.remove(&place.application).unwrap_or_default();
        if !known.open.is_good(self.clock.now().at) {
            let asked_at = self.clock.now().at;
            let open = self.open_jobs(&place.application).await?;
            known.open = Answer::of(open, asked_at, self.clock.now().at);
        }
        let is_open = known.open.said.rounds.contains_key(&place.job);
        if !is_open && !known.ended.is_good(self.clock.now().at) {
            let asked_at = self.clock.now().at;
            let ended = self.ended_jobs(&place.application).await?;
            known.ended = Answer::of(ended, asked_at, self.clock.now().at);
        }
        let OpenJobs { rounds, holders } = &known.open.said;
        let rounds = rounds.get(&place.job).or_else(|| known.ended.said.get(&place.job));
        let key = place.key.clone().map(|key| (place.pipeline.clone(), key));
        let holders = key.and_then(|key| holders.get(&key)).into_iter().flatten();
        let holder = holders.into_iter().find(|holder| **holder != place.job).cloned();
        let hindrance = job_letters::hindrance(place, rounds.map(Vec::as_slice), holder);
        if self.known.len() >= APPLICATIONS {
            self.known.clear();
        }
        self.known.insert(place.application.clone(), known);
        Ok(hindrance)
    }

    async fn open_jobs(&self, application: &str) -> Result<OpenJobs, Error> {
        let asking = Asking {
            outbox: self.outbox.clone(),
            address: Rc::clone(&self.address),
            replies: self.replies.clone(),
            clock: self.clock,
            application: application.to_owned(),
            holder: None,
        };
        let found = asking.open_jobs(&JobFilter { open: true, ..JobFilter::default() }).await?;
        let mut open = OpenJobs::default();
        for record in found.jobs.into_iter().map(|job| job.record) {
            if let Some(key) = record.key.filter(|_| record.holds_key) {
                open.holders.entry((record.pipeline, key)).or_default().push(record.id.clone());
            }
            open.rounds.insert(record.id, record.rounds);
        }
        Ok(open)
    }

    async fn ended_jobs(&self, application: &str) -> Result<HashMap<String, Vec<Uuid>>, Error> {
        let mut ended: HashMap<String, ((u64, u64), Vec<Uuid>)> = HashMap::new();
        let now = self.clock.now().wall;
        let visited = ended::visit(&self.outbox.session, application, now, |job| {
            let rank = job.rank();
            if ended.get(&job.record.id).is_none_or(|(known, _)| *known < rank) {
                ended.insert(job.record.id, (rank, job.record.rounds));
            }
        });
        visited.await.map_err(|fault| self.address.fault(&ended_queue(application), fault))?;
        Ok(ended.into_iter().map(|(id, (_, rounds))| (id, rounds)).collect())
    }
}
