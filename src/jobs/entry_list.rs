//! Several entries in one body: what one transaction tells a ledger is stored, told and removed as one.
//!
//! ```text
//! {"end":…}                   one entry
//! \n{"end":…}\n{"end":…}      a list: each entry behind a line feed
//! ```
//!
//! An order is alone in its body, because it may have to wait, and an entry with a line feed in it is, too: JSON that a program wrote
//! may have one. Each entry of a list is judged for itself, so one that cannot be read costs no other.

/// What a list, and nothing else that is stored, begins with, and what its entries stand behind.
const BEHIND: u8 = b'\n';
/// How the JSON of an order begins.
const ORDER: &[u8] = b"{\"order\":";
/// Bytes of a list: some two hundred ends. What is longer is none, whatever it begins with.
pub const LONGEST_LIST: usize = 64 * 1024;

/// Entries that are put together.
#[derive(Debug, Default)]
pub struct EntryList(Vec<u8>);

impl EntryList {
    /// Whether an entry may stand in a list.
    #[must_use]
    pub fn may_hold(entry: &[u8]) -> bool {
        !entry.starts_with(ORDER) && memchr::memchr(BEHIND, entry).is_none()
    }

    /// Whether it has room for an entry. An empty list has, for any.
    #[must_use]
    pub fn has_room(&self, entry: &[u8]) -> bool {
        self.0.is_empty() || self.0.len() + 1 + entry.len() <= LONGEST_LIST
    }

    /// Adds an entry that may stand in it and has room.
    pub fn add(&mut self, entry: &[u8]) {
        debug_assert!(Self::may_hold(entry) && self.has_room(entry), "it would be read as others, or as none");
        self.0.push(BEHIND);
        self.0.extend_from_slice(entry);
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The body to be stored; an entry that is the only one stands in it as if it were in no list.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        match memchr::memrchr(BEHIND, &self.0) {
            Some(0) => &self.0[1..],
            _ => &self.0,
        }
    }
}

/// Whether a body is a list.
#[must_use]
pub fn is_list(body: &[u8]) -> bool {
    body.first() == Some(&BEHIND) && body.len() <= LONGEST_LIST
}

/// The entries of a body, unread.
pub fn entries_of(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_list = is_list(body);
    let content = if is_list { &body[1..] } else { body };
    content.split(move |byte| is_list && *byte == BEHIND)
}

/// How many there are.
#[must_use]
pub fn count(body: &[u8]) -> usize {
    if is_list(body) { memchr::memchr_iter(BEHIND, body).count() } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        jobs::{entry::Entry, order::Order},
        json_text::JsonText,
    };

    #[test]
    fn entries_are_read_as_they_were_put_together() {
        let all: [&[u8]; 3] = [b"{\"end\":1}", b"", b"\xff"];
        for many in 1..=all.len() {
            let mut list = EntryList::default();
            all[..many].iter().for_each(|entry| list.add(entry));
            assert_eq!(entries_of(list.body()).collect::<Vec<_>>(), all[..many]);
            assert_eq!((count(list.body()), is_list(list.body())), (many, many > 1));
        }
        let (mut list, long) = (EntryList::default(), vec![b'x'; LONGEST_LIST]);
        assert!(list.is_empty() && list.has_room(&long));
        list.add(&long);
        assert!(!list.has_room(b"") && entries_of(list.body()).eq([&long[..]]));
        assert_eq!(count(&vec![BEHIND; LONGEST_LIST + 1]), 1);
        // A body that was stored alone is one, whatever stands in it.
        assert_eq!(entries_of(b"{\n}\n").collect::<Vec<_>>(), [b"{\n}\n"]);
        assert_eq!((entries_of(b"").count(), count(b"")), (1, 1));
    }

    #[test]
    fn an_order_and_what_has_lines_stand_alone() {
        let order = Order::start(Timestamp(1), "p", "j".to_owned(), JsonText::parse("{}").unwrap(), false);
        assert!(!EntryList::may_hold(&Entry::Order(Box::new(order)).to_bytes()));
        assert!(!EntryList::may_hold(b"{\"end\":{\"result\":[1,\n2]}}"));
        assert!(EntryList::may_hold(b"{\"end\":{\"result\":\"{\\\"order\\\":\"}}"));
    }
}
