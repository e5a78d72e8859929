//! The timer: a pure machine like the core. It is told the time, the lease and what was stored, and says which
//! moments fire. It fires only while it holds the lease, and every moment is stored together with the memory that
//! it fired; so two schedulers, or one that was killed in the middle, fire it once.

use std::{collections::HashMap, time::Duration};

use uuid::Uuid;

use super::definition::{Misfire, Schedule, Target};
use crate::{
    clock::Timestamp,
    jobs::{entry, order::Order},
    json_text::JsonText,
    protocol::Protocol,
    task::NewTask,
};

/// After a moment could not be stored: how long until it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Of the moments that passed while none could be fired here, all of this last time are made up for; of earlier ones at
/// most one.
const MADE_UP: Duration = Duration::from_mins(5);
/// … at the pace of those that come first about so many.
const MOST_MADE_UP: i64 = 300;

/// A clock that was set back by more is taken for right, as Vixie cron does: what comes next comes by what it shows. After a
/// smaller step the moments that it shows again were fired, and the timer waits for the next one. So of a moment that lies
/// further in the future than this no store can remember that it fired.
pub const SET_BACK: Duration = Duration::from_hours(3);

/// What the timer wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Store this task for this moment, with the memory of it.
    Fire {
        /// The schedule's id.
        schedule: String,
        /// The moment.
        moment: Timestamp,
        /// The task; `None` moves the memory on past missed moments.
        task: Option<NewTask>,
        /// What it runs, for the log.
        target: String,
    },
}

#[derive(Debug)]
struct Entry {
    schedule: Schedule,
    next: Option<Timestamp>,
    /// It could not be stored: not tried again before this.
    again_at: Option<Timestamp>,
    /// Asked to be stored, not answered.
    pending: bool,
    /// What was asked last moves the memory on past a moment that is not run.
    skips: bool,
    /// The moment that is remembered, as far as this timer knows.
    last: Option<Timestamp>,
    /// Since when this master wants to fire it. What came before was missed; what comes is not, though the lease or the
    /// connection is away for a while.
    since: Timestamp,
}

impl Entry {
    /// When its next moment is to be fired.
    fn due_at(&self) -> Option<Timestamp> {
        let moment = self.next.filter(|_| !self.pending)?;
        Some(self.again_at.map_or(moment, |again_at| moment.max(again_at)))
    }

    /// The moment to fire next if the last one that fired was `last`. With `all`, none that is behind is left out without
    /// another one fired for it.
    fn after(&self, last: Timestamp, now: Timestamp, all: bool) -> Option<Timestamp> {
        let is_past = |moment: &Timestamp| *moment <= now;
        let upcoming = self.schedule.when.next_after(last);
        let Some(behind) = upcoming.filter(is_past) else { return upcoming };
        let pace = self.schedule.when.next_after(behind).map_or(i64::MAX, |next| next.0.saturating_sub(behind.0));
        let time = pace.saturating_mul(MOST_MADE_UP).min(MADE_UP.as_millis() as i64);
        let from = Timestamp(now.0.saturating_sub(time));
        if behind > from {
            return upcoming;
        }
        let recent = self.schedule.when.next_after(from);
        if recent.is_none_or(|recent| recent > now) && all { last_between(self, last, now) } else { recent }
    }
}

/// The moments of all schedules.
#[derive(Debug)]
pub struct Timer {
    entries: Vec<Entry>,
    leading: bool,
    /// … now or before.
    has_led: bool,
    /// The latest time that it was told, unless the clock was set back.
    told: Timestamp,
}

impl Timer {
    /// A timer that does not hold the lease yet.
    #[must_use]
    pub fn new(schedules: Vec<Schedule>, now: Timestamp) -> Self {
        let entry = |schedule| {
            let (next, again_at, last) = (None, None, None);
            Entry { schedule, next, again_at, pending: false, skips: false, last, since: now }
        };
        Self { entries: schedules.into_iter().map(entry).collect(), leading: false, has_led: false, told: now }
    }

    /// Other schedules in the place of these. One that is the same goes on as if nothing had happened; a new or changed
    /// one begins with the next moment after `now`. Gives those.
    pub fn replace(&mut self, schedules: Vec<Schedule>, now: Timestamp) -> Vec<Schedule> {
        let mut old = std::mem::take(&mut self.entries);
        let mut new = Vec::new();
        for schedule in schedules {
            let known =
                old.iter().position(|entry| entry.schedule.id == schedule.id).map(|place| old.swap_remove(place));
            self.entries.push(match known {
                Some(entry) if entry.schedule == schedule => entry,
                known => {
                    new.push(schedule.clone());
                    // A moment of the old one may be on its way to be stored.
                    let (pending, skips, last) =
                        known.map_or((false, false, None), |entry| (entry.pending, entry.skips, entry.last));
                    let next = schedule.when.next_after(now).filter(|_| self.leading);
                    Entry { schedule, next, again_at: None, pending, skips, last, since: now }
                }
            });
        }
        new
    }

