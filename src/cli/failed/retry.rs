//! `asynctask failed retry`: back to work.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    left,
    payload::{Edit, edited},
    selection::{Selection, broke_off, progress, tell},
};
use crate::{
    cli::{
        failed_args::FailedRetry,
        settings::dead_queue,
        waiting::{WaitingClient, longest_wait},
    },
    clock::Clock,
    config::Config,
    exit_code::{Code, Error},
    membership::Membership,
    transport::{DeadLetter, DeadQueue, Visit, Walked},
};

/// A slow retry lets at least this much time pass between two groups.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);
/// … and at most this much, after which it looks again.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

pub(super) fn run(config: &Config, verb: &FailedRetry) -> Result<Code, Error> {
    let edits = verb.set_payload.iter().map(|text| Edit::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let rate = verb.rate.as_deref().map(RateLimit::parse).transpose()?;
    let selection = Selection::of(&verb.chosen)?;
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
            rate.gone += 1;
        }
        if self.dry { Visit::Keep } else { Visit::Retry { body } }
    }
}

/// So many in so much time.
#[derive(Clone, Debug)]
struct RateLimit {
    per_second: f64,
    clock: Clock,
    gone: u64,
}

impl RateLimit {
    fn parse(text: &str) -> Result<Self, Error> {
        let (number, seconds) = match text.split_once('/') {
            None | Some((_, "s")) => (text.trim_end_matches("/s"), 1.0),
            Some((number, "m")) => (number, 60.0),
            Some((number, "h")) => (number, 3_600.0),
            Some(_) => ("", 1.0),
        };
        match number.trim().parse::<f64>() {
            Ok(number) if number.is_finite() && number > 0.0 => {
                Ok(Self { per_second: number / seconds, clock: Clock::start(), gone: 0 })
            }
            _ => Err(Error::new(Code::Usage, format!("--rate: \"{text}\" is not a rate")).hint("as in 50/s, 10/m")),
        }
    }

    /// Time until the next may go; `None`: now. The first goes at once.
    fn wait(&self) -> Option<Duration> {
        let due = self.gone as f64 / self.per_second;
        let wait = due - self.clock.now().at.since_start().as_secs_f64();
        let longest = LONGEST_WAIT;
        (wait > 0.0).then(|| Duration::try_from_secs_f64(wait).unwrap_or(longest).clamp(SHORTEST_WAIT, longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_minute_or_hour() {
        for (text, per_second) in [("50/s", 50.0), ("50", 50.0), ("30/m", 0.5), ("1.5/s", 1.5), ("36/h", 0.01)] {
            assert!((RateLimit::parse(text).unwrap().per_second - per_second).abs() < 1e-9, "{text}");
        }
        for text in ["", "/s", "0/s", "-1/s", "5/d", "inf", "NaN/s", "5/s/s"] {
            assert_eq!(RateLimit::parse(text).unwrap_err().code, Code::Usage, "{text}");
        }
    }

    #[test]
    fn the_first_goes_at_once_and_the_next_in_its_time() {
        let mut rate = RateLimit::parse("1/h").unwrap();
        assert_eq!(rate.wait(), None);
        rate.gone = 1;
        assert_eq!(rate.wait(), Some(LONGEST_WAIT));
    }
}
