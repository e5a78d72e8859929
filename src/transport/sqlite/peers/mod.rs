//! The other masters on the file: who lives, who is woken, and what nobody was told.

pub(super) mod owner;
pub(super) mod poll;
pub(super) mod wake;
