//! Answers of many megabytes: so many are in memory at once, however slowly they are read.
//!
//! What is small enough is sent as it is. Of what is larger, [`MOST`] answers are under way, each for [`LONGEST`] at most: then what is
//! left of it is dropped, and its connection ends early.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::{Body, Bytes};
use tokio::{
    sync::{Semaphore, oneshot},
    time::timeout,
};

/// Large answers under way.
const MOST: usize = 8;
/// How long one of them may take.
const LONGEST: Duration = Duration::from_mins(5);
/// Bytes of an answer that is not large.
const SMALL: usize = 256 * 1024;
/// Bytes that are handed on at once.
const PART: usize = 64 * 1024;

/// The large answers of a page.
#[derive(Clone, Debug)]
pub(crate) struct LargeAnswers {
    turns: Arc<Semaphore>,
    longest: Duration,
}

impl Default for LargeAnswers {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(MOST)), longest: LONGEST }
    }
}

/// What is being sent.
struct Sending {
    /// `None`: it took too long.
    bytes: Arc<Mutex<Option<Vec<u8>>>>,
    at: usize,
    /// Dropped with this, the turn ends.
    _done: oneshot::Sender<()>,
}

impl Sending {
    fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let part = match &*self.bytes.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Err(io::ErrorKind::TimedOut.into()),
            Some(bytes) if self.at >= bytes.len() => return None,
            Some(bytes) => Ok(Bytes::copy_from_slice(&bytes[self.at..(self.at + PART).min(bytes.len())])),
        };
        self.at += PART;
        Some((part, self))
    }
}

impl LargeAnswers {
    /// The length of an answer and its body; `None`: too many are under way.
    pub(crate) fn body(&self, bytes: Vec<u8>) -> Option<(usize, Body)> {
        let length = bytes.len();
        if length <= SMALL {
            return Some((length, Body::from(bytes)));
        }
        let turn = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        let (done, is_done) = oneshot::channel::<()>();
        let bytes = Arc::new(Mutex::new(Some(bytes)));
        let (held, longest) = (Arc::clone(&bytes), self.longest);
        drop(tokio::spawn(async move {
            // Nothing is sent by it: it ends with the body, be that sent or not.
            if timeout(longest, is_done).await.is_err() {
                *held.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            drop(turn);
        }));
        let sending = Sending { bytes, at: 0, _done: done };
        let parts = futures_util::stream::unfold(sending, |sending| async { sending.next() });
        Some((length, Body::from_stream(parts)))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn an_answer_is_sent_whole_and_so_many_are_under_way() {
        run(async {
            let answers = LargeAnswers::default();
            let all: Vec<u8> = (0..SMALL + PART + 7).map(|number| number as u8).collect();
            let mut bodies: Vec<_> = (0..MOST).map(|_| answers.body(all.clone()).unwrap()).collect();
            assert!(answers.body(all.clone()).is_none());
            assert!(answers.body(all[..SMALL].to_vec()).is_some(), "what is small needs no turn");
            let (length, body) = bodies.pop().unwrap();
            assert_eq!((length, body.collect().await.unwrap().to_bytes().to_vec()), (all.len(), all.clone()));
            // One that nobody reads ends with its connection.
            drop(bodies);
            let turns = answers.turns.acquire_many(MOST as u32).await.unwrap();
            drop(turns);
        });
    }

    #[test]
    fn what_is_not_read_in_time_is_dropped() {
        run(async {
            let answers = LargeAnswers { longest: Duration::from_millis(1), ..LargeAnswers::default() };
            let (_, body) = answers.body(vec![0; SMALL + 1]).unwrap();
            // Its turn is over though it is still there.
            drop(answers.turns.acquire_many(MOST as u32).await.unwrap());
            assert!(body.collect().await.is_err());
        });
    }
}
