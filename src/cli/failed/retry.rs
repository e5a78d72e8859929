//! `asynctask failed retry`: back to work.

use std::sync::{Arc, Mutex, PoisonError};

use super::{
    left,
    selection::{broke_off, progress, selection, tell},
};
use crate::{
    cli::{
        failed_args::FailedRetry,
        settings::dead_queue,
        waiting::{WaitingClient, longest_wait},
    },
    config::Config,
    dead_letters::{
        condition::Selection,
        edit::{Edit, edited},
        rate::RateLimit,
    },
    exit_code::{Code, Error},
    membership::Membership,
    transport::{DeadLetter, DeadQueue, Visit, Walked},
};

pub(super) fn run(config: &Config, verb: &FailedRetry) -> Result<Code, Error> {
    let edits = verb.set_payload.iter().map(|text| edit(text)).collect::<Result<Vec<_>, _>>()?;
    let rate = verb.rate.as_deref().map(rate).transpose()?;
    let selection = selection(&verb.chosen)?;
    let queue = dead_queue(config, &verb.chosen.queue);
    let mut client = WaitingClient::open(config, longest_wait(verb.chosen.wait.as_deref())?)?;
    client.listen()?;
    let dry = |edits: &[Edit]| Retry {
        selection: selection.clone(),
        edits: edits.to_vec(),
        rate: None,
        dry: true,
        wrong: None,
        of_jobs: Vec::new(),
    };
    if verb.chosen.dry_run {
        let (retry, walked) = dry(&edits).go(&mut client, &queue)?;
        return tell(&verb.chosen, "retried", &retry.selection, walked);
    }
    if !edits.is_empty() {
        // One payload that cannot be changed, and nothing is moved: found out first.
        dry(&edits).go(&mut client, &queue)?;
    }
    let retry = Retry { selection, edits, rate, dry: false, wrong: None, of_jobs: Vec::new() };
    let (retry, walked) = retry.go(&mut client, &queue)?;
    let told = tell(&verb.chosen, "retried", &retry.selection, walked);
    if walked.left > 0 { Err(left::error(&mut client, config, walked.left, &retry.of_jobs)) } else { told }
}

/// A walk that puts back what was chosen.
struct Retry {
    selection: Selection,
    edits: Vec<Edit>,
    rate: Option<RateLimit>,
    /// Everything stays.
    dry: bool,
    /// A payload could not be changed.
    wrong: Option<String>,
    /// The places in jobs of what was chosen, as far as they are kept.
    of_jobs: Vec<Membership>,
}

/// Places that are kept.
const PLACES: usize = 1000;

impl Retry {
    fn go(self, client: &mut WaitingClient, queue: &DeadQueue) -> Result<(Self, Walked), Error> {
        let bar = progress(client.depth(queue)?.failed);
        client.bar = bar.clone();
        let (shared, seen) = (Arc::new(Mutex::new(self)), bar.clone());
        let visiting = Arc::clone(&shared);
        let visit = move |letter: &DeadLetter| {
            let verdict = visiting.lock().unwrap_or_else(PoisonError::into_inner).visit(letter);
            if !matches!(verdict, Visit::Wait(_) | Visit::Stop) {
                seen.inc(1);
            }
            verdict
        };
        let walked = client.walk(queue, Box::new(visit));
        bar.finish_and_clear();
        let walked = walked.map_err(|broken| broke_off(&broken, "put back to work"))?;
        // The transport has answered and dropped the visitor; if it has not yet, a copy does as well.
        let retry = std::mem::replace(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner), Self::nothing());
        match retry.wrong {
            None => Ok((retry, walked)),
            Some(wrong) => Err(Error::new(Code::Refused, wrong).hint(match walked.retried {
                0 => "nothing was moved".to_owned(),
                1 => "1 before it was put back".to_owned(),
                moved => format!("{moved} before it were put back"),
            })),
        }
    }

    fn nothing() -> Self {
        let selection = Selection::default();
        Self { selection, edits: Vec::new(), rate: None, dry: true, wrong: None, of_jobs: Vec::new() }
    }

    fn visit(&mut self, letter: &DeadLetter) -> Visit {
        if self.selection.is_complete() || self.wrong.is_some() {
            return Visit::Stop;
        }
        if !self.selection.matches(letter) {
            return Visit::Keep;
        }
        if let Some(wait) = self.rate.as_ref().and_then(RateLimit::wait) {
            return Visit::Wait(wait);
        }
        let body = match edited(letter.into(), &self.edits) {
            Ok(body) => body,
            Err(cause) => {
                self.wrong = Some(format!("the payload of dead letter \"{}\" cannot be changed: {cause}", letter.id));
                return Visit::Stop;
            }
        };
        self.selection.record(letter);
        if let Some(membership) = letter.membership.as_deref().filter(|_| self.of_jobs.len() < PLACES) {
            self.of_jobs.push(Membership { inputs: None, ..membership.clone() });
        }
        if let Some(rate) = &mut self.rate {
            rate.count();
        }
        if self.dry { Visit::Keep } else { Visit::Retry { body } }
    }
}

fn edit(text: &str) -> Result<Edit, Error> {
    Edit::parse(text).map_err(|wrong| {
        Error::new(Code::Usage, format!("--set-payload: \"{text}\" {wrong}"))
            .hint("as in size.width=100, pages.0=\"a\"")
    })
}

fn rate(text: &str) -> Result<RateLimit, Error> {
    RateLimit::parse(text)
        .ok_or_else(|| Error::new(Code::Usage, format!("--rate: \"{text}\" is not a rate")).hint("as in 50/s, 10/m"))
}
