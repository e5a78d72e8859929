//! Who is logged in: sessions in memory, gone with the process.

use std::{collections::HashMap, io, time::Duration};

use super::{
    secret::{self, Hashed},
    visitor::Visitor,
};
use crate::clock::Instant;

/// A session that is not used for so long is over.
const IDLE: Duration = Duration::from_hours(12);
/// Sessions at once; beyond that the one that was used longest ago is over.
const MOST: usize = 256;

#[derive(Debug)]
struct Session {
    visitor: Visitor,
    used_at: Instant,
}

/// All sessions, by the hashes of their cookies.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    open: HashMap<Hashed, Session>,
}

impl Sessions {
    /// Begins one. Gives the value of its cookie, which is kept nowhere.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn open(&mut self, now: Instant, visitor: Visitor) -> io::Result<String> {
        let value = secret::random()?;
        self.open.retain(|_, session| now.since(session.used_at) <= IDLE);
        while self.open.len() >= MOST {
            let oldest = self.open.iter().min_by_key(|(_, session)| session.used_at).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.open.remove(&oldest);
        }
        self.open.insert(Hashed::of(&value), Session { visitor, used_at: now });
        Ok(value)
    }

    /// Whose session has this cookie. `is_used`: by its owner, and not by a page that is open somewhere.
    pub(crate) fn visitor(&mut self, now: Instant, value: &str, is_used: bool) -> Option<Visitor> {
        let session = self.open.get_mut(&Hashed::of(value)).filter(|session| now.since(session.used_at) <= IDLE)?;
        if is_used {
            session.used_at = now;
        }
        Some(session.visitor.clone())
    }

    /// Whether this session goes on.
    pub(crate) fn is_open(&self, now: Instant, session: &Hashed) -> bool {
        self.open.get(session).is_some_and(|session| now.since(session.used_at) <= IDLE)
    }

    /// Ends one.
    pub(crate) fn close(&mut self, value: &str) {
        self.open.remove(&Hashed::of(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::dashboard::Role;

    #[test]
    fn sessions_end_when_nobody_uses_them() {
        let at = |hours| Instant::default() + Duration::from_hours(hours);
        let visitor = Visitor { name: None, role: Role::All, has_session: true };
        let mut sessions = Sessions::default();
        let value = sessions.open(at(1), visitor.clone()).unwrap();
        assert_eq!(sessions.visitor(at(13), &value, true), Some(visitor.clone()));
        assert_eq!(sessions.visitor(at(25), &value, true), Some(visitor.clone()), "it was used");
        let hashed = Hashed::of(&value);
        assert_eq!(sessions.visitor(at(36), &value, false), Some(visitor.clone()));
        assert!(
            sessions.is_open(at(37), &hashed) && !sessions.is_open(at(38), &hashed),
            "no page that is open uses it"
        );
        assert_eq!(sessions.visitor(at(38), &value, true), None);
        let value = sessions.open(at(40), visitor.clone()).unwrap();
        sessions.close(&value);
        assert_eq!(sessions.visitor(at(40), &value, true), None);
        let values: Vec<String> = (0..2 * MOST).map(|_| sessions.open(at(41), visitor.clone()).unwrap()).collect();
        assert_eq!(sessions.open.len(), MOST);
        assert!(sessions.visitor(at(41), values.last().unwrap(), true).is_some());
    }
}
