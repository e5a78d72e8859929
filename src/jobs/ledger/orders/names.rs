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

#[cfg(test)]
mod tests {
    use crate::jobs::{
        definition::Pipeline,
        entry::Entry,
        ledger::tests::{Bench, chain, start, text},
        order::{Order, Wanted},
        record::JobFilter,
    };

    #[test]
    fn a_job_is_named_by_its_id_a_beginning_of_it_or_its_place() {
        let mut bench = Bench::new(vec![Pipeline { key: Some("{payload}".to_owned()), ..chain("p", &["a"]) }]);
        for (id, payload) in [("abc", "1"), ("abd", "\"x/y\""), ("ab", "3")] {
            bench.start("p", id, payload);
            bench.pass(1);
        }
        bench.done("a", "");
        let mut meant = |name: &str| {
            let answer = text(&bench.order(Wanted::Keep { job: name.to_owned() }));
            answer.split(" of p").next().unwrap_or_default().to_owned()
        };
        assert_eq!(meant("ab"), "job ab", "the whole id comes before a beginning");
        assert_eq!(meant("abc"), "job abc", "one that has ended");
        assert_eq!(meant("abd"), "job abd");
        assert_eq!(meant("p/1"), "job abc");
        assert_eq!(meant("p/x/y"), "job abd");
        assert_eq!(meant("a"), "refused: a is the beginning of several jobs' ids: ab, abc, abd; give more of the id");
        for unknown in ["x", "p/2", "", "p"] {
            assert_eq!(
                meant(unknown),
                format!("refused: there is no job {unknown}; asynctask jobs list shows which there are")
            );
        }
        bench.start("p", "newer", "1");
        bench.done("a", "");
        bench.done("a", "");
        bench.done("a", "");
        let answer = text(&bench.order(Wanted::Keep { job: "p/1".to_owned() }));
        assert!(answer.starts_with("job newer of p/1"), "the newest, as none is live: {answer}");
        assert_eq!(
            bench.find(&JobFilter { id: Some("ab".to_owned()), whole_id: true, ..JobFilter::default() }).len(),
            1
        );
    }

    #[test]
    fn orders_are_carried_out_one_after_the_other_and_not_by_old_records() {
        let mut bench = Bench::new(vec![chain("p", &["a"])]);
        let order = |id: &str, what| Entry::Order(Box::new(Order { id: id.to_owned(), at: bench.now, what }));
        let cancel = |job: &str| Wanted::Cancel { job: job.to_owned() };
        let entries = [order("1", start("p", "job", "{}")), order("2", cancel("job")), order("3", cancel("jo"))];
        let entries: Vec<_> = entries.iter().map(|entry| bench.stored_entry(entry)).collect();
        let first = bench.ledger.fold(bench.now, entries);
        assert_eq!((first.lookups.len(), first.advance.entries.len()), (3, 0));
        // The answers come in any order; none is known of the job.
        bench.ledger.found(first.lookups[1].entry, Vec::new());
        let none = bench.ledger.fold(bench.now, Vec::new());
        assert!(none.is_empty() && none.lookups.is_empty());
        bench.ledger.found(first.lookups[0].entry, Vec::new());
        let two = bench.ledger.fold(bench.now, Vec::new());
        let texts: Vec<_> = two.advance.answers.iter().map(|(_, answer)| answer.clone()).collect();
        assert!(
            texts[0].contains("job job of p begins") && texts[1].contains("job job of p is cancelled\""),
            "{texts:?}"
        );
        // It was closed in the last fold; a record from before that is older than what is remembered.
        let mut old = two.advance.records[0].clone();
        old.content = old.content.replace("cancelled", "running");
        bench.ledger.found(first.lookups[2].entry, vec![old]);
        let three = bench.ledger.fold(bench.now, Vec::new());
        assert!(three.advance.answers[0].1.contains("is cancelled already"), "{:?}", three.advance.answers);
    }
}
