//! A reply that is sent even when the work that would send it is dropped.

use crate::transport::{Error, Reply};

/// A reply that says "lost" when it is dropped unanswered, and how far the work had come.
pub(crate) struct ReplyGuard<T> {
    reply: Option<Reply<T>>,
    lost: Option<Box<dyn FnOnce() -> Error>>,
}

impl<T> ReplyGuard<T> {
    pub(crate) fn new(reply: Reply<T>, lost: impl FnOnce() -> Error + 'static) -> Self {
        Self { reply: Some(reply), lost: Some(Box::new(lost)) }
    }

    pub(crate) fn send(mut self, answer: Result<T, Error>) {
        if let Some(reply) = self.reply.take() {
            // The receiver may be gone.
            let _ = reply.send(answer);
        }
    }

    /// Does the work that finds the answer, and sends it. Given up when the receiver is gone.
    pub(crate) async fn send_unless_closed(mut self, work: impl Future<Output = Result<T, Error>>) {
        let Some(reply) = &mut self.reply else { return };
        let answer = tokio::select! {
            biased;
            () = reply.closed() => return,
            answer = work => answer,
        };
        self.send(answer);
    }
}

impl<T> Drop for ReplyGuard<T> {
    fn drop(&mut self) {
        if let (Some(reply), Some(lost)) = (self.reply.take(), self.lost.take()) {
            let _ = reply.send(Err(lost()));
        }
    }
}
