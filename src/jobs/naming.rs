//! What a person's name of a job means: its id, a beginning of it that no other has, or `PIPELINE/KEY`, its live or newest. The one rule
//! of commands that only look and of orders.

use super::record::{JobFilter, Record};
use crate::clock::Timestamp;

/// Jobs that are named where a name fits several.
const TOLD: usize = 5;

/// A job that may be meant.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its pipeline.
    pub pipeline: &'a str,
    /// Its key.
    pub key: Option<&'a str>,
    /// It has not ended.
    pub is_live: bool,
    /// Of the live jobs with its key, it is the one that holds it.
    pub holds_key: bool,
    /// When it was made.
    pub made_at: Timestamp,
}

impl<'a> From<&'a Record> for Candidate<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            id: &record.id,
            pipeline: &record.pipeline,
            key: record.key.as_deref(),
            is_live: record.state.is_live(),
            holds_key: record.holds_key,
            made_at: record.made_at,
        }
    }
}

/// What a name means among candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// No job.
    Nothing,
    /// The job of this id.
    One(String),
    /// Several: these, and perhaps more.
    Many(Vec<String>),
}

impl Meaning {
    /// What is said of a name that means not one job, and what may help.
    #[must_use]
    pub fn refusal(&self, name: &str) -> Option<(String, String)> {
        match self {
            Self::One(_) => None,
            Self::Nothing => {
                Some((format!("there is no job {name}"), "asynctask jobs list shows which there are".to_owned()))
            }
            Self::Many(ids) => Some((
                format!("{name} is the beginning of several jobs' ids: {}", ids.join(", ")),
                "give more of the id".to_owned(),
            )),
        }
    }
}

/// Which jobs have to be known to say what a name means: those of all of these.
#[must_use]
pub fn filters(name: &str) -> Vec<JobFilter> {
    if name.is_empty() {
        return Vec::new();
    }
    let id = || Some(name.to_owned());
    let whole = JobFilter { id: id(), whole_id: true, ..JobFilter::default() };
    let others = match name.split_once('/') {
        Some((pipeline, key)) => {
            let at =
                JobFilter { pipeline: Some(pipeline.to_owned()), key: Some(key.to_owned()), ..JobFilter::default() };
            [JobFilter { open: true, ..at.clone() }, JobFilter { limit: 1, ..at }].to_vec()
        }
        None => vec![JobFilter { id: id(), limit: TOLD, ..JobFilter::default() }],
    };
    std::iter::once(whole).chain(others).collect()
}

/// What a name means. A whole id comes before a beginning, and a job that lives before one that has ended.
#[must_use]
pub fn meaning<'a>(name: &str, candidates: impl IntoIterator<Item = Candidate<'a>>) -> Meaning {
    let candidates: Vec<Candidate<'a>> = candidates.into_iter().collect();
    let one = |job: &Candidate<'_>| Meaning::One(job.id.to_owned());
    if let Some(job) = candidates.iter().find(|job| job.id == name) {
        return one(job);
    }
    if let Some((pipeline, key)) = name.split_once('/') {
        let there = candidates.iter().filter(|job| job.pipeline == pipeline && job.key == Some(key));
        return there
            .max_by_key(|job| (job.is_live && job.holds_key, job.is_live, job.made_at))
            .map_or(Meaning::Nothing, one);
    }
    let mut ids: Vec<&str> = candidates.iter().map(|job| job.id).filter(|id| id.starts_with(name)).collect();
    ids.sort_unstable();
    ids.dedup();
    if name.is_empty() {
        return Meaning::Nothing;
    }
    match ids[..] {
        [] => Meaning::Nothing,
        [id] => Meaning::One(id.to_owned()),
        _ => Meaning::Many(ids.into_iter().take(TOLD).map(str::to_owned).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &'static str, key: Option<&'static str>, made_at: i64) -> Candidate<'static> {
        Candidate { id, pipeline: "p", key, is_live: false, holds_key: false, made_at: Timestamp(made_at) }
    }

    #[test]
    fn a_whole_id_comes_before_a_beginning_and_a_beginning_means_one_job() {
        let jobs = [job("abc", None, 1), job("ab", None, 2), job("ab", None, 2), job("x", None, 3)];
        let meant = |name: &str| meaning(name, jobs);
        assert_eq!(meant("ab"), Meaning::One("ab".to_owned()));
        assert_eq!(meant("abc"), Meaning::One("abc".to_owned()));
        assert_eq!(meant("x"), Meaning::One("x".to_owned()));
        assert_eq!(meant("a"), Meaning::Many(vec!["ab".to_owned(), "abc".to_owned()]));
        assert!(["", "y", "p", "p/1"].iter().all(|name| meant(name) == Meaning::Nothing));
        let (error, hint) = meant("a").refusal("a").unwrap();
        assert_eq!(
            (error.as_str(), hint.as_str()),
            ("a is the beginning of several jobs' ids: ab, abc", "give more of the id")
        );
    }

    #[test]
    fn a_place_means_the_job_that_holds_the_key_or_lives_or_is_the_newest() {
        let meant = |jobs: &[Candidate<'static>]| meaning("p/k/1", jobs.iter().copied());
        let (old, new) = (job("old", Some("k/1"), 1), job("new", Some("k/1"), 2));
        assert_eq!(meant(&[old, new, job("other", Some("k"), 3)]), Meaning::One("new".to_owned()));
        let planned = Candidate { is_live: true, ..new };
        assert_eq!(
            meant(&[planned, Candidate { is_live: true, holds_key: true, ..old }]),
            Meaning::One("old".to_owned())
        );
        assert_eq!(meant(&[Candidate { is_live: true, ..old }, new]), Meaning::One("old".to_owned()));
        assert_eq!(filters("p/k/1").len(), 3);
        assert!(filters("").is_empty() && filters("0198").iter().all(|filter| filter.id.is_some()));
    }
}
