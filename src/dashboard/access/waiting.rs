//! Who waits for the check of a password. Each has a place of their own, as far as names and peers tell: who sends many keeps out few.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::Peer;

/// Passwords that are checked or wait for that. One check takes some hundredths of a second.
const WAITING: usize = 16;
/// Those of one name from one peer: who sends a form twice is answered twice.
const WAITING_OF_ONE: usize = 2;

/// Who waits for a check, and where they came from. Bounded by [`WAITING`].
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<HashMap<(Peer, String), usize>>);

/// Somebody waits for a check, until this is dropped.
pub(crate) struct Waits<'a> {
    all: &'a Waiting,
    who: (Peer, String),
}

impl Waiting {
    /// A place, if there is one.
    pub(crate) fn if_room(&self, peer: Peer, name: &str) -> Option<Waits<'_>> {
        let who = (peer, name.to_owned());
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_room =
            waiting.values().sum::<usize>() < WAITING && waiting.get(&who).is_none_or(|count| *count < WAITING_OF_ONE);
        if !is_room {
            return None;
        }
        *waiting.entry(who.clone()).or_default() += 1;
        drop(waiting);
        Some(Waits { all: self, who })
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let mut waiting = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_one_name_keeps_nobody_else_out() {
        let waiting = Waiting::default();
        let near = Peer::Address(std::net::Ipv4Addr::LOCALHOST.into());
        let mut there: Vec<_> = (0..10).filter_map(|_| waiting.if_room(near, "anna")).collect();
        assert_eq!(there.len(), WAITING_OF_ONE);
        assert!(waiting.if_room(near, "otto").is_some() && waiting.if_room(Peer::Local, "anna").is_some());
        there.extend((0..100).filter_map(|number| waiting.if_room(near, &number.to_string())));
        assert_eq!(there.len(), WAITING);
        drop(there);
        assert!(waiting.0.lock().unwrap().is_empty(), "who went waits no more");
    }
}
