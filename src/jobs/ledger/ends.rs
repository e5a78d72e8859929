//! What the entries about tasks change in their job.

use super::{
    members::{Counted, Ending, FailedMember, MOST},
    out::Out,
    state::{Job, StepRecord},
    view::{StepState, Wiped},
};
use crate::jobs::{
    entry::{End, How, MemberId, News, What},
    record::JobState,
};

impl Job {
    /// A task of it has ended; whether that counts. `holder`: another job that has its key.
    pub(super) fn ended(&mut self, end: End, holder: Option<&str>, out: &mut Out) -> bool {
        if end.member.wipe {
            return self.wipe_ended(&end, holder, out);
        }
        let Some(place) = self.step_of(&end.member) else { return false };
        let MemberId { feeder, round, index, .. } = end.member;
        let record = &mut self.steps[place];
        let (ending, result, failure) = match end.how {
            How::Done { execution, items, result } => (Ending::Done { execution, items }, result, None),
            How::Failed { reason, error, dead_letter } => {
                let failure = Some((reason.clone(), error.clone()));
                let is_gone = dead_letter.is_none();
                let shown = Some(FailedMember { feeder, index, reason, error, dead_letter });
                (Ending::Failed { is_gone, shown }, None, failure)
            }
        };
        match record.members.end(feeder, index, ending) {
            Counted::No => return false,
            Counted::Gone => return true,
            Counted::Early => {
                record.begun();
                return true;
            }
            Counted::Yes => {}
            Counted::TooMany => {
                self.break_step(place, format!("it has more than {MOST} tasks"), out);
                self.go_on(out);
                return true;
            }
        }
        record.begun();
        // What a step that is done gave stays: others may have begun with it. One that began with a list gives nothing.
        let is_single = self.definition.steps[place].for_each.is_none();
        if is_single && feeder == round && record.state != StepState::Done {
            (record.retrying, record.snoozed) = (None, None);
            record.memo = end.memo.or(record.memo.take());
            if failure.is_none() {
                record.result = result;
            }
        }
        if let Some((reason, error)) = failure {
            self.is_told = false;
            let record = &mut self.steps[place];
            (record.reason, record.error) = (Some(reason), Some(error));
        }
        let was_done = self.steps[place].state == StepState::Done;
        self.judge_step(place, out);
        if self.state != JobState::Failed {
            self.go_on(out);
        } else if !was_done {
            // A late end in a step that is done heals nothing: the job may have failed by its timeout.
            self.heal(holder, out);
        }
        true
    }

    /// A task that failed is back at work; whether that counts. With it the job is. `holder`: another job that has its key.
    pub(super) fn retried(&mut self, member: &MemberId, holder: Option<&str>, out: &mut Out) -> bool {
        if member.wipe {
            return self.wipe_retried(member, holder);
        }
        let Some(place) = self.step_of(member).filter(|_| self.wiped == Wiped::No) else { return false };
        if let Some(holder) = holder.filter(|_| self.state == JobState::Failed) {
            // Who has the key took it while the retry was on its way. The task's end is judged then.
            let (id, place) = (&self.id, self.place());
            out.warning(format!("Job {id} of {place}: a task is retried while its key is held by job {holder}"));
            return false;
        }
        let record = &mut self.steps[place];
        if !record.members.retry(member.feeder, member.index) {
            return false;
        }
        if member.feeder == member.round && record.may_go_on() {
            record.retrying = record.error.clone().map(|error| (error, out.now));
        }
        if record.members.failed == 0 {
            (record.reason, record.error) = (None, None);
        }
        self.judge_step(place, out);
        if self.state == JobState::Failed {
            self.unskip(out);
            out.info(format!("Job {} of {} goes on: a task that failed is retried", self.id, self.place()));
            self.run(out);
        }
        true
    }

    /// There are news of a task; whether they are new.
    pub(super) fn told(&mut self, news: News) -> bool {
        let member = &news.member;
        let Some(place) = self.step_of(member).filter(|_| !member.wipe) else { return false };
        // Of a list of first tasks nothing is shown but that one has begun.
        let is_list = self.definition.steps[place].for_each.is_some();
        let record = &mut self.steps[place];
        let is_old =
            record.news_at.is_some_and(|at| at > news.at) || record.members.has_ended(member.feeder, member.index);
        if is_old || !record.is_under_way() || is_list && record.state == StepState::Running {
            return false;
        }
        record.begun();
        if is_list {
            return true;
        }
        record.news_at = Some(news.at);
        (record.retrying, record.snoozed) = match news.what {
            What::Began => (None, None),
            What::Retrying { error, again_at } => (Some((error, again_at)), None),
            What::Snoozed { again_at } => (None, Some(again_at)),
        };
        record.memo = news.memo.or(record.memo.take());
        true
    }

