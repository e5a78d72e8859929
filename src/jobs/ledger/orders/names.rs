//! Which job an order means.

use std::collections::BTreeMap;

use crate::jobs::{
    ledger::{fold::Ledger, state::Job},
    naming::{self, Meaning, filters, meaning},
    order::{Order, Scope, Wanted},
    record::{JobFilter, Record},
};

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
    /// Several.
    Many(Meaning),
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
        let known = self.candidates(found.unwrap_or_default());
        let meaning = meaning(name, known.values().map(Candidate::seen));
        if found.is_none() && !name.is_empty() {
            // A live job with a key is in memory, whatever else there is; of ids and of what has ended there may be more.
            let is_live_place =
                |id: &String| name.contains('/') && known.get(id.as_str()).is_some_and(Candidate::is_live);
            match &meaning {
                Meaning::One(id) if is_live_place(id) => {}
                _ => return Err(filters(name)),
            }
        }
        Ok(match meaning {
            Meaning::Nothing => Named::Nothing,
            Meaning::Many(ids) => Named::Many(Meaning::Many(ids)),
            Meaning::One(id) => known.get(id.as_str()).map_or(Named::Nothing, Candidate::named),
        })
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

    fn seen(&self) -> naming::Candidate<'_> {
        match self {
            Self::Open(job) | Self::Closed(job) => naming::Candidate {
                id: &job.id,
                pipeline: &job.definition.name,
                key: job.key.as_deref(),
                is_live: job.state.is_live(),
                holds_key: job.holds_key(),
                made_at: job.made_at,
            },
            Self::Record(record) => (*record).into(),
        }
    }

    fn is_live(&self) -> bool {
        self.seen().is_live
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
