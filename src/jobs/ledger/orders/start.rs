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
    task::is_queue_name,
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
        if !is_queue_name(new.id) {
            let error = format!("{:?} can be no job's id: 1 to 200 letters, digits and _ - . : are one", new.id);
            return refused(error, None);
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
            if new.is_scheduled {
                let text = format!("no job of {place} begins by schedule: job {holder} has not ended");
                return nothing_begins(&text, out);
            }
            if let Some(refusal) = self.refusal(&job, &holder, conflict) {
                return refusal;
            }
            job.waits_for_key = true;
        }
        self.next_number += 1;
        job.note(&order.id, out.now);
        out.changed.insert(job.id.clone());
        self.jobs.insert(job.id.clone(), job);
        self.admit(out);
        self.began(new.id, is_frozen)
    }

    /// Why a job whose key is held is not made, if it is not.
    fn refusal(&self, job: &Job, holder: &str, conflict: Conflict) -> Option<Answer> {
        let hint = |id: &str| Some(format!("asynctask jobs show {id}"));
        if conflict == Conflict::Refuse {
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