    /// The step that a member is of, if its round is the present one.
    fn step_of(&self, member: &MemberId) -> Option<usize> {
        let place = self.definition.step(&member.step)?;
        (self.steps[place].round == Some(member.round)).then_some(place)
    }
}

impl StepRecord {
    /// A task of it has begun.
    fn begun(&mut self) {
        if self.state == StepState::Waiting {
            self.state = StepState::Running;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{
        out::{Ids, Out},
        state::Job,
        tests::{Bench, chain, of},
    };
    use crate::{
        jobs::{
            definition::{ForEach, Tolerance},
            entry::{Entry, How, What},
            entry_list::EntryList,
            order::{Answer, Order, Wanted},
            record::{EntryId, JobState, StoredEntry},
        },
        json_text::JsonText,
        task::NewTask,
    };

    /// A job of two steps, the first of which has submitted so many items. Their tasks, and the end that told of them.
    fn fan(tolerance: Tolerance, items: u32) -> (Bench, Vec<NewTask>, Entry) {
        let mut pipeline = chain("p", &["a", "b"]);
        pipeline.steps[0].allow_failed = tolerance;
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        let splitter = bench.take("a");
        let (end, items) = bench.done_with(&splitter, items, "");
        (bench, items, end)
    }

    #[test]
    fn an_item_that_ends_before_its_splitter_waits() {
        let (mut bench, items, split) = fan(Tolerance::default(), 2);
        assert_eq!(items[0].queue, "items-a");
        for item in &items {
            let (end, _) = bench.done_with(item, 0, "");
            bench.fold(vec![end]);
        }
        assert_eq!(bench.states("j"), "running a:running b:planned");
        assert_eq!(bench.view("j").tasks.done, 0);
        bench.fold(vec![split]);
        assert_eq!(bench.states("j"), "running a:done b:waiting");
        assert_eq!(bench.view("j").steps[0].tasks.done, 3);
    }

    #[test]
    fn whatever_comes_twice_or_shuffled_each_member_is_counted_once() {
        let (mut bench, items, split) = fan(Tolerance::default(), 4);
        let (page, more) = bench.done_with(&items[3], 2, "");
        let mut entries = vec![split, page];
        for item in items[..3].iter().chain(&more) {
            entries.push(bench.done_with(item, 0, "").0);
        }
        entries.extend(entries.clone());
        let last = entries.len() - 2;
        for turn in 0..entries.len() {
            let entry = entries[(turn * 5 + 3) % entries.len()].clone();
            bench.fold(vec![entry]);
            assert!(bench.view("j").steps[0].tasks.done <= 7);
            if turn < last / 2 {
                assert_eq!(bench.view("j").state, JobState::Running);
            }
        }
        assert_eq!(bench.states("j"), "running a:done b:waiting");
        let tasks = bench.view("j").steps[0].tasks;
        assert_eq!((tasks.done, tasks.failed, tasks.known), (7, 0, 7));
        assert_eq!(bench.tasks.len(), 1, "step b begins once");
    }

    #[test]
    fn the_first_execution_that_is_done_counts_and_what_another_submitted_does_not() {
        let (mut bench, items, split) = fan(Tolerance::default(), 2);
        let splitter = of(&items[0]).clone();
        let again = NewTask {
            membership: Some(Box::new(crate::membership::Membership { feeder: splitter.round, index: 0, ..splitter })),
            ..NewTask::default()
        };
        let (second, others) = bench.done_with(&again, 5, "");
        let strays: Vec<_> = others.iter().map(|item| bench.done_with(item, 0, "").0).collect();
        bench.fold(strays[..2].to_vec());
        bench.fold(vec![split, second]);
        bench.fold(strays);
        assert_eq!(bench.view("j").steps[0].tasks.known, 3);
        for item in &items {
            assert_eq!(bench.view("j").steps[0].state.as_str(), "running");
            let (end, _) = bench.done_with(item, 0, "");
            bench.fold(vec![end]);
        }
        assert_eq!(bench.states("j"), "running a:done b:waiting");
    }

    #[test]
    fn so_many_tasks_may_fail_as_are_allowed() {
        for (percent, state) in [(5.0, "running a:done b:waiting"), (2.0, "failed a:failed b:skipped")] {
            let (mut bench, items, split) = fan(Tolerance::Percent(percent), 99);
            let mut entries = vec![split];
            for (place, item) in items.iter().enumerate() {
                entries.push(if place < 3 { bench.dead(item) } else { bench.done_with(item, 0, "").0 });
            }
            bench.fold(entries);
            assert_eq!(bench.states("j"), state);
            let step = &bench.view("j").steps[0];
            assert_eq!((step.tasks.done, step.tasks.failed, step.tasks.known), (97, 3, 100));
            assert_eq!(step.dead_letters.len(), 3);
        }
    }

    #[test]
    fn an_item_that_is_retried_by_hand_heals_its_job_and_its_siblings_stay() {
        let (mut bench, items, split) = fan(Tolerance::default(), 1000);
        let entries: Vec<_> = items[1..].iter().map(|item| bench.done_with(item, 0, "").0).collect();
        let dead = bench.dead(&items[0]);
        bench.fold(vec![split, dead.clone()]);
        bench.fold(entries);
        assert_eq!(bench.states("j"), "failed a:failed b:skipped");
        assert_eq!(bench.view("j").error.as_deref(), Some("step a failed: crash: killed by SIGSEGV"));
        // It fails again, which is nothing new; and then it is done.
        bench.fold(vec![dead]);
        let (end, _) = bench.done_with(&items[0], 0, "");
        bench.fold(vec![end]);
        assert_eq!(bench.states("j"), "running a:done b:waiting");
        assert!(bench.last.revived.is_empty() && bench.last.void.is_empty() && bench.last.tasks.len() == 1);
        let view = bench.view("j");
        assert!(view.error.is_none() && view.steps[0].dead_letters.is_empty() && view.steps[0].error.is_none());
        bench.pass(2_000);
        bench.done("b", "");
        assert_eq!(bench.states("j"), "done a:done b:done");
        assert_eq!((bench.said("Job j of p goes on"), bench.said("failed: crash")), (1, 2));
        let steps: Vec<_> = bench.steps_done.iter().map(|done| (done.step.as_str(), done.took.as_secs())).collect();
        assert_eq!(steps, [("a", 0), ("b", 2)], "each is told once");
        let ended: Vec<_> = bench.ended.iter().map(|job| (job.state, job.took.map(|took| took.as_secs()))).collect();
        assert_eq!(ended, [(JobState::Failed, Some(0)), (JobState::Done, Some(2))]);
    }

    fn retried(task: &NewTask, bench: &Bench) -> Entry {
        Entry::retried(of(task), bench.now)
    }

    #[test]
    fn a_job_is_at_work_while_a_task_that_failed_is_retried() {
        let mut pipeline = chain("p", &["a", "b"]);
        pipeline.on_failure = Some("notices".to_owned());
        pipeline.timeout = Some(Duration::from_mins(1));
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        let splitter = bench.take("a");
        let (end, items) = bench.done_with(&splitter, 3, "");
        let entries = vec![end, bench.dead(&items[0]), bench.dead(&items[1]), bench.done_with(&items[2], 0, "").0];
        bench.fold(entries);
        bench.take("notices");
        bench.pass(120_000);
        assert_eq!(bench.states("j"), "failed a:failed b:skipped");
        let again = retried(&items[0], &bench);
        bench.fold(vec![again]);
        assert_eq!(bench.states("j"), "running a:running b:planned");
        let step = &bench.view("j").steps[0];
        assert_eq!((step.tasks.done, step.tasks.failed, step.tasks.known, step.dead_letters.len()), (2, 1, 4, 1));
        assert_eq!(bench.ledger.next_deadline(), Some(bench.now.plus(Duration::from_mins(1))), "its time is counted");
        // Done, with the other one still failed: it is failed as it was, which is told to nobody.
        let (end, _) = bench.done_with(&items[0], 0, "");
        bench.fold(vec![end]);
        assert_eq!((bench.states("j").as_str(), bench.tasks.len()), ("failed a:failed b:skipped", 0));
        // Failed once more, which is new.
        let again = retried(&items[1], &bench);
        let dead = bench.dead(&items[1]);
        bench.fold(vec![again.clone()]);
        bench.fold(vec![dead]);
        assert_eq!(bench.states("j"), "failed a:failed b:skipped");
        bench.take("notices");
        let (end, _) = bench.done_with(&items[1], 0, "");
        bench.fold(vec![again, end]);
        assert_eq!(bench.states("j"), "running a:done b:waiting");
    }

    #[test]
    fn a_first_task_that_is_retried_says_so_until_it_begins() {
        let mut bench = Bench::new(vec![chain("p", &["a"])]);
        bench.start("p", "j", "{}");
        let task = bench.take("a");
        bench.failed(&task);
        let again = retried(&task, &bench);
        bench.fold(vec![again.clone()]);
        let step = &bench.view("j").steps[0];
        let retrying = step.retrying.as_ref().map(|retrying| (retrying.error.as_str(), retrying.again_at));
        assert_eq!((retrying, step.error.as_ref()), (Some(("killed by SIGSEGV", bench.now)), None));
        bench.news(&task, What::Began, None);
        assert!(bench.view("j").steps[0].retrying.is_none());
        // Of what has not failed, is void or unknown there is nothing to retry.
        let before = bench.stored.clone();
        bench.fold(vec![again.clone()]);
        assert_eq!(bench.stored, before);
        bench.order(Wanted::Cancel { job: "j".to_owned() });
        let before = bench.stored.clone();
        bench.fold(vec![again]);
        assert_eq!(bench.stored, before);
    }

    #[test]
    fn a_retry_that_came_after_another_job_had_the_key_is_judged_by_its_end() {
        let mut pipeline = chain("p", &["a"]);
        pipeline.key = Some("{payload}".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "1");
        let task = bench.take("a");
        bench.failed(&task);
        bench.start("p", "k", "1");
        let again = retried(&task, &bench);
        bench.fold(vec![again]);
        assert_eq!(
            (bench.states("j").as_str(), bench.said("is retried while its key is held by job k")),
            ("failed a:failed", 1)
        );
    }

    #[test]
    fn a_failure_is_told_to_its_queue_once() {
        let mut pipeline = chain("p", &["a", "b"]);
        pipeline.on_failure = Some("notices".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{\"secret\":1}");
        bench.done("a", "{\"result\":2}");
        let task = bench.take("b");
        bench.news(&task, What::Began, Some("{\"secret\":3}"));
        bench.failed(&task);
        let notice = bench.take("notices");
        assert!(notice.membership.is_none());
        let told: serde_json::Value = serde_json::from_slice(&notice.body).unwrap();
        assert_eq!(
            (&told["state"], &told["error"]),
            (&"failed".into(), &"step b failed: crash: killed by SIGSEGV".into())
        );
        assert!(told.get("payload").is_none() && told["steps"]["a"]["result"].is_null(), "{told}");
        assert!(told["steps"]["b"]["memo"].is_null() && bench.view("j").steps[1].memo.is_some(), "{told}");
        bench.failed(&task);
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        assert_eq!(bench.states("j"), "done a:done b:done");
        assert!(bench.tasks.is_empty(), "one notice a failure: {:?}", bench.tasks);
    }

    #[test]
    fn a_job_does_not_heal_while_another_has_its_key() {
        let mut pipeline = chain("p", &["a", "b"]);
        pipeline.key = Some("{payload.k}".to_owned());
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "last", "{\"k\":1}");
        bench.done("a", "");
        let last = bench.take("b");
        bench.failed(&last);
        bench.start("p", "first", "{\"k\":1}");
        let task = bench.take("a");
        bench.failed(&task);
        assert!(matches!(bench.start("p", "second", "{\"k\":1}"), Answer::Done { .. }));
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        assert_eq!(bench.states("first"), "failed a:done b:skipped");
        let error = "what failed is done now, but its key is held by job second";
        assert_eq!(bench.view("first").error.as_deref(), Some(error));
        let (end, _) = bench.done_with(&last, 0, "");
        bench.fold(vec![end]);
        assert_eq!(bench.states("last"), "done a:done b:done", "with nothing left to begin it needs no key");
        let task = bench.take("a");
        let (end, _) = bench.done_with(&task, 0, "");
        bench.fold(vec![end]);
        bench.done("b", "");
        let job = "first".to_owned();
        let (steps, only, redefine, even_if_wiped) = (Vec::new(), false, false, false);
        bench.order(Wanted::Restart { job, steps, only, failed: true, redefine, even_if_wiped });
        assert_eq!(bench.states("first"), "running a:done b:waiting");
    }

    #[test]
    fn what_is_told_of_another_round_or_job_changes_nothing() {
        let (mut bench, items, split) = fan(Tolerance::default(), 1);
        bench.fold(vec![split]);
        let before = bench.stored.clone();
        let mut other = items[0].clone();
        let membership = other.membership.as_mut().unwrap();
        membership.round = uuid::Uuid::from_u128(99);
        let (end, _) = bench.done_with(&other, 3, "");
        bench.fold(vec![end]);
        for (job, step) in [("j", "nosuch"), ("nosuch", "a")] {
            let mut other = items[0].clone();
            let membership = other.membership.as_mut().unwrap();
            (membership.job, membership.step) = (job.to_owned(), step.to_owned());
            bench.failed(&other);
        }
        let mut other = items[0].clone();
        other.membership.as_mut().unwrap().index = 1;
        bench.failed(&other);
        assert_eq!(bench.stored, before);
        assert_eq!(bench.last.entries.len(), 1, "they are folded all the same");
    }

    #[test]
    fn news_tell_for_which_task_a_job_waits() {
        let mut bench = Bench::new(vec![chain("p", &["a"])]);
        bench.start("p", "j", "{}");
        let task = bench.take("a");
        let again_at = bench.now.plus(Duration::from_secs(5));
        bench.news(&task, What::Snoozed { again_at }, Some("\"seen 3\""));
        let step = &bench.view("j").steps[0];
        assert_eq!(step.snoozed.as_ref().unwrap().again_at, again_at);
        assert_eq!(step.memo.as_ref().unwrap().as_str(), "\"seen 3\"");
        bench.news(&task, What::Began, None);
        assert!(bench.view("j").steps[0].snoozed.is_none() && bench.view("j").steps[0].memo.is_some());
        // News from before, that were on their way.
        let now = bench.now;
        bench.now.0 -= 1;
        bench.news(&task, What::Snoozed { again_at }, None);
        bench.now = now;
        assert!(bench.view("j").steps[0].snoozed.is_none());
        let end =
            bench.end(&task, How::Done { execution: uuid::Uuid::from_u128(4), items: 0, result: None }, Some("4"));
        bench.fold(vec![end]);
        bench.news(&task, What::Snoozed { again_at }, None);
        let step = &bench.view("j").steps[0];
        assert!(step.snoozed.is_none() && step.memo.as_ref().unwrap().as_str() == "4");
    }

    #[test]
    fn of_the_elements_of_a_list_nothing_becomes_the_steps() {
        let mut pipeline = chain("p", &["a", "b"]);
        let list = ["1", "2"].map(|text| JsonText::parse(text).unwrap());
        pipeline.steps[0].for_each = Some(ForEach::List(list.to_vec()));
        let mut bench = Bench::new(vec![pipeline]);
        bench.start("p", "j", "{}");
        let tasks = [bench.take("items-a"), bench.take("items-a")];
        let again_at = bench.now;
        bench.news(&tasks[0], What::Retrying { error: "no".to_owned(), again_at }, Some("1"));
        let step = &bench.view("j").steps[0];
        assert!(step.state.as_str() == "running" && step.retrying.is_none() && step.memo.is_none(), "{step:?}");
        let stored = bench.stored.clone();
        bench.news(&tasks[1], What::Snoozed { again_at }, Some("2"));
        assert_eq!(bench.stored, stored, "nothing is written for it");
        for task in &tasks {
            let how = How::Done { execution: uuid::Uuid::from_u128(4), items: 0, result: None };
            let end = bench.end(task, how, Some("\"of one of them\""));
            bench.fold(vec![end]);
        }
        assert_eq!(
            of(&bench.take("b")).inputs.as_ref().unwrap().as_str(),
            r#"{"a":{"state":"done","result":null,"memo":null}}"#
        );
    }

    #[test]
    fn a_task_that_was_removed_or_expired_ends_its_step() {
        for reason in ["expired", "malformed", "deliveries", "cancelled", "error"] {
            let mut bench = Bench::new(vec![chain("p", &["a", "b"])]);
            bench.start("p", "j", "{}");
            let task = bench.take("a");
            let entry = Entry::failed(of(&task), bench.now, reason, "why", None, None);
            bench.fold(vec![entry]);
            assert_eq!(bench.states("j"), "failed a:failed b:skipped");
            assert_eq!(bench.view("j").steps[0].reason.as_deref(), Some(reason));
        }
    }

    #[test]
    fn a_step_with_too_many_tasks_fails_with_a_sentence() {
        let (mut bench, items, split) = fan(Tolerance::All, 1);
        bench.fold(vec![split]);
        let (end, _) = bench.done_with(&items[0], 1_000_000, "");
        bench.fold(vec![end]);
        assert_eq!(bench.states("j"), "failed a:failed b:skipped");
        assert_eq!(bench.view("j").error.as_deref(), Some("step a failed: it has more than 1000000 tasks"));
        assert_eq!(bench.last.void, [of(&items[0]).round], "the rest of them is dropped");
    }

    #[test]
    fn an_entry_that_cannot_be_read_is_passed_over() {
        let mut bench = Bench::new(vec![chain("p", &["a"])]);
        let entry = StoredEntry { id: EntryId(7), body: b"{oops".to_vec() };
        let step = bench.ledger.fold(bench.now, vec![entry.clone()]);
        assert_eq!(step.advance.entries, [entry.id]);
        assert!(step.lines[0].1.contains("cannot be read"), "{:?}", step.lines);
    }

    #[test]
    fn entries_of_a_list_are_folded_one_by_one_and_gone_together() {
        let (mut bench, items, split) = fan(Tolerance::default(), 2);
        let mut list = EntryList::default();
        let ends: Vec<Vec<u8>> = items.iter().map(|item| bench.done_with(item, 0, "").0.to_bytes()).collect();
        let order = Order::start(bench.now, "p", "k".to_owned(), JsonText::parse("{}").unwrap(), false);
        let forged = [b" ", &Entry::Order(Box::new(order)).to_bytes()[..]].concat();
        for body in [&ends[0], &b"{oops"[..], &split.to_bytes(), b"", &forged, &ends[1]] {
            list.add(body);
        }
        let entry = StoredEntry { id: EntryId(7), body: list.body().to_vec() };
        let step = bench.ledger.fold(bench.now, vec![entry.clone()]);
        assert_eq!(step.advance.entries, [entry.id]);
        assert_eq!(step.advance.tasks.len(), 1, "step a is done, and b begins");
        let passed_over = step.lines.iter().filter(|(_, line)| line.contains("passes over")).count();
        assert_eq!(passed_over, 2, "once for what cannot be read, and for the order: {:?}", step.lines);
        let step = bench.ledger.fold(bench.now, vec![entry]);
        assert!(step.advance.records.is_empty(), "it counts once");
    }

    #[test]
    fn a_hundred_thousand_items_take_little_room() {
        let mut bench = Bench::new(Vec::new());
        let mut out = Out::new(bench.now, "app".into(), Ids::default());
        let mut job = Job::new("j".to_owned(), chain("p", &["a"]), JsonText::parse("{}").unwrap(), 1, bench.now);
        job.begin(&mut out);
        let mut splitter = out.step.advance.tasks.remove(0);
        let mut end = |job: &mut Job, (entry, items): (Entry, Vec<NewTask>)| {
            let Entry::End(end) = entry else { unreachable!() };
            assert!(job.ended(*end, None, &mut out));
            items
        };
        let (mut pages, mut longest) = (Vec::new(), 0);
        for page in 0..100 {
            let ended = bench.done_with(&splitter, if page < 99 { 1001 } else { 1000 }, "");
            let mut items = end(&mut job, ended);
            if page < 99 {
                splitter = items.pop().expect("the next page");
            }
            pages.push(items);
        }
        // The worst order: from each page one after the other, and every other number first.
        for half in [0, 1] {
            for number in (half..1000).step_by(2) {
                for page in &pages {
                    let ended = bench.done_with(&page[number], 0, "");
                    end(&mut job, ended);
                }
                if number % 50 <= 1 {
                    longest = longest.max(job.record().content.len());
                }
            }
        }
        assert_eq!((job.state, job.steps[0].members.done), (JobState::Done, 100_100));
        assert!(longest <= 64 * 1024, "{longest} bytes");
        assert!(longest > 16 * 1024, "the pages are open at the same time: {longest} bytes");
        let content = job.record().content;
        assert!(content.len() < 4096, "{content}");
        assert_eq!(Job::read(&job.record()), Ok(job));
    }
}
