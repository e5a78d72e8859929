//! A job is made.

use super::answers::{done, refused, refused_of};
use crate::{
    jobs::{
        definition::{Conflict, Pipeline},
        ledger::{fold::Ledger, out::Out, state::Job, view::place},
        order::{Answer, Order},
        record::JobState,
    },
    json_text::JsonText,
    limits,
    membership::{JOB_ID, is_job_id},
    text,
    unique::Template,
};

/// What is asked for.
pub(super) struct NewJob<'a> {
    pub(super) pipeline: &'a str,
    pub(super) id: &'a str,
    pub(super) payload: &'a JsonText,
    pub(super) priority: i32,
    /// A key that is live or frozen is no error.
    pub(super) is_scheduled: bool,
}

impl Ledger {
    /// Makes a job, and begins it if that can be.
    pub(super) fn start(&mut self, new: &NewJob<'_>, order: &Order, out: &mut Out) -> Answer {
        let Some(pipeline) = self.pipelines.iter().find(|pipeline| pipeline.name == new.pipeline).cloned() else {
            return self.no_pipeline(new.pipeline);
        };
        if !is_job_id(new.id) {
            let id = text::shorten(new.id.to_owned(), limits::FAULT);
            return refused(format!("{id:?} cannot be the id of a job: that is {JOB_ID}"), None);
        }
        let bytes = new.payload.as_str().len();
        if bytes > limits::JOB_PAYLOAD {
            let error = format!("its payload has {bytes} bytes, more than {}", limits::JOB_PAYLOAD);
            return refused(error, Some("put it into a file, and give its name".to_owned()));
        }
        let key = match key_of(&pipeline, new.payload) {
            Ok(key) => key,
            Err(error) => return refused(error, None),
        };
        let place = place(&pipeline.name, key.as_deref());
        let is_frozen = self.is_frozen(&pipeline.name, key.as_deref());
        if new.is_scheduled && is_frozen {
            return nothing_begins(&format!("no job of {place} begins by schedule: it is frozen"), out);
        }
        let conflict = pipeline.conflict;
        let mut job = Job::new(new.id.to_owned(), pipeline, new.payload.clone(), self.next_number, out.now);
        job.key = key;
        job.priority = new.priority;
        if let Some(holder) = self.holder_beside(&job) {
            let refusal = self.refusal(&job, &holder, conflict);
            if new.is_scheduled && (refusal.is_some() || !self.is_being_wiped(&holder)) {
                let text = format!("no job of {place} begins by schedule: job {holder} has not ended");
                return nothing_begins(&text, out);
            }
            if let Some(refusal) = refusal {
                return refusal;
            }
            job.waits_for_key = true;
        }
        if self.jobs.len() >= limits::OPEN_JOBS {
            let open = self.jobs.len();
            if new.is_scheduled {
                return nothing_begins(
                    &format!("no job of {place} begins by schedule: there are {open} open jobs"),
                    out,
                );
            }
            let hint = "start it when some of them have ended; asynctask jobs list";
            return refused(format!("there are {open} open jobs, as many as there may be"), Some(hint.to_owned()));
        }
        self.next_number += 1;
        job.note(&order.id, out.now);
        out.changed.insert(job.id.clone());
        self.jobs.insert(job.id.clone(), job);
        self.admit_new(new.id, out);
        self.began(new.id, is_frozen)
    }

    /// Whether a job has ended, and has its key only until what it left is wiped.
    fn is_being_wiped(&self, job: &str) -> bool {
        self.jobs.get(job).is_some_and(|job| !job.state.is_live())
    }

    /// Why a job whose key is held is not made, if it is not. A wipe is waited for whatever the pipeline says: it is no conflict.
    fn refusal(&self, job: &Job, holder: &str, conflict: Conflict) -> Option<Answer> {
        let hint = |id: &str| Some(format!("asynctask jobs show {id}"));
        if conflict == Conflict::Refuse && !self.is_being_wiped(holder) {
            return Some(match self.jobs.get(holder) {
                Some(live) => refused_of(live, &format!("is {}", live.state.as_str()), hint(holder)),
                None => refused(format!("job {holder} of {} has not ended", job.place()), hint(holder)),
            });
        }
        let waits = |other: &&Job| other.waits_for_key && other.place() == job.place();
        let other = self.jobs.values().find(waits)?;
        Some(refused_of(other, &format!("waits already for the end of job {holder}"), hint(&other.id)))
    }

