//! Answers that are owed: given even when the work that would give them is dropped.

use crate::transport::{Error, Reply};

/// A reply that says "lost" when it is dropped unanswered.
pub(super) struct Owed<T> {
    reply: Option<Reply<T>>,
    lost: Error,
}

impl<T> Owed<T> {
    pub(super) fn new(reply: Reply<T>, lost: Error) -> Self {
        Self { reply: Some(reply), lost }
    }

    pub(super) fn send(mut self, answer: Result<T, Error>) {
        if let Some(reply) = self.reply.take() {
            // Whoever asked may be gone.
            let _ = reply.send(answer);
        }
    }
}

impl<T> Drop for Owed<T> {
    fn drop(&mut self) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(Err(self.lost.clone()));
        }
    }
}
