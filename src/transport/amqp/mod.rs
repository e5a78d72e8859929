//! RabbitMQ as a transport.
//!
//! A thread of its own runs one actor (`session::actor`) that owns two connections: one consumes and answers questions, one
//! publishes (the broker stops reading from a publishing connection when it runs short of memory, acknowledgements
//! included). Both together are a *session*; whatever goes wrong in it, it is given up and built anew.
//!
//! ```text
//! Request ─▶ session ─┬─ consume ×n     (one channel a queue: deliveries in, acknowledgements out)
//!             actor   ├─ publish        (copies: confirmed before the original goes)
//!                     ├─ queues         (declared, counted, surveyed, beside the actor on channels of their own)
//!                     ├─ dead_letters   (walks beside the actor; sweeps on a connection of their own)
//!                     ├─ schedules      (the lease, on a connection that can be lost alone)
//!                     ├─ ledger         (jobs: held on a connection of its own, asked about over the session)
//!                     └─ stopped        (void rounds and frozen jobs, as they are heard)
//! Event   ◀───────────┘
//! ```
//!
//! Below them: `connect` (address, TLS, one connection) and `message` (headers, properties).
//!
//! # Messages
//!
//! A task is one persistent message on the default exchange: `message_id` is its id, the body its payload. What a copy
//! does not carry on: `x-death`, `x-first-death-*`, `x-last-death-*`, `x-delivery-count`, `x-acquired-count`, `CC`, `BCC`,
//! and the properties `user_id` and `expiration`. Our headers; times are milliseconds since 1970:
//!
//! | header | on | says |
//! | --- | --- | --- |
//! | `asynctask-attempt` | retries, dead letters | attempts used; absent: 0 |
//! | `asynctask-not-before` | delayed tasks | when it is due |
//! | `asynctask-delay` | delayed tasks, but for those of a moment that somebody named | milliseconds left of the delay when it was put into its delay queue: it waits no longer, whatever the wall clock shows |
//! | `asynctask-expires-at` | any | not to be run after this moment; RFC 3339 is read too |
//! | `asynctask-deliveries` | classic queues | deliveries that ended without any outcome |
//! | `asynctask-first-failed-at` | retries, dead letters | when the first attempt failed |
//! | `asynctask-failed-at` | retries, dead letters | when the last attempt failed |
//! | `asynctask-error` | retries, dead letters | its error, at most 2 KiB |
//! | `asynctask-reason` | dead letters | the reason's word |
//! | `asynctask-detail` | dead letters | causes, a traceback |
//! | `asynctask-attempts` | dead letters | times the task was run |
//! | `asynctask-queue`, `-kind`, `-host`, `-pid` | dead letters | where it was run |
//! | `asynctask-exit` | dead letters | JSON: how the process ended |
//! | `asynctask-resources` | dead letters | JSON: `oom`, `max_rss` (bytes), `cpu`, `in_hand` (seconds) |
//! | `asynctask-output-tail` | dead letters | the last output |
//! | `asynctask-history` | dead letters that were retried | JSON: reason, error, attempts, `failed_at` of the last five endings |
//! | `asynctask-memo` | what came before | JSON: what the last attempt left for the next one; never cut |
//! | `asynctask-job` | tasks of jobs | JSON: the task's place in its job ([`Membership`](crate::membership::Membership)); never cut |
//! | `asynctask-user-id`, `-expiration` | copies | the properties that a copy cannot carry |
//!
//! All headers of a message together stay under 120 KiB; the detail and error text are cut first.
//!
//! # The order of things
//!
//! A task leaves its queue only after what its settlement stores is confirmed: the copy is published (mandatory, persistent), the
//! confirm is awaited for 10 s, then the original is acknowledged. A copy that is returned is published again after its queue
//! was declared; one that is refused is kept; one without a confirm is published again under the same id. A crash between confirm
//! and acknowledgement leaves a duplicate with that id, never a loss. That an acknowledgement was written proves nothing:
//! a redelivered task is compared with what the master remembers.
//!
//! Queues and their arguments stand in `queues::own_queue`, the ladder of delays in `queues::delay_queues`, what the library does
//! not do as one expects in `session::connections` and `publish::publisher`, the states of a session in `session`. Which answer ends
//! a delivery is one rule for all transports, in `transport::attached`, which also says why the queues are counted here and not
//! there. Numbers were measured with RabbitMQ 3.10.8 and lapin 4.12.3 on two cores, unless another version is named.
//!
//! # Queues of others
//!
//! A queue that exists is used as it is, and looked at once in the life of a process (`attributes`): an
//! attribute that can lose tasks is warned of by name, a stream is refused, a delay queue that does not bring tasks back when it
//! should is not used. An auto-delete queue keeps a consumer while the process lives, also without credit.
//!
//! # Queues of Celery's
//!
//! A queue with `protocol: celery` is declared as Celery's producers do, with its exchange (`queues::celery_queues`); what lies
//! beside it, its delays and dead letters, is as for any other. Its messages are read by `message::celery`, and copies of them
//! carry every header and property on as it came: nothing is added but headers of ours.
//!
//! # What cannot be known here
//!
//! What other nodes hold in hand is not seen without the management interface, so [`Depth::in_hand`](super::Depth)
//! is 0. Up to RabbitMQ 4.2 every return to a quorum queue counts as a delivery, an orderly release included.