    /// We are the scheduler; `memory` is the last moment of each schedule that fired before.
    pub fn lead(&mut self, now: Timestamp, memory: &[(String, Timestamp)]) -> Vec<Act> {
        let memory: HashMap<&str, Timestamp> = memory.iter().map(|(id, moment)| (id.as_str(), *moment)).collect();
        let mut acts = Vec::new();
        for entry in &mut self.entries {
            entry.pending = false;
            entry.again_at = None;
            entry.last = memory.get(entry.schedule.id.as_str()).copied();
            // A clock that was set back must not keep it from firing.
            let since = entry.since.min(now);
            let fired = entry.last.unwrap_or(since).max(since).min(now);
            entry.next = entry.after(fired, now, self.has_led);
            let Some(missed) = entry.last.and_then(|last| last_between(entry, last, since)) else { continue };
            let run = entry.schedule.misfire == Misfire::RunOnce;
            if !run && entry.next.is_some_and(|next| next <= now) {
                // That one moves the memory on.
                continue;
            }
            (entry.pending, entry.skips) = (true, !run);
            acts.push(act(&entry.schedule, missed, run));
        }
        (self.leading, self.has_led) = (true, true);
        acts
    }

    /// We are not the scheduler any more.
    pub fn follow(&mut self) {
        self.leading = false;
    }

    /// The moments that have come.
    pub fn due(&mut self, now: Timestamp) -> Vec<Act> {
        let mut acts = Vec::new();
        if !self.leading {
            return acts;
        }
        let was_set_back = now.plus(SET_BACK) < self.told;
        self.told = if was_set_back { now } else { self.told.max(now) };
        for entry in &mut self.entries {
            if was_set_back && !entry.pending && entry.next.is_none_or(|next| now.plus(SET_BACK) < next) {
                (entry.next, entry.again_at) = (entry.schedule.when.next_after(now), None);
            }
            // No later than was meant when it was set, whatever the clock showed then.
            entry.again_at = entry.again_at.map(|again_at| again_at.min(now.plus(RETRY)));
            let Some(moment) = entry.next.filter(|_| entry.due_at().is_some_and(|at| at <= now)) else { continue };
            (entry.pending, entry.skips) = (true, false);
            acts.push(act(&entry.schedule, moment, true));
        }
        acts
    }

    /// A moment was stored (or had been), or could not be and is tried again.
    pub fn fired(&mut self, now: Timestamp, schedule: &str, moment: Timestamp, stored: bool) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.schedule.id == schedule) else { return };
        entry.pending = false;
        entry.again_at = None;
        if stored {
            entry.last = entry.last.max(Some(moment));
            let was_set_back = now.plus(SET_BACK) < moment;
            entry.next = entry.after(if was_set_back { now } else { moment }, now, true);
        } else if !entry.skips {
            // The same moment: its task has the same id then, should it have been stored after all.
            entry.next = Some(moment);
            entry.again_at = Some(now.plus(RETRY));
        }
    }

    /// The last moment of each schedule by its id, while we are the scheduler: others do not know what fires.
    #[must_use]
    pub fn last_moments(&self) -> Vec<(&str, Option<Timestamp>)> {
        let entries = self.entries.iter().filter(|_| self.leading);
        entries.map(|entry| (entry.schedule.id.as_str(), entry.last)).collect()
    }

    /// The task of a schedule outside its moments, with an id of its own for each `number`: nothing of it is remembered. `None`: there
    /// is no such schedule. Whether we are the scheduler does not matter.
    #[must_use]
    pub fn task_now(&self, schedule: &str, now: Timestamp, number: Uuid) -> Option<(NewTask, &Target)> {
        let schedule = self.entries.iter().map(|entry| &entry.schedule).find(|known| known.id == schedule)?;
        // As if it were another schedule's moment.
        let other = Schedule { id: format!("{}#{number}", schedule.id), ..schedule.clone() };
        Some((task(&other, now), &schedule.target))
    }

    /// All schedules, with the last moment of each as far as we know it.
    pub fn known(&self) -> impl Iterator<Item = (&Schedule, Option<Timestamp>)> {
        self.entries.iter().map(|entry| (&entry.schedule, entry.last))
    }

    /// Whether [`Self::due`] has anything to say: a moment has come, or the clock was set back and moments are to be found anew.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.leading && (now.plus(SET_BACK) < self.told || self.next_moment().is_some_and(|moment| moment <= now))
    }

    /// When the next moment comes.
    #[must_use]
    pub fn next_moment(&self) -> Option<Timestamp> {
        self.next().map(|(_, moment)| moment)
    }

    /// The schedule that fires next, and when; while we are the scheduler.
    #[must_use]
    pub fn next(&self) -> Option<(&Schedule, Timestamp)> {
        let entries = self.entries.iter().filter(|_| self.leading);
        entries.filter_map(|entry| Some((&entry.schedule, entry.due_at()?))).min_by_key(|(_, moment)| *moment)
    }
}

