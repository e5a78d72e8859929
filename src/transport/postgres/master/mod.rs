//! A transport that is attached, or holds a lock: its session, what it has in hand, and which other masters live.

pub(super) mod actor;
mod asked;
mod attach;
mod claimer;
pub(super) mod closing;
mod coordinate;
mod dispatch;
mod housekeeping;
mod judge;
mod lifecycle;
mod look;
mod notes;
mod order;
mod step;
mod submitter;
mod turn;
mod vacuum;
mod wake;
mod work;
