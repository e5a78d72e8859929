//! Tasks that come before they can be begun, and a recall behind them.

use std::time::Duration;

use super::{Checker, Failed, Passed, wrong};
use crate::{
    cli::check_worker::worker_under_test::Received,
    frames::{self, FromWorker},
};

/// A master that has no answer to a recall after so long sends nothing ahead any more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

impl Checker<'_> {
    /// How many are done and how many are returned is a matter of chance, unless tasks are long; that it is one of both is not.
    pub(super) fn tasks_ahead(&mut self) -> Passed {
        if self.ahead == 0 {
            return Ok("none are sent, as it takes none".to_owned());
        }
        let ids = &["check-9", "check-10", "check-11"][..=self.ahead.min(2) as usize];
        let tasks = ids.iter().flat_map(|id| self.frame_of(id, self.payload.unwrap_or("{}")));
        let together: Vec<u8> = tasks.chain(frames::recall()).collect();
        self.send(&together);
        let (done, returned) = self.ends_of(ids.len())?;
        // Those that were not begun are the last ones, and both are in the order in which they came.
        let (begun, not_begun) = ids.split_at(ids.len() - returned.len().min(ids.len()));
        if done != begun || returned != not_begun {
            let [sent, done, returned] = [ids.join(", "), listed(&done), listed(&returned)];
            return wrong(format!(
                "of {sent} it did {done} and returned {returned}: the first are to be done and the rest returned, in their order"
            ));
        }
        // One that is returned and done all the same is done before that.
        self.send(&frames::ping(4));
        self.pong(4)?;
        Ok(format!("{} done, {} returned", done.len(), returned.len()))
    }

    /// The ids of tasks that are done and of those that are returned, when it is so many and the recall is answered.
    fn ends_of(&mut self, count: usize) -> Result<(Vec<String>, Vec<String>), Failed> {
        let answer_until = self.clock.now().at + ANSWER_TIMEOUT;
        let (mut done, mut returned) = (Vec::new(), None::<Vec<String>>);
        loop {
            if let Some(returned) = returned.take_if(|returned| done.len() + returned.len() >= count) {
                return Ok((done, returned));
            }
            let received = self.receive()?;
            if returned.is_none() && self.clock.now().at > answer_until {
                return wrong(format!("a recall was not answered within {} s", ANSWER_TIMEOUT.as_secs()));
            }
            match received {
                Received::Frame(FromWorker::Outcome { id, .. }) => done.push(id),
                Received::Frame(FromWorker::Accept { .. } | FromWorker::Progress { .. }) => {}
                Received::Frame(FromWorker::Returned { ids }) if returned.is_none() => returned = Some(ids),
                other => {
                    let text = self.describe(&other);
                    return wrong(format!("expected an outcome for each task or its return, but {text}"));
                }
            }
        }
    }
}

fn listed(ids: &[String]) -> String {
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}