/// The latest moment after `last` and not after `now`: found by halving, so that a year of missed seconds costs the
/// master's loop forty looks at the calendar.
fn last_between(entry: &Entry, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let has_passed = |at: i64| entry.schedule.when.next_after(Timestamp(at)).is_some_and(|next| next <= now);
    // What is remembered comes from elsewhere: no time before 1970 is taken for one.
    let (mut before, mut from) = (last.0.max(0), now.0);
    if before >= from || !has_passed(before) {
        return None;
    }
    while from - before > 1 {
        let middle = before + (from - before) / 2;
        if has_passed(middle) {
            before = middle;
        } else {
            from = middle;
        }
    }
    Some(Timestamp(from))
}

fn act(schedule: &Schedule, moment: Timestamp, run: bool) -> Act {
    let task = run.then(|| task(schedule, moment));
    Act::Fire { schedule: schedule.id.clone(), moment, task, target: schedule.target.name().to_owned() }
}

fn task(schedule: &Schedule, moment: Timestamp) -> NewTask {
    let payload = schedule.payload.as_ref().map_or("{}", |payload| &payload.text);
    let id = task_id(&schedule.id, moment);
    let (id, body, protocol) = match &schedule.target {
        Target::Worker(_) | Target::Queue(_) => (id, payload.as_bytes().to_vec(), Protocol::default()),
        Target::Ctl(command) => {
            (id, serde_json::json!({ "command": command }).to_string().into_bytes(), Protocol::default())
        }
        Target::Celery(task) => (id, task.payload().into_bytes(), task.protocol.clone()),
        Target::Pipeline(name) => {
            // The ids of jobs are of one space, whatever their application; the queue's name holds it.
            let job = task_id(&format!("{}/{}", schedule.queue, schedule.id), moment);
            // It was written as JSON by the settings.
            let payload = JsonText::parse(payload).unwrap_or_else(|_| serde_json::Value::from(payload).into());
            let entry = entry::Entry::Order(Box::new(Order::start(moment, name, job.clone(), payload, true)));
            (job, entry.to_bytes(), Protocol::default())
        }
    };
    NewTask { queue: schedule.queue.clone(), id, body, protocol, ..NewTask::default() }
}