    /// What became of a new job.
    fn began(&self, id: &str, is_frozen: bool) -> Answer {
        let Some(job) = self.jobs.get(id) else { return refused(format!("job {id} is not there"), None) };
        if job.state != JobState::Planned {
            return done(job, "begins");
        }
        if is_frozen {
            return done(job, "is planned: it is frozen");
        }
        match self.holder_beside(job).filter(|_| job.waits_for_key) {
            Some(holder) if self.is_being_wiped(&holder) => {
                done(job, &format!("is planned: it begins when job {holder} is wiped"))
            }
            Some(holder) => done(job, &format!("is planned: it begins after job {holder}")),
            None => done(job, "is planned: as many jobs of its pipeline run as may"),
        }
    }
}

fn nothing_begins(text: &str, out: &mut Out) -> Answer {
    out.info(format!("{}{}", text[..1].to_uppercase(), &text[1..]));
    Answer::Done { text: text.to_owned(), job: None }
}

/// The key of a job with this payload.
fn key_of(pipeline: &Pipeline, payload: &JsonText) -> Result<Option<String>, String> {
    let Some(written) = &pipeline.key else { return Ok(None) };
    let template = Template::parse(written).map_err(|error| format!("key of pipeline {}: {error}", pipeline.name))?;
    let key = template.render(&pipeline.name, payload.as_str());
    key.map(Some)
        .ok_or_else(|| format!("the payload lacks what the key of pipeline {} is made of: {written}", pipeline.name))
}

#[cfg(test)]
mod tests {
    use crate::jobs::{
        definition::Pipeline,
        ledger::tests::{Bench, chain, start, text},
        order::{Order, Scope, Wanted},
        record::Record,
    };

    fn keyed() -> Pipeline {
        Pipeline { key: Some("{payload.k}".to_owned()), ..chain("p", &["a"]) }
    }

    fn by_schedule(bench: &mut Bench, id: &str) -> String {
        let Wanted::Start { pipeline, id, payload, priority, .. } = start("p", id, "{\"k\":\"x\"}") else {
            unreachable!()
        };
        text(&bench.order(Wanted::Start { pipeline, id, payload, priority, scheduled: true }))
    }

    #[test]
    fn of_two_starts_with_one_key_one_is_refused() {
        let mut bench = Bench::new(vec![keyed()]);
        assert_eq!(text(&bench.start("p", "1", "{\"k\":\"x\"}")), "job 1 of p/x begins");
        let refused = text(&bench.start("p", "2", "{\"k\":\"x\"}"));
        assert_eq!(refused, "refused: job 1 of p/x is running; asynctask jobs show 1");
        assert_eq!(bench.said("Job 2 of p is not made: job 1 of p/x is running"), 1);
        assert_eq!(text(&bench.start("p", "3", "{\"k\":\"y\"}")), "job 3 of p/y begins");
        bench.done("a", "");
        assert_eq!(text(&bench.start("p", "2", "{\"k\":\"x\"}")), "job 2 of p/x begins");
        // A failed one holds nothing.
        let task = bench.take("a");
        bench.failed(&task);
        bench.take_over();
        assert_eq!(text(&bench.start("p", "4", "{\"k\":\"y\"}")), "job 4 of p/y begins");
    }

    #[test]
    fn a_schedule_begins_nothing_while_the_key_is_live_or_frozen() {
        let mut bench = Bench::new(vec![keyed()]);
        assert_eq!(by_schedule(&mut bench, "1"), "job 1 of p/x begins");
        assert_eq!(by_schedule(&mut bench, "2"), "no job of p/x begins by schedule: job 1 has not ended");
        assert_eq!(bench.said("No job of p/x begins by schedule: job 1 has not ended"), 1);
        bench.done("a", "");
        let key = Some("x".to_owned());
        bench.order(Wanted::Freeze(Scope::Pipeline { name: "p".to_owned(), key: key.clone() }));
        bench.take_over();
        assert_eq!(by_schedule(&mut bench, "3"), "no job of p/x begins by schedule: it is frozen");
        assert_eq!(text(&bench.start("p", "4", "{\"k\":\"x\"}")), "job 4 of p/x is planned: it is frozen");
        assert_eq!(text(&bench.start("p", "5", "{\"k\":\"y\"}")), "job 5 of p/y begins");
        assert_eq!(bench.stored.len(), 3);
        bench.order(Wanted::Resume(Scope::Pipeline { name: "p".to_owned(), key }));
        assert_eq!(bench.states("4"), "running a:waiting");
        assert!(bench.frozen.is_empty());
    }

