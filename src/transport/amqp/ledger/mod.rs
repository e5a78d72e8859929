//! The ledger of an application's jobs on a broker.
//!
//! One process holds it (`holder`): the exclusive consumer of a queue, the *lease*. It holds a message an open job and replaces it when
//! the job changes (`held_ledger`, `held_jobs`), is told of entries (`held_entries`), and stores the steps of the coordinator (`step`).
//! Everybody else asks it (`asking`, `questions`), or reads what is stored where nobody holds it. What the parts are called stands in
//! `names`, what their messages hold in `stored`.
//!
//! # What was seen
//!
//! RabbitMQ 3.10.8 and 4.0.5, lapin 4.12.3, two busy cores, a channel with the exclusive consumer of a classic queue, a consumer of
//! entries, and what holds the jobs; all publishes over another connection:
//!
//! - Acknowledgements of all three, `basic.get` and consumers go on such a channel side by side, and a message that was confirmed on the
//!   other connection is there for a `get` at once.
//! - Reading 1,000 jobs by `get` takes 0.8 to 1.6 s, being sent them by a consumer 0.03 s. An empty `get` also does not tell whether what the
//!   former holder held has come back: the queue of the lease and that of the jobs hear of its end one by one. So the queue of jobs has
//!   a *single active consumer*: the next one becomes active in the very step in which the queue takes back what the one before
//!   held, and gets that first, in its order. A *marker* that is published then comes behind all there is.
//! - A channel is closed when the oldest of what is unacknowledged on it is older than the broker's `consumer_timeout` (5 s: after 5.8 s),
//!   and the error names the timeout; nothing else does. To give 1,000 jobs back by one `nack` and get them again takes 0.03 to 0.05 s, and
//!   is one command for the queue; to write them anew takes a second. So all is given back every 2 to 15 s, as the lease of schedules does,
//!   and after the timeout was heard once, in a third of it. Each return counts for the queue's limit of deliveries (up to RabbitMQ 4.2), of which
//!   there are a million: a job that came back very often is written anew.

pub(super) mod actor;
mod answers;
pub(super) mod asking;
mod backlog;
pub(super) mod ended;
mod ended_waiting;
pub(super) mod hands;
mod held_entries;
mod held_jobs;
mod held_ledger;
pub(super) mod holder;
pub(super) mod left;
pub(super) mod names;
mod pending;
mod questions;
mod queues;
pub(super) mod request;
mod step;
mod store;
mod stored;
pub(super) mod superseded;
mod taking_in;
