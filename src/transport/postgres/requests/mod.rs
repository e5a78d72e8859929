//! What is asked and answered beside the session that claims: counts, dead letters.

pub(super) mod dead_letters;
pub(super) mod dead_page;
pub(super) mod depth;
pub(super) mod walk;
