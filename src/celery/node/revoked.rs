//! Ids of tasks that somebody revoked: 50,000 at most, for a month, the latest ones. Pure.

use std::collections::{BTreeMap, HashMap};

pub(super) use crate::celery::revoked::{ID_LIMIT, KEPT_FOR, MOST};
use crate::{celery::revoked::TOLD_FOR, clock::Instant};

/// The ids, from the one that was revoked first to the last.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    places: HashMap<String, u64>,
    by_place: BTreeMap<u64, Entry>,
    last: u64,
}

#[derive(Debug)]
struct Entry {
    id: String,
    at: Instant,
    /// The broker has it, for the next life of the node.
    stored: bool,
}

impl Revoked {
    /// Somebody revoked these. Again: remembered from now on. What can be no id is left out.
    pub(super) fn add(&mut self, now: Instant, ids: impl IntoIterator<Item = String>) {
        for id in ids {
            self.put(now, id, false);
        }
        self.purge(now);
    }

    /// The broker has these. What is known keeps its time; the others are remembered from now on, as Celery's nodes do when they
    /// start again.
    pub(super) fn add_stored(&mut self, now: Instant, ids: impl IntoIterator<Item = String>) {
        for id in ids {
            match self.places.get(&id) {
                Some(place) => self.stored(*place),
                None => self.put(now, id, true),
            }
        }
        self.purge(now);
    }

    fn put(&mut self, now: Instant, id: String, stored: bool) {
        if id.is_empty() || id.len() > ID_LIMIT {
            return;
        }
        self.last += 1;
        if let Some(place) = self.places.insert(id.clone(), self.last) {
            self.by_place.remove(&place);
        }
        self.by_place.insert(self.last, Entry { id, at: now, stored });
    }

    /// Forgets what is too old or too much.
    pub(super) fn purge(&mut self, now: Instant) {
        while let Some(first) = self.by_place.first_entry() {
            if first.get().at + KEPT_FOR > now && self.places.len() <= MOST {
                return;
            }
            let entry = first.remove();
            self.places.remove(&entry.id);
        }
    }

    /// Whether this one is among them.
    pub(super) fn has(&self, id: &str) -> bool {
        self.places.contains_key(id)
    }

    /// Those that a node that starts is told, the oldest first.
    pub(super) fn told(&self, now: Instant) -> impl Iterator<Item = &str> {
        self.by_place.values().filter(move |entry| entry.at + TOLD_FOR > now).map(|entry| entry.id.as_str())
    }

    /// All of them, the oldest first.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.by_place.values().map(|entry| entry.id.as_str())
    }

    /// Up to so many that the broker has not, the oldest first, with the place that [`Self::stored`] is told.
    pub(super) fn unstored(&self, most: usize) -> Vec<(u64, String)> {
        let unstored = self.by_place.iter().filter(|(_, entry)| !entry.stored);
        unstored.take(most).map(|(place, entry)| (*place, entry.id.clone())).collect()
    }

    /// The broker has this one.
    pub(super) fn stored(&mut self, place: u64) {
        if let Some(entry) = self.by_place.get_mut(&place) {
            entry.stored = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(hours: u64) -> Instant {
        Instant::from_start(Duration::from_hours(hours))
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_latest_are_remembered_for_a_month_and_told_for_three_hours() {
        let mut revoked = Revoked::default();
        revoked.add(at(0), words(&["a", "b"]));
        revoked.add(at(1), words(&["c", "a", "", &"x".repeat(256)]));
        assert_eq!(revoked.ids().collect::<Vec<_>>(), ["b", "c", "a"], "again: from now on");
        assert_eq!(revoked.told(at(2)).collect::<Vec<_>>(), ["b", "c", "a"]);
        assert_eq!(revoked.told(at(3)).collect::<Vec<_>>(), ["c", "a"]);
        assert_eq!(revoked.told(at(4)).count(), 0);
        revoked.purge(at(31 * 24));
        assert_eq!(revoked.ids().collect::<Vec<_>>(), ["c", "a"]);
        revoked.purge(at(31 * 24 + 1));
        assert_eq!(revoked.ids().count(), 0);
    }

    #[test]
    fn there_are_no_more_than_celery_keeps() {
        let mut revoked = Revoked::default();
        revoked.add(at(0), (0..MOST + 7).map(|id| id.to_string()));
        assert_eq!((revoked.ids().count(), revoked.ids().next()), (MOST, Some("7")));
        assert_eq!(revoked.places.len(), MOST);
    }

    #[test]
    fn what_the_broker_has_is_not_stored_again() {
        let mut revoked = Revoked::default();
        revoked.add_stored(at(0), words(&["a", "b"]));
        revoked.add(at(1), words(&["c", "b"]));
        revoked.add_stored(at(2), words(&["a"]));
        assert_eq!(revoked.ids().collect::<Vec<_>>(), ["a", "c", "b"], "what is known keeps its time");
        let unstored = revoked.unstored(10);
        assert_eq!(unstored.iter().map(|(_, id)| id.as_str()).collect::<Vec<_>>(), ["c", "b"]);
        revoked.stored(unstored[0].0);
        assert_eq!(revoked.unstored(1)[0].1, "b", "its time began anew");
        revoked.stored(u64::MAX);
    }
}
