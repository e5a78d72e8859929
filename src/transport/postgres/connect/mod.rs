//! Connections: addresses, TLS, sessions and what their errors mean.

pub(super) mod address;
pub(super) mod fault;
pub(super) mod lane;
pub(super) mod pipeline;
pub(super) mod session;
pub(super) mod tls;
