//! Reaching a broker: its address, TLS, and one connection.

pub(super) mod address;
pub(super) mod address_syntax;
pub(super) mod channel;
pub(super) mod own_connection;
pub(super) mod tls;