mod broker_error;
mod connect;
mod consume;
mod dead_letters;
mod ledger;
mod message;
mod publish;
mod queues;
mod schedules;
mod session;
mod stopped;

use std::time::Duration;

use tokio::sync::mpsc;

pub(super) use self::connect::address_syntax::{check_cluster, cluster_with_tls};
pub use self::connect::tls::Tls;
use self::session::state::Actor;
/// For a connection beside the transport's, to the same brokers.
pub(crate) use self::{
    broker_error::{answer, describe, reply_code},
    connect::{
        address::Address,
        channel::{open_channel, short},
    },
    message::headers::number as header_number,
    session::pauses::{REBUILD_BACKOFF, with_jitter},
};
use super::{Error, Events, Request, Transport};
use crate::redact::redact_address;

/// The delay queues of `queue` that tasks with these delays pass through, shortest first.
#[must_use]
pub fn delay_queues(queue: &str, delays: &[Duration]) -> Vec<String> {
    queues::delay_queues::reached(delays).into_iter().map(|step| queues::delay_queues::name(queue, step)).collect()
}

/// A transport over AMQP 0-9-1.
#[derive(Debug)]
pub struct Amqp {
    requests: mpsc::UnboundedSender<Request>,
}

impl Amqp {
    /// Starts the transport's thread; nothing is connected before the first request. A client's `patience` bounds how long
    /// its requests are held up.
    ///
    /// # Errors
    /// [`Error::BadUri`] for an address that cannot be read; [`Error::Unreachable`] if no thread can be made.
    pub fn open(uri: &str, events: Events, patience: Option<Duration>) -> Result<Self, Error> {
        let address = Address::parse(uri)?.within(patience);
        let failed = |error: std::io::Error| Error::Unreachable { uri: redact_address(uri), cause: error.to_string() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (requests, taken) = mpsc::unbounded_channel();
        let run = move || {
            let actor = Actor::new(address, events, taken);
            tokio::task::LocalSet::new().block_on(&runtime, actor.run());
            // A connection that the broker blocks cannot be closed; its thread must not hold up ours.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("asynctask-amqp".to_owned()).spawn(run).map_err(failed)?;
        Ok(Self { requests })
    }
}

impl Transport for Amqp {
    fn ask(&self, request: Request) {
        // After a close no receiver is left; the reply is dropped with the request, which its owner sees.
        let _ = self.requests.send(request);
    }
}
