//! What is known of void rounds and frozen jobs. Pure.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use uuid::Uuid;

use crate::{
    jobs::void_rounds::VoidRounds, membership::Membership, task::is_queue_name,
    transport::amqp::ledger::names::Announcement,
};

/// Applications whose ledgers are listened to: each takes a channel, and a message names any that it likes.
const APPLICATIONS: usize = 64;

/// What becomes of a task that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is a task like any other.
    Worked,
    /// Its round is void: it counts for nothing.
    Void,
    /// Its job is frozen: it waits.
    Frozen,
    /// That is not known yet.
    Unknown,
}

/// Whether a task of the job is in a hand that one wipes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hands {
    /// Nobody was asked.
    Unknown,
    Free,
    Busy,
}

/// While it is, a task that wipes is put off for so long: a step of the ladder.
pub(crate) const PUT_OFF: Duration = Duration::from_secs(1);

/// What an announcement tells that was not known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) void: Vec<Uuid>,
    pub(crate) frozen: Vec<String>,
    /// Tasks may wait aside that need not wait any more.
    pub(crate) thawed: bool,
}

/// What is known, for as long as the process lives.
#[derive(Debug, Default)]
pub(crate) struct StoppedJobs {
    void: VoidRounds,
    applications: HashMap<String, Application>,
}

/// What a ledger has said.
#[derive(Debug, Default)]
struct Application {
    /// Of the last coordinator that was heard.
    epoch: u64,
    frozen: HashSet<String>,
    /// In this session it was heard, or found that nobody answers.
    is_current: bool,
    /// In this process all was heard that is frozen.
    was_heard: bool,
}

impl StoppedJobs {
    /// Begins to listen to the ledger of an application; `false`: there are too many, or none can have this name.
    pub(crate) fn listen(&mut self, application: &str) -> bool {
        if self.applications.contains_key(application) {
            return true;
        }
        let is_good = is_queue_name(application) && self.applications.len() < APPLICATIONS;
        if is_good {
            self.applications.insert(application.to_owned(), Application::default());
        }
        is_good
    }

    /// The applications that are listened to.
    pub(crate) fn applications(&self) -> Vec<String> {
        self.applications.keys().cloned().collect()
    }

    /// What was said while there was no session was not heard.
    pub(crate) fn session_began(&mut self) {
        self.applications.values_mut().for_each(|application| application.is_current = false);
    }

    /// What becomes of a task at this place. Of an application that is not listened to it is unknown.
    pub(crate) fn fate(&self, place: &Membership) -> Fate {
        if self.void.contains(place.round) {
            return Fate::Void;
        }
        match self.applications.get(&place.application) {
            Some(known) if known.is_current && known.frozen.contains(&place.job) => Fate::Frozen,
            Some(known) if known.is_current => Fate::Worked,
            _ => Fate::Unknown,
        }
    }

    /// Whether a task at this place is of a void round.
    pub(crate) fn is_void(&self, place: &Membership) -> bool {
        self.void.contains(place.round)
    }

    /// Whether a task at this place is of a job that is known to be frozen.
    pub(crate) fn is_frozen(&self, place: &Membership) -> bool {
        self.applications.get(&place.application).is_some_and(|known| known.frozen.contains(&place.job))
    }

    /// Nobody answers: what was known holds.
    pub(crate) fn unanswered(&mut self, application: &str) {
        if let Some(known) = self.applications.get_mut(application) {
            known.is_current = true;
        }
    }

