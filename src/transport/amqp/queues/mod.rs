//! Queues: which there are, with which arguments, and what lies in them.

pub(super) mod attributes;
pub(super) mod celery_queues;
pub(super) mod counter;
pub(super) mod counts;
pub(super) mod declare_error;
pub(super) mod delay_queues;
pub(super) mod delay_refusals;
pub(super) mod foreign_queues;
pub(super) mod in_transit;
pub(super) mod own_queue;
pub(super) mod purge;
pub(super) mod survey;
pub(super) mod take_out;
pub(super) mod topology;
