//! The other masters on the file: which of them live, how they are woken, and the poll for what no datagram tells.

pub(super) mod owner;
pub(super) mod poll;
pub(super) mod wake;
