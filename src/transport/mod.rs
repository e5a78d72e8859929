//! What carries tasks: [`contract`] says what every transport does, and each of the folders below is one transport.
//!
//! A transport is an actor: a thread of its own that owns the connection or the file, takes [`Request`]s
//! without ever blocking the sender, and answers through the [`Events`] channel or the request's own reply.
//! The master holds one; a command (`submit`, `queues`, `failed`) holds one for a moment. [`read_uri`] and [`open`] are the
//! only places that know which transports there are.

pub mod amqp;
mod answers;
mod attached;
pub mod contract;
pub mod dead_letter;
pub mod dead_page;
mod delivery_key;
mod error;
mod event;
pub mod identity;
mod job_entries;
pub(crate) mod job_letters;
pub mod localmem;
mod lookup;
mod opening;
mod pause;
#[cfg(feature = "postgres")]
pub mod postgres;
mod refusal;
mod row_text;
pub mod sqlite;
mod submit_checks;
mod tls_files;
mod uri;

pub use self::{
    answers::{Cancelled, Depth, ScheduleMemory},
    contract::{Events, QueueSetup, Reply, Request, Transport, call, tell},
    dead_letter::{DeadLetter, DeadQueue, Visit, Visitor, Walked},
    error::{Error, Extent},
    event::Event,
    lookup::look_up,
    opening::{CLIENT_PATIENCE, cluster, open, open_client, read_uri, schema_sql, schema_version, with_tls},
    uri::Uri,
};
pub(crate) use self::{
    pause::pause,
    submit_checks::{with_own_names, without_priorities},
};
