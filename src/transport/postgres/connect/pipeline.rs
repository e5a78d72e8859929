//! Statements that are sent together: one round trip for all of them.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// A statement that is to be sent.
pub(crate) type Call<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Sends calls in their order, which is that of their first polls, and waits for the answers of all.
pub(crate) async fn in_order<T>(mut calls: Vec<Call<'_, T>>) -> Vec<T> {
    let mut answers: Vec<Option<T>> = calls.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for (call, answer) in calls.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match call.as_mut().poll(context) {
                    Poll::Ready(value) => *answer = Some(value),
                    Poll::Pending => is_done = false,
                }
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    answers.into_iter().flatten().collect()
}
