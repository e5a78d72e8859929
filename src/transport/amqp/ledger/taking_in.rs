//! What came over the channel of a ledger that is held is taken in, in one step for all that is there.

use std::time::Duration;

use lapin::{message::Delivery as Message, types::ShortString};

use super::{
    held_entries::{self, Asker, Came},
    held_ledger::{Arrival, HeldLedger},
    names::Question,
    questions::ANSWER,
    stored::{self, Stored},
};
use crate::{
    jobs::record::StoredEntry,
    transport::amqp::{message::headers, publish::replies::Answer},
};

/// Messages are held this long at least before they are given back …
const SHORTEST: Duration = Duration::from_secs(2);
/// … and with this much for each more, so that very many cost no more a second …
const EACH: Duration = Duration::from_millis(5);
/// … up to this: a `consumer_timeout` under a minute makes no sense on any broker that has so many.
const LONGEST: Duration = Duration::from_secs(15);
/// A message that came so often is written anew: each time counts for the limit of its queue, a million.
const WORN: i64 = 100_000;

impl HeldLedger {
    pub(super) fn take_in(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Question(message) => self.answer_question(&message),
            Arrival::Job(message) => self.take_job(&message),
            Arrival::Entry(message) => self.take_entry(message),
            Arrival::Refresh | Arrival::Retry | Arrival::Retried(_) => {}
        }
    }

    pub(super) fn holds(&mut self, tag: u64) {
        self.unacknowledged.insert(tag);
        if self.refresh_at.is_none() {
            let many = u32::try_from(self.unacknowledged.len()).unwrap_or(u32::MAX);
            let usual = EACH.saturating_mul(many).clamp(SHORTEST, LONGEST);
            self.refresh_at =
                Some(self.clock.now().at + self.patience.map_or(usual, |patience| (patience / 3).min(usual)));
        }
    }

    fn take_job(&mut self, message: &Message) {
        let tag = message.delivery_tag;
        self.holds(tag);
        let headers = message.properties.headers().as_ref();
        let times = headers.and_then(|headers| headers::number(headers.inner().get("x-delivery-count")?));
        let is_worn = self.is_begun() && times.is_some_and(|times| times >= WORN);
        let useless = match stored::parse(&message.properties, &message.data) {
            Ok(Stored::Job(job)) => {
                self.worn.extend(is_worn.then(|| job.record.id.clone()));
                self.jobs.job_came(*job, tag)
            }
            Ok(Stored::Memory(memory)) => {
                // No job has this id.
                self.worn.extend(is_worn.then(String::new));
                self.jobs.memory_came(memory, tag)
            }
            Ok(Stored::Marker(marker)) => {
                self.marker.take_if(|ours| *ours == marker);
                Some(tag)
            }
            Err(error) => {
                tracing::debug!(target: "asynctask::amqp", "{error}; it stays where it is");
                None
            }
        };
        self.useless.extend(useless);
    }

    fn take_entry(&mut self, message: Message) {
        let tag = message.delivery_tag;
        self.holds(tag);
        let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
        let properties = &message.properties;
        let asker = text(properties.reply_to()).zip(text(properties.correlation_id()));
        let asker = asker.map(|(queue, order)| Asker { queue, order });
        let id = properties.message_id().as_ref().map(ShortString::as_str);
        match self.entries.came(held_entries::content(id, &message.data), tag, asker.clone()) {
            Came::New(id) => {
                let now = self.clock.now().wall;
                let known = asker.and_then(|asker| Some((self.answers.find(&asker.order, now)?, asker)));
                match known {
                    // It was given twice.
                    Some((answer, asker)) => {
                        self.reply(&asker, answer.into_bytes());
                        self.useless.extend(self.entries.folded(&[id]));
                    }
                    None => self.told.push(StoredEntry { id, body: message.data }),
                }
            }
            Came::Again => {}
            Came::Folded => self.useless.push(tag),
        }
    }

    /// Sends an answer to whoever waits for it.
    pub(crate) fn reply(&self, asker: &Asker, body: Vec<u8>) {
        let (queue, correlation_id) = (asker.queue.clone(), asker.order.clone());
        self.replies.take(Answer { queue, correlation_id, body });
    }

    fn answer_question(&mut self, message: &Message) {
        let properties = &message.properties;
        let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string).unwrap_or_default();
        let asker = Asker { queue: text(properties.reply_to()), order: text(properties.correlation_id()) };
        // One that is no question, or of a later program, stays without an answer.
        let Ok(question) = serde_json::from_slice(&message.data) else { return };
        match &mut self.unanswered {
            Some(waiting) => waiting.push((question, asker)),
            None => self.reply_to(&question, &asker),
        }
    }

    fn reply_to(&self, question: &Question, asker: &Asker) {
        for body in self.answer(question, ANSWER) {
            self.reply(asker, body);
        }
    }

    /// All is known: from now on each question is answered at once.
    pub(crate) fn begin_answering(&mut self) {
        for (question, asker) in self.unanswered.take().into_iter().flatten() {
            self.reply_to(&question, &asker);
        }
    }
}
