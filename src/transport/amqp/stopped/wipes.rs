//! A task that wipes waits until no task of its job is in a hand: what was cancelled may write until its worker has ended.
//!
//! Whoever is sent it asks all masters, and puts it off for a moment if one has such a task; it is asked anew when it comes again. Nobody
//! else waits for that. A master that is stopped or cut off is not heard: its tasks come again elsewhere, where their round is void.

use crate::{
    membership::Membership,
    transport::amqp::{
        broker_error::Fault,
        consume::consumer::Unjudged,
        ledger::hands,
        session::{note::SessionNote, up::Up},
        stopped::known::Hands,
    },
};

impl Up {
    /// Asks whether anybody has a task of the job in hand that this one wipes. It is held meanwhile.
    pub(crate) fn ask_hands(&mut self, queue: usize, wipe: Unjudged, place: &Membership) {
        let consumed = &mut self.queues[queue];
        let (tag, number) = (wipe.tag, consumed.number);
        consumed.wipes.push(wipe);
        let (outbox, application, job) = (self.outbox.clone(), place.application.clone(), place.job.clone());
        self.tasks.spawn_local(async move {
            let hands = match hands::of_job(&outbox, &application, &job).await {
                Ok(false) => Hands::Free,
                // Who cannot ask now does so when it comes again.
                Ok(true) | Err(Fault::Broken(_) | Fault::TimedOut(_)) => Hands::Busy,
                Err(fault) => {
                    // Else it would never be wiped.
                    let cause = fault.cause();
                    outbox.warn(format!("job {job} is wiped without asking whether it is at work: {cause}"));
                    Hands::Free
                }
            };
            let _ = outbox.notes.send(SessionNote::HandsSeen { queue, number, tag, hands }.of(outbox.session.number));
        });
    }

    /// The answer. What was given back meanwhile is judged by whoever gets it.
    pub(crate) fn hands_seen(&mut self, queue: usize, tag: u64, hands: Hands) {
        let wipes = &mut self.queues[queue].wipes;
        if let Some(place) = wipes.iter().position(|wipe| wipe.tag == tag) {
            let wipe = wipes.swap_remove(place);
            self.judge(queue, vec![Unjudged { hands, ..wipe }]);
        }
    }
}
