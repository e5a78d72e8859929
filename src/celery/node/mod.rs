//! The node: how Celery's own tools see this master. It answers their remote control and tells their monitors what happens.
//!
//! ```text
//!                    thread of the node                                    thread of the master
//!  celery.pidbox ──▶ mailbox ── request ── methods ─┬─ what it knows ─┐
//!                                                   ├─ core ── command ──────▶ core
//!                                                   │   ▲──── view, answer ────┘
//!  reply.celery.pidbox ◀── outlet ◀── replies ──────┴─────────────────┘
//!  celeryev ◀── outlet ◀── events ◀── feed (10,000 at most) ◀───────────── shell
//! ```
//!
//! It has a thread, a runtime and a connection of its own: whatever happens to it, the master's session is neither blocked nor
//! built anew. When its connection is lost, it comes back by itself; meanwhile tasks run as ever, and what monitors would have
//! heard is dropped. It never touches a queue with tasks.
//!
//! Anyone with an account at the broker can send requests. So a body has a limit, requests are answered from a budget, few
//! at a time, replies go to the one exchange that Celery uses for them, and nothing is changed unless the settings say
//! `control: work`. What is over a limit is dropped and counted.
//!
//! Celery's names are the default ones of its settings (`control_exchange`, `event_exchange`): its exchanges are `celery.pidbox`
//! (fanout), `reply.celery.pidbox` (direct) and `celeryev` (topic, durable), declared as Celery declares them.
//!
//! `life` connects and comes back, `session` is the life of one connection. The files with `Pure.` at their head decide.

mod answering;
mod asking;
mod budget;
mod entities;
mod events;
mod facts;
mod feed;
mod glob;
mod lamport;
mod life;
mod mailbox;
mod methods;
mod mingle;
mod outlet;
mod replies;
mod request;
mod revoked;
mod rusage;
mod session;
mod state;
mod stored_ids;
mod view;
mod wording;
mod work;

pub use self::{
    feed::Node,
    state::{EventsWanted, Settings},
};
