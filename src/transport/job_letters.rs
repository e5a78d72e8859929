//! Whether a dead letter of a job may go back to work: only where its end can still change something, and no other job of its key
//! is in the way.

use uuid::Uuid;

use crate::membership::Membership;

/// What keeps a dead letter from work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hindrance {
    /// Its job is forgotten.
    Forgotten,
    /// Nothing of its round counts any more: what the job left is wiped, or the step was ended or begun again.
    Void,
    /// Another job has the key.
    KeyHeld {
        /// Its id.
        by: String,
    },
}

/// What keeps a dead letter from work. `rounds`: of the record of its job, if there is one; `holder`: another job that has its key.
pub(crate) fn hindrance(membership: &Membership, rounds: Option<&[Uuid]>, holder: Option<String>) -> Option<Hindrance> {
    match (rounds, holder) {
        (None, _) => Some(Hindrance::Forgotten),
        (Some(rounds), _) if !rounds.contains(&membership.round) => Some(Hindrance::Void),
        (Some(_), holder) => holder.map(|by| Hindrance::KeyHeld { by }),
    }
}
