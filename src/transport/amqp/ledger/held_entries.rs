//! The entries that a coordinator was told and has not folded, and their messages. Pure.
//!
//! All that the coordinator holds is given back now and then, entries too. One that comes again is known by its content: two that are
//! the same in all of it may stand for each other.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use crate::jobs::record::EntryId;

/// Who waits for the answer to an order: a queue, and what tells the answer apart there, which is the order's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) queue: String,
    pub(crate) order: String,
}

#[derive(Debug)]
struct HeldEntry {
    content: u64,
    tag: Option<u64>,
    asker: Option<Asker>,
    /// It is folded: once it comes, it goes.
    folded: bool,
}

#[derive(Debug, Default)]
pub(crate) struct HeldEntries {
    entries: BTreeMap<EntryId, HeldEntry>,
    /// Those that were given back and have not come, by their content.
    away: HashMap<u64, VecDeque<EntryId>>,
    last: u64,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    New(EntryId),
    /// It was told before.
    Again,
    /// It was folded before: it may go.
    Folded,
}

/// What an entry is known by.
pub(crate) fn content(id: Option<&str>, body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (id, body).hash(&mut hasher);
    hasher.finish()
}

impl HeldEntries {
    pub(crate) fn came(&mut self, content: u64, tag: u64, asker: Option<Asker>) -> Came {
        if let Some(away) = self.away.get_mut(&content)
            && let Some(id) = away.pop_front()
        {
            if away.is_empty() {
                self.away.remove(&content);
            }
            return match self.entries.get_mut(&id) {
                Some(entry) if !entry.folded => {
                    entry.tag = Some(tag);
                    Came::Again
                }
                _ => {
                    self.entries.remove(&id);
                    Came::Folded
                }
            };
        }
        self.last += 1;
        let id = EntryId(self.last);
        self.entries.insert(id, HeldEntry { content, tag: Some(tag), asker, folded: false });
        Came::New(id)
    }

    /// All were given back up to this tag.
    pub(crate) fn given_back(&mut self, last: u64) {
        for (id, entry) in &mut self.entries {
            if entry.tag.take_if(|tag| *tag <= last).is_some() {
                self.away.entry(entry.content).or_default().push_back(*id);
            }
        }
    }

    /// Who waits for the answers to these orders.
    pub(crate) fn askers(&self, entries: &[EntryId]) -> Vec<Asker> {
        entries.iter().filter_map(|id| self.entries.get(id)?.asker.clone()).collect()
    }

    /// They are folded. Gives the tags of those that are with us.
    pub(crate) fn folded(&mut self, entries: &[EntryId]) -> Vec<u64> {
        let mut tags = Vec::with_capacity(entries.len());
        for id in entries {
            match self.entries.get_mut(id) {
                Some(HeldEntry { tag: Some(tag), .. }) => {
                    tags.push(*tag);
                    self.entries.remove(id);
                }
                Some(entry) => entry.folded = true,
                None => {}
            }
        }
        tags
    }

    /// How many are not folded.
    pub(crate) fn left(&self) -> usize {
        self.entries.values().filter(|entry| !entry.folded).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_told_once() {
        let mut held = HeldEntries::default();
        let (one, two) = (content(Some("1"), b"x"), content(None, b"x"));
        assert_ne!(one, two);
        let asker = Asker { queue: "q".to_owned(), order: "o".to_owned() };
        assert_eq!(held.came(one, 1, Some(asker.clone())), Came::New(EntryId(1)));
        assert_eq!(held.came(two, 2, None), Came::New(EntryId(2)));
        assert_eq!(held.came(two, 3, None), Came::New(EntryId(3)));
        held.given_back(3);
        held.given_back(3);
        assert!(held.folded(&[EntryId(2)]).is_empty(), "it is not with us");
        assert_eq!(held.left(), 2);
        assert_eq!(held.came(one, 4, None), Came::Again);
        assert_eq!(held.came(two, 5, None), Came::Folded, "one of the two that are the same");
        assert_eq!(held.came(two, 6, None), Came::Again);
        assert_eq!(held.came(two, 7, None), Came::New(EntryId(4)), "another one of that content");
        assert_eq!(held.askers(&[EntryId(1), EntryId(9)]), [asker]);
        assert_eq!(held.folded(&[EntryId(1), EntryId(3), EntryId(1)]), [4, 6]);
        assert_eq!(held.left(), 1);
    }
}
