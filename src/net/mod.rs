//! Sockets for whoever asks: paths of any length, and a bound on how many ask at once.

pub(super) mod connection_limit;
pub(super) mod unix_socket;
