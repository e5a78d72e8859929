//! What comes: consumers with their credit, deliveries, and the acknowledgements that end them.

pub(super) mod ack_batch;
pub(super) mod acks;
pub(super) mod consumer;
pub(super) mod consumer_switch;
pub(super) mod consumers;
pub(super) mod deliver;
pub(super) mod settle;
pub(super) mod void_window;
