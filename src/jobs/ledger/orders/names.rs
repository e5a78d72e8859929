//! Which job an order means.

use std::collections::BTreeMap;

use crate::jobs::{
    ledger::{fold::Ledger, state::Job},
    order::{Order, Scope, Wanted},
    record::{JobFilter, Record},
};

/// Jobs that are named where a name fits several.
const TOLD: usize = 5;

/// What a name means.
pub(super) enum Named {
    /// No job, or no job is to be named.
    Nothing,
    /// One in memory.
    Open(String),
    /// One that is closed.
    Stored(Box<Job>),
    /// One that cannot be read, and why.
    Unread(String),
    /// Several: these among them.
    Many(Vec<String>),
}

/// A job that may be meant.
enum Candidate<'a> {
    Open(&'a Job),
    Closed(&'a Job),
    Record(&'a Record),
}

impl Ledger {
    /// The job that an order is about. What it asks for where memory does not suffice is the error.
    pub(super) fn look(&self, order: &Order, found: Option<&[Record]>) -> Result<Named, Vec<JobFilter>> {
        match &order.what {
            Wanted::Freeze(Scope::Pipeline { .. }) | Wanted::Resume(Scope::Pipeline { .. }) => Ok(Named::Nothing),
            Wanted::Start { id, .. } => match self.with_id(id, found) {
                Some(named) => Ok(named),
                None if found.is_some() => Ok(Named::Nothing),
                None => Err(vec![whole(id)]),
            },
            Wanted::Restart { job, .. }
            | Wanted::Cancel { job }
            | Wanted::Freeze(Scope::Job(job))
            | Wanted::Resume(Scope::Job(job))
            | Wanted::Priority { job, .. }
            | Wanted::Keep { job }
            | Wanted::Wipe { job, .. } => self.named(job, found),
        }
    }

    fn named(&self, name: &str, found: Option<&[Record]>) -> Result<Named, Vec<JobFilter>> {
        if let Some(named) = self.with_id(name, found) {
            return Ok(named);
        }
        if let Some((pipeline, key)) = name.split_once('/') {
            return self.at_place(pipeline, key, found);
        }
        let Some(found) = found.filter(|_| !name.is_empty()) else {
            let beginning = JobFilter { id: Some(name.to_owned()), limit: TOLD, ..JobFilter::default() };
            return if name.is_empty() { Ok(Named::Nothing) } else { Err(vec![whole(name), beginning]) };
        };
        let candidates = self.candidates(found);
        let mut meant: Vec<_> = candidates.into_iter().filter(|(id, _)| id.starts_with(name)).collect();
        if meant.len() > 1 {
            return Ok(Named::Many(meant.into_iter().take(TOLD).map(|(id, _)| id.to_owned()).collect()));
        }
        Ok(meant.pop().map_or(Named::Nothing, |(_, candidate)| candidate.named()))
    }

    /// The job of a pipeline with a key that is live, or else the newest.
    fn at_place(&self, pipeline: &str, key: &str, found: Option<&[Record]>) -> Result<Named, Vec<JobFilter>> {
        let is_at = |job: &&Job| job.definition.name == pipeline && job.key.as_deref() == Some(key);
        let live = self.jobs.values().filter(is_at).filter(|job| job.state.is_live());
        if let Some(live) = live.max_by_key(|job| job.holds_key()) {
            return Ok(Named::Open(live.id.clone()));
        }
        let Some(found) = found else {
            let (pipeline, key) = (Some(pipeline.to_owned()), Some(key.to_owned()));
            return Err(vec![JobFilter { pipeline, key, limit: 1, ..JobFilter::default() }]);
        };
        let here = self.candidates(found).into_values().filter(|candidate| candidate.is_at(pipeline, key));
        Ok(here.max_by_key(Candidate::made_at).map_or(Named::Nothing, |candidate| candidate.named()))
    }

    /// The job with just this id, as far as it is known.
    fn with_id(&self, id: &str, found: Option<&[Record]>) -> Option<Named> {
        if self.jobs.contains_key(id) {
            return Some(Named::Open(id.to_owned()));
        }
        if let Some(record) = self.aside.iter().find(|record| record.id == id) {
            return Some(Candidate::Record(record).named());
        }
        if let Some((_, closed)) = self.closed.get(id) {
            return Some(closed.as_ref().map_or(Named::Nothing, |job| Named::Stored(Box::new(job.clone()))));
        }
        let record = found?.iter().find(|record| record.id == id)?;
        Some(Candidate::Record(record).named())
    }

    /// All jobs that are in memory or were found. What was found may be older than what is in memory.
    fn candidates<'a>(&'a self, found: &'a [Record]) -> BTreeMap<&'a str, Candidate<'a>> {
        let mut candidates: BTreeMap<&str, Candidate<'_>> = BTreeMap::new();
        for record in self.aside.iter().chain(found) {
            candidates.insert(&record.id, Candidate::Record(record));
        }
        for (id, (_, closed)) in &self.closed {
            match closed {
                Some(job) => candidates.insert(id, Candidate::Closed(job)),
                None => candidates.remove(id.as_str()),
            };
        }
        for (id, job) in &self.jobs {
            candidates.insert(id, Candidate::Open(job));
        }
        candidates
    }
}

impl Candidate<'_> {
    fn named(&self) -> Named {
        match self {
            Self::Open(job) => Named::Open(job.id.clone()),
            Self::Closed(job) => Named::Stored(Box::new((*job).clone())),
            Self::Record(record) => match Job::read(record) {
                Ok(job) => Named::Stored(Box::new(job)),
                Err(error) => Named::Unread(error),
            },
        }
    }

    fn is_at(&self, pipeline: &str, key: &str) -> bool {
        match self {
            Self::Open(job) | Self::Closed(job) => job.definition.name == pipeline && job.key.as_deref() == Some(key),
            Self::Record(record) => record.pipeline == pipeline && record.key.as_deref() == Some(key),
        }
    }

    const fn made_at(&self) -> i64 {
        match self {
            Self::Open(job) | Self::Closed(job) => job.made_at.0,
            Self::Record(record) => record.made_at.0,
        }
    }
}

fn whole(id: &str) -> JobFilter {
    JobFilter { id: Some(id.to_owned()), whole_id: true, ..JobFilter::default() }
}