/// The id of a schedule's task: the same for the same moment, whoever fires it.
fn task_id(schedule: &str, moment: Timestamp) -> String {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"asynctask.schedule");
    Uuid::new_v5(&namespace, format!("{schedule}@{}", moment.0).as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{cron::Fields, when::When};

    /// A timer that waits for the lease since this second.
    fn timer(since: i64, misfire: Misfire, field: (&str, &str)) -> Timer {
        let mut fields = Fields { timezone: Some("UTC".to_owned()), ..Fields::default() };
        *fields.by_name(field.0).unwrap() = Some(field.1.to_owned());
        let schedule = Schedule {
            id: "s".to_owned(),
            queue: "q".to_owned(),
            target: Target::Worker("kind".to_owned()),
            payload: None,
            when: When::new(&fields, None).unwrap(),
            misfire,
            fields: String::new(),
        };
        Timer::new(vec![schedule], seconds(since))
    }

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    fn moments(acts: &[Act]) -> Vec<(i64, bool)> {
        acts.iter().map(|Act::Fire { moment, task, .. }| (moment.0 / 1000, task.is_some())).collect()
    }

    #[test]
    fn of_what_was_missed_the_last_counts_however_much_it_was() {
        let now = seconds(400_000_000);
        let memory = [("s".to_owned(), seconds(5))];
        let begun = |misfire, field| timer(400_000_000, misfire, field);
        let mut often = begun(Misfire::RunOnce, ("second", "*"));
        assert_eq!(moments(&often.lead(now, &memory)), [(400_000_000, true)]);
        let mut hourly = begun(Misfire::Skip, ("minute", "30"));
        assert_eq!(moments(&hourly.lead(now, &memory)), [(399_997_800, false)]);
        for last in [now, seconds(400_000_001), Timestamp(i64::MAX)] {
            assert_eq!(begun(Misfire::RunOnce, ("second", "*")).lead(now, &[("s".to_owned(), last)]), []);
        }
        let nonsense = [("s".to_owned(), Timestamp(i64::MIN))];
        assert_eq!(moments(&begun(Misfire::RunOnce, ("second", "*")).lead(now, &nonsense)), [(400_000_000, true)]);
    }

    #[test]
    fn a_moment_of_a_pipeline_orders_one_job_whoever_fires_it() {
        let fired = |application: &str| {
            let mut timer = timer(0, Misfire::Skip, ("second", "*/4"));
            let schedule = &mut timer.entries[0].schedule;
            schedule.queue = format!("asynctask.ledger.{application}");
            schedule.target = Target::Pipeline("nightly".to_owned());
            schedule.payload = Some(super::super::Payload::of("{\"n\":1e400}"));
            timer.lead(seconds(0), &[]);
            let [Act::Fire { task: Some(task), target, .. }] = &timer.due(seconds(4))[..] else { panic!("one") };
            assert_eq!((task.queue.as_str(), target.as_str()), (timer.entries[0].schedule.queue.as_str(), "nightly"));
            task.clone()
        };
        let task = fired("app");
        assert_eq!(task, fired("app"));
        assert_ne!(task.id, fired("other").id, "jobs of all applications are in one space");
        let Ok(entry::Entry::Order(order)) = entry::Entry::parse(&task.body) else { panic!("an order") };
        let payload = JsonText::parse("{\"n\":1e400}").unwrap();
        assert_eq!(*order, Order::start(seconds(4), "nightly", task.id, payload, true));
    }

    /// Fires whatever is due at this second; the moments.
    fn fire_all(timer: &mut Timer, now: i64) -> Vec<i64> {
        let mut all = Vec::new();
        // As the master asks: not unless there is something to say.
        while timer.is_due(seconds(now))
            && let [(moment, run)] = moments(&timer.due(seconds(now)))[..]
        {
            assert!(run, "a moment of this master is not skipped");
            all.push(moment);
            timer.fired(seconds(now), "s", seconds(moment), true);
        }
        all
    }

    #[test]
    fn what_passed_while_the_lease_was_away_is_fired_moment_by_moment() {
        for misfire in [Misfire::Skip, Misfire::RunOnce] {
            let mut timer = timer(100, misfire, ("second", "*/4"));
            timer.lead(seconds(101), &[]);
            assert_eq!(fire_all(&mut timer, 109), [104, 108]);
            timer.follow();
            assert_eq!((timer.due(seconds(113)), timer.next_moment()), (Vec::new(), None));
            // Another one fired 112 meanwhile.
            assert_eq!(timer.lead(seconds(121), &[("s".to_owned(), seconds(112))]), []);
            assert_eq!(fire_all(&mut timer, 121), [116, 120]);
            assert_eq!(timer.next_moment(), Some(seconds(124)));
        }
    }

    #[test]
    fn what_passed_while_another_one_was_taken_over_from_is_fired_and_what_was_before_is_missed() {
        let memory = [("s".to_owned(), seconds(60))];
        let mut skips = timer(202, Misfire::Skip, ("second", "*/4"));
        assert_eq!(skips.lead(seconds(209), &memory), []);
        assert_eq!(fire_all(&mut skips, 209), [204, 208]);
        let mut runs = timer(202, Misfire::RunOnce, ("second", "*/4"));
        assert_eq!(moments(&runs.lead(seconds(209), &memory)), [(200, true)]);
        runs.fired(seconds(209), "s", seconds(200), true);
        assert_eq!(fire_all(&mut runs, 209), [204, 208]);
    }

    #[test]
    fn of_a_long_absence_the_last_minutes_are_made_up_for_or_the_last_moment() {
        let memory = [("s".to_owned(), seconds(0))];
        let timer_of = |field| {
            let mut timer = timer(0, Misfire::Skip, field);
            timer.lead(seconds(1), &memory);
            timer.follow();
            timer.lead(seconds(36_030), &memory);
            fire_all(&mut timer, 36_030)
        };
        assert_eq!(timer_of(("minute", "*")), [35_760, 35_820, 35_880, 35_940, 36_000]);
        assert_eq!(timer_of(("minute", "20")), [33_600]);
        // One that waited for long, while another one led that perhaps knew no such schedule.
        let mut waited = timer(0, Misfire::Skip, ("minute", "20"));
        waited.lead(seconds(36_030), &memory);
        assert_eq!(fire_all(&mut waited, 36_030), [0; 0]);
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_nothing_from_firing() {
        let mut timer = timer(9_000, Misfire::Skip, ("minute", "*"));
        timer.lead(seconds(50), &[]);
        assert_eq!(timer.next_moment(), Some(seconds(60)));
    }

    #[test]
    fn a_clock_that_was_wrong_for_seconds_fires_no_days_of_moments_and_keeps_none_from_firing() {
        const DAYS: i64 = 5 * 86_400;
        for (field, early) in [(("minute", "*"), 6), (("hour", "*/2"), 2)] {
            let mut timer = timer(90, Misfire::RunOnce, field);
            timer.lead(seconds(100), &[]);
            let mut fired = fire_all(&mut timer, 130);
            // Five days ahead: no more than after any absence, and none of it twice.
            let ahead = fire_all(&mut timer, 130 + DAYS);
            assert!((1..=early).contains(&ahead.len()), "{ahead:?}");
            assert_eq!(fire_all(&mut timer, 134 + DAYS), [0; 0]);
            // And back: by the right time again, though what fired last lies in five days.
            assert_eq!(fire_all(&mut timer, 138), [0; 0]);
            let next = timer.next_moment().unwrap();
            assert!(next <= seconds(7200), "{next:?}");
            fired.extend(fire_all(&mut timer, next.0 / 1000));
            assert_eq!(fired.last(), Some(&(next.0 / 1000)));
            // A master that takes over in the middle of it has missed nothing.
            let memory = [("s".to_owned(), seconds(*ahead.last().unwrap()))];
            let mut other = self::timer(140, Misfire::RunOnce, field);
            assert_eq!(other.lead(seconds(141), &memory), []);
            assert_eq!(other.next_moment(), Some(seconds(if early == 2 { 7200 } else { 180 })));
        }
    }

    #[test]
    fn a_moment_that_was_being_stored_when_the_clock_was_set_back_holds_up_nothing() {
        let mut timer = timer(90, Misfire::Skip, ("minute", "*"));
        timer.lead(seconds(100), &[]);
        assert_eq!(moments(&timer.due(seconds(432_000))), [(120, true)]);
        timer.fired(seconds(432_000), "s", seconds(120), true);
        assert_eq!(moments(&timer.due(seconds(432_000))), [(431_760, true)]);
        timer.fired(seconds(130), "s", seconds(431_760), true);
        assert_eq!(timer.next_moment(), Some(seconds(180)));
        // One that could not be stored is tried again in a second by any clock.
        assert_eq!(moments(&timer.due(seconds(180))), [(180, true)]);
        timer.fired(seconds(190), "s", seconds(180), false);
        assert_eq!(timer.due(seconds(185)), []);
        assert_eq!(moments(&timer.due(seconds(186))), [(180, true)]);
    }

    #[test]
    fn a_small_step_back_fires_nothing_again() {
        let mut timer = timer(90, Misfire::Skip, ("minute", "*"));
        timer.lead(seconds(100), &[]);
        assert_eq!(fire_all(&mut timer, 7_200).last(), Some(&7_200));
        assert_eq!(fire_all(&mut timer, 3_660), [0; 0]);
        assert_eq!(fire_all(&mut timer, 7_259), [0; 0]);
        assert_eq!(fire_all(&mut timer, 7_260), [7_260]);
    }

    #[test]
    fn what_could_not_be_stored_is_tried_again_as_the_moment_that_it_was() {
        let mut timer = timer(50, Misfire::Skip, ("minute", "*"));
        timer.lead(seconds(50), &[]);
        assert_eq!(moments(&timer.due(seconds(63))), [(60, true)]);
        assert_eq!(timer.next_moment(), None);
        timer.fired(seconds(64), "s", seconds(60), false);
        assert_eq!(timer.next_moment(), Some(seconds(65)));
        assert_eq!(timer.due(Timestamp(64_999)), []);
        assert_eq!(moments(&timer.due(seconds(65))), [(60, true)]);
        timer.fired(seconds(65), "s", seconds(60), true);
        assert_eq!(timer.next_moment(), Some(seconds(120)));
        assert_eq!(timer.last_moments(), [("s", Some(seconds(60)))]);
    }

    #[test]
    fn a_moment_that_is_skipped_is_not_run_because_its_skipping_could_not_be_stored() {
        let mut timer = timer(130, Misfire::Skip, ("minute", "*"));
        assert_eq!(moments(&timer.lead(seconds(130), &[("s".to_owned(), seconds(60))])), [(120, false)]);
        timer.fired(seconds(131), "s", seconds(120), false);
        assert_eq!(timer.next_moment(), Some(seconds(180)));
    }
}
