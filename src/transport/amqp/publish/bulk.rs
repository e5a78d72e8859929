//! Storing many messages in their order, up to the first that cannot be: nothing after it may be sent, and what is known
//! of each is noted as it becomes known.
//!
//! Windows are fast, but what is sent after a message that the broker refuses is lost with the channel, and what was sent
//! before it is perhaps never confirmed. So a message that is larger than all that were confirmed before goes alone:
//! the limit of the broker is not known, and what it took once it takes again.

use std::ops::Range;

use super::{
    bulk_results::{BulkResults, MessageState},
    outbox::{CLIENT_SENDS, FULL, OutboundMessage, Outbox, PublishOutcome, StoreError, not_stored},
    publisher::{Publication, Unconfirmed, WINDOW, WindowOutcome},
};

impl Outbox {
    /// Stores those that are not stored yet.
    pub(crate) async fn publish_in_order(
        &self,
        messages: &[OutboundMessage],
        results: &BulkResults,
        sends: u32,
    ) -> Result<(), StoreError> {
        let mut next = 0;
        while next < messages.len() {
            if results.is_stored(next) {
                next += 1;
                continue;
            }
            let window = self.window_from(messages, results, next);
            next = window.end;
            let outcome = if window.len() == 1 {
                WindowOutcome::Partial
            } else {
                self.window(messages, results, window.clone()).await
            };
            let refused = match outcome {
                WindowOutcome::Stored => continue,
                WindowOutcome::Unanswered(why) if sends == CLIENT_SENDS => {
                    return Err(StoreError::Temporary(self.session.publisher.error(why)));
                }
                WindowOutcome::Refused => true,
                WindowOutcome::Partial | WindowOutcome::Unanswered(_) => false,
            };
            self.singly(messages, results, window, refused, sends).await?;
        }
        Ok(())
    }

    /// Those from here on that go together.
    fn window_from(&self, messages: &[OutboundMessage], results: &BulkResults, from: usize) -> Range<usize> {
        let largest = self.session.publisher.largest();
        let fits =
            |position: &usize| !results.is_stored(*position) && messages[*position].publication.body.len() <= largest;
        let most = messages.len().min(from + WINDOW);
        let end = (from..most).find(|position| !fits(position)).unwrap_or(most);
        from..end.max(from + 1)
    }

    async fn window(&self, messages: &[OutboundMessage], results: &BulkResults, window: Range<usize>) -> WindowOutcome {
        let publications: Vec<Publication> =
            messages[window.clone()].iter().map(|message| message.publication.clone()).collect();
        results.set_all(window.clone(), MessageState::Sent);
        let outcome =
            self.session.publisher.window_of(&publications, |at, state| results.set(window.start + at, state)).await;
        if matches!(outcome, WindowOutcome::Unanswered(Unconfirmed::Unsent(_))) {
            results.set_all(window, MessageState::Absent);
        }
        outcome
    }

    /// One after the other, those of a window that are not stored. After one that the broker `refused`, it took nothing more
    /// of the window.
    async fn singly(
        &self,
        messages: &[OutboundMessage],
        results: &BulkResults,
        window: Range<usize>,
        refused: bool,
        sends: u32,
    ) -> Result<(), StoreError> {
        for position in window.clone() {
            if results.is_stored(position) {
                continue;
            }
            let mut one = messages[position].clone();
            results.set(position, MessageState::Sent);
            let failed = match self.publish_at_most(&mut one, sends).await {
                Ok(PublishOutcome::Stored) => {
                    results.set(position, MessageState::Stored);
                    continue;
                }
                failed => failed,
            };
            if !matches!(
                failed,
                Err(()) | Ok(PublishOutcome::Unanswered(Unconfirmed::Late(_) | Unconfirmed::Broken(_)))
            ) {
                results.set(position, MessageState::Absent);
            }
            let (message, publisher) = (&messages[position], &self.session.publisher);
            return Err(match failed {
                Ok(PublishOutcome::Unanswered(why)) => StoreError::Temporary(publisher.error(why)),
                Ok(PublishOutcome::TryAgain(cause)) => StoreError::Temporary(not_stored(message, cause)),
                Ok(PublishOutcome::Full) => StoreError::Full(not_stored(message, format!("it {FULL}"))),
                Ok(PublishOutcome::Rejected(cause)) => {
                    let rest = (position..window.end).filter(|at| refused && !results.is_stored(*at));
                    rest.for_each(|at| results.set(at, MessageState::Absent));
                    StoreError::Permanent(not_stored(message, cause))
                }
                Ok(PublishOutcome::Stored) | Err(()) => {
                    StoreError::Temporary(publisher.error(Unconfirmed::Broken("the session ended".to_owned())))
                }
            });
        }
        Ok(())
    }
}