    /// An announcement. One that does not say all is not enough to judge by what was never asked about.
    pub(crate) fn hear(&mut self, application: &str, said: Announcement) -> News {
        let void: Vec<Uuid> = said.void.into_iter().filter(|round| self.void.add(*round)).collect();
        let mut news = News { void, ..News::default() };
        let Some(known) = self.applications.get_mut(application).filter(|known| known.epoch <= said.epoch) else {
            return news;
        };
        known.epoch = said.epoch;
        let before = known.frozen.len();
        if said.complete {
            // What was put aside may be of jobs that were thawed while no master lived. Where some are frozen still, it comes back by
            // itself: most of it would only be put aside again.
            news.thawed = !std::mem::replace(&mut known.was_heard, true) && said.frozen.is_empty();
            known.is_current = true;
            known.frozen.retain(|job| said.frozen.contains(job));
        }
        known.frozen.retain(|job| !said.thawed.contains(job));
        news.thawed |= known.frozen.len() < before || !said.thawed.is_empty();
        news.frozen = said.frozen.into_iter().filter(|job| known.frozen.insert(job.clone())).collect();
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(application: &str, job: &str, round: u128) -> Membership {
        let text = format!(
            r#"{{"application":"{application}","job":"{job}","pipeline":"p","step":"s","queue":"q","each":"q",
            "round":"{round}","feeder":"{round}","index":0}}"#,
            round = Uuid::from_u128(round)
        );
        serde_json::from_str(&text).unwrap()
    }

    fn said(epoch: u64, complete: bool, frozen: &[&str], thawed: &[&str]) -> Announcement {
        let jobs = |jobs: &[&str]| jobs.iter().map(|job| (*job).to_owned()).collect();
        Announcement { epoch, complete, frozen: jobs(frozen), thawed: jobs(thawed), ..Announcement::default() }
    }

    #[test]
    fn a_task_is_judged_when_its_ledger_was_heard() {
        let mut stopped = StoppedJobs::default();
        let task = place("a", "j", 1);
        assert_eq!(stopped.fate(&task), Fate::Unknown);
        assert!(stopped.listen("a"));
        assert_eq!(stopped.hear("a", said(1, false, &["j"], &[])).frozen, ["j"]);
        assert_eq!(stopped.fate(&task), Fate::Unknown, "what is said by and by is not all");
        assert_eq!(stopped.hear("a", said(1, true, &["j"], &[])), News::default());
        assert_eq!(stopped.fate(&task), Fate::Frozen);
        assert_eq!(stopped.fate(&place("a", "i", 1)), Fate::Worked);
        assert_eq!(stopped.fate(&place("b", "j", 1)), Fate::Unknown, "another application has other jobs");
        stopped.session_began();
        assert_eq!(stopped.fate(&task), Fate::Unknown);
        stopped.unanswered("a");
        assert_eq!(stopped.fate(&task), Fate::Frozen, "what was known holds");
    }

    #[test]
    fn what_a_process_before_has_put_aside_is_fetched_where_nothing_is_frozen() {
        let mut stopped = StoppedJobs::default();
        assert!(stopped.listen("a"));
        assert!(stopped.hear("a", said(1, true, &[], &[])).thawed);
        stopped.session_began();
        assert!(!stopped.hear("a", said(1, true, &[], &[])).thawed, "once");
    }

    #[test]
    fn a_round_is_void_whoever_says_so_and_told_once() {
        let mut stopped = StoppedJobs::default();
        let void = |epoch| Announcement { epoch, void: vec![Uuid::from_u128(1)], ..Announcement::default() };
        assert!(stopped.listen("a"));
        stopped.hear("a", said(7, true, &[], &[]));
        assert_eq!(stopped.hear("a", void(3)).void, [Uuid::from_u128(1)]);
        assert_eq!(stopped.hear("a", void(8)), News::default());
        assert_eq!(stopped.fate(&place("a", "j", 1)), Fate::Void);
        assert_eq!(stopped.fate(&place("b", "j", 1)), Fate::Void);
    }

    #[test]
    fn of_frozen_jobs_the_latest_coordinator_knows() {
        let mut stopped = StoppedJobs::default();
        assert!(stopped.listen("a"));
        stopped.hear("a", said(2, true, &["i", "j"], &[]));
        assert_eq!(stopped.hear("a", said(1, true, &[], &[])), News::default(), "a former one");
        assert_eq!(stopped.hear("a", said(2, false, &[], &["j"])), News { thawed: true, ..News::default() });
        assert!(!stopped.is_frozen(&place("a", "j", 1)) && stopped.is_frozen(&place("a", "i", 1)));
        assert!(stopped.hear("a", said(3, true, &[], &[])).thawed);
        assert!(!stopped.is_frozen(&place("a", "i", 1)));
        assert!(!stopped.hear("a", said(3, true, &[], &[])).thawed);
    }

    #[test]
    fn names_in_messages_take_no_end_of_channels() {
        let mut stopped = StoppedJobs::default();
        assert!(!stopped.listen("") && !stopped.listen("a b") && !stopped.listen("\u{0}"));
        let heard = (0..100).filter(|number| stopped.listen(&format!("a{number}"))).count();
        assert_eq!(heard, APPLICATIONS);
        assert!(stopped.listen("a0"), "one that is listened to already");
    }
}
