//! Answers to orders that were carried out, kept for a while for whoever gives the order again. Pure.
//!
//! They are in the memory of the coordinator alone: the next one carries the order out again, which changes nothing.

use std::collections::{HashMap, VecDeque};

use crate::clock::Timestamp;

/// Kept so long, in milliseconds.
const KEPT: i64 = 3_600_000;
/// So many at most, the newest.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct KeptAnswers {
    answers: HashMap<String, (String, Timestamp)>,
    /// Oldest first.
    orders: VecDeque<String>,
}

impl KeptAnswers {
    pub(crate) fn keep(&mut self, order: &str, answer: &str, now: Timestamp) {
        if self.answers.insert(order.to_owned(), (answer.to_owned(), now)).is_none() {
            self.orders.push_back(order.to_owned());
        }
        while let Some(oldest) = self.orders.front()
            && (self.orders.len() > MOST || self.is_old(oldest, now))
        {
            self.answers.remove(oldest);
            self.orders.pop_front();
        }
    }

    pub(crate) fn find(&self, order: &str, now: Timestamp) -> Option<String> {
        self.answers.get(order).filter(|_| !self.is_old(order, now)).map(|(answer, _)| answer.clone())
    }

    fn is_old(&self, order: &str, now: Timestamp) -> bool {
        self.answers.get(order).is_none_or(|(_, at)| at.0.saturating_add(KEPT) <= now.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_for_an_hour() {
        let mut answers = KeptAnswers::default();
        answers.keep("a", "1", Timestamp(0));
        answers.keep("b", "2", Timestamp(KEPT - 1));
        assert_eq!(answers.find("a", Timestamp(KEPT - 1)).as_deref(), Some("1"));
        assert_eq!(answers.find("a", Timestamp(KEPT)), None);
        answers.keep("c", "3", Timestamp(KEPT));
        assert_eq!((answers.answers.len(), answers.orders.len()), (2, 2));
        for number in 0..2 * MOST {
            answers.keep(&number.to_string(), "", Timestamp(KEPT));
        }
        assert_eq!((answers.answers.len(), answers.orders.len()), (MOST, MOST));
    }
}