    #[test]
    fn a_job_is_made_once() {
        let mut bench = Bench::new(vec![chain("p", &["a"]), chain("q", &["a"])]);
        bench.start("p", "x", "{}");
        let refused = "refused: job x of p is there already, and is none of q; give another --id, or none";
        assert_eq!(text(&bench.start("q", "x", "{}")), refused);
        assert_eq!(text(&bench.start("p", "x", "{}")), "job x of p is there already");
        bench.done("a", "");
        assert!(!bench.stored["x"].open);
        bench.take_over();
        assert_eq!(text(&bench.start("p", "x", "{}")), "job x of p is there already", "of one that has ended, too");
        assert_eq!(text(&bench.start("p", "xy", "{}")), "job xy of p begins", "a beginning is another id");
        let order =
            Order::start(bench.now, "p", "z".to_owned(), crate::json_text::JsonText::parse("1").unwrap(), false);
        assert_eq!(text(&bench.order_again(order.clone())), "job z of p begins");
        assert_eq!(text(&bench.order_again(order)), "job z of p is there already");
        assert_eq!(bench.said("Job z of p begins"), 1);
    }

    #[test]
    fn what_cannot_begin_is_refused_with_a_sentence() {
        let mut bench = Bench::new(vec![keyed(), chain("nightly", &["a"])]);
        for (pipeline, id, payload, expected) in [
            ("nightyl", "1", "{}", "refused: there is no pipeline nightyl; did you mean nightly?"),
            ("other", "1", "{}", "refused: there is no pipeline other; the pipelines are: p, nightly"),
            ("p", "1", "{}", "refused: the payload lacks what the key of pipeline p is made of: {payload.k}; "),
            (
                "p",
                "a/b",
                "{}",
                "refused: \"a/b\" cannot be the id of a job: that is 1 to 200 letters, digits and _ - . : with a letter or digit first; ",
            ),
        ] {
            assert_eq!(text(&bench.start(pipeline, id, payload)), expected);
        }
        let long = format!("{{\"k\":\"{}\"}}", "x".repeat(crate::limits::JOB_PAYLOAD));
        let refused = text(&bench.start("p", "1", &long));
        assert!(refused.starts_with("refused: its payload has 8388616 bytes, more than 8388608; put it"), "{refused}");
        assert!(bench.stored.is_empty() && bench.tasks.is_empty());
    }

    #[test]
    fn there_are_only_so_many_open_jobs() {
        let mut bench = Bench::new(vec![keyed()]);
        bench.start("p", "1", "{\"k\":\"x\"}");
        let whole = bench.stored["1"].clone();
        for number in 2..=crate::limits::OPEN_JOBS {
            let id = format!("other-{number}");
            let content =
                whole.content.replace("\"id\":\"1\"", &format!("\"id\":\"{id}\"")).replace("\"key\":\"x\",", "");
            bench.stored.insert(id.clone(), Record { id, key: None, holds_key: false, content, ..whole.clone() });
        }
        bench.take_over();
        assert_eq!(
            text(&bench.start("p", "2", "{\"k\":\"y\"}")),
            "refused: there are 50000 open jobs, as many as there may be; start it when some of them have ended; asynctask jobs list"
        );
    }

    #[test]
    fn a_job_that_cannot_be_read_is_left_as_it_is_and_keeps_its_key() {
        let mut bench = Bench::new(vec![keyed()]);
        bench.start("p", "1", "{\"k\":\"x\"}");
        let whole = bench.stored["1"].clone();
        bench.stored.insert("1".to_owned(), Record { content: "{}".to_owned(), ..whole });
        bench.take_over();
        let refused = text(&bench.start("p", "2", "{\"k\":\"x\"}"));
        assert_eq!(refused, "refused: job 1 of p/x has not ended; asynctask jobs show 1");
        assert_eq!(bench.said("Job 1 is left as it is: the state of job 1 cannot be read"), 1);
        for answer in [bench.start("p", "1", "{\"k\":\"y\"}"), bench.order(Wanted::Cancel { job: "1".to_owned() })] {
            assert!(text(&answer).starts_with("refused: the state of job 1 cannot be read"), "{answer:?}");
        }
    }
}
