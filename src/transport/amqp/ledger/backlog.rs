//! What is known of the queue of ended jobs, as long as it does not take them all, and a try to store some of those that wait.

use std::time::Duration;

use tokio::{task::JoinSet, time::timeout};

use super::{queues, store};
use crate::{
    clock::Instant,
    transport::amqp::{
        broker_error::describe,
        publish::{
            outbox::Outbox,
            publisher::{Publication, Published},
        },
    },
};

/// What waits is tried for so long, beside the steps.
const PATIENCE: Duration = Duration::from_secs(10);

/// When the queue is asked again, and how that went.
#[derive(Default)]
pub(super) struct Backlog {
    pub(super) retry_at: Option<Instant>,
    /// At most one; it ends with this.
    pub(super) retries: JoinSet<Retried>,
    pub(super) failures: u32,
}

/// What a retry came to.
pub(super) struct Retried {
    /// Jobs that are stored, with their ranks.
    pub(super) stored: Vec<(String, (u64, u64))>,
    /// Why the next one is not.
    pub(super) cause: Option<String>,
}

impl Backlog {
    /// Whether the queue was not well the last time.
    pub(super) fn is_waiting(&self) -> bool {
        self.retry_at.is_some() || !self.retries.is_empty()
    }

    /// What a retry came to.
    pub(super) async fn retried(&mut self) -> Retried {
        match self.retries.join_next().await {
            Some(Ok(retried)) => retried,
            Some(Err(error)) => Retried { stored: Vec::new(), cause: Some(error.to_string()) },
            None => std::future::pending().await,
        }
    }
}

pub(super) async fn retry(
    outbox: Outbox,
    application: String,
    tried: Vec<(String, (u64, u64), Publication)>,
) -> Retried {
    let (jobs, publications): (Vec<_>, Vec<_>) =
        tried.into_iter().map(|(id, rank, publication)| ((id, rank), publication)).unzip();
    let store = async {
        let first = store::once(&outbox, &publications).await;
        let (count, Some(Published::Returned)) = &first else { return first };
        if let Err(error) = queues::declare(&outbox.session.reader(), &application).await {
            return (*count, Some(Published::Refused(describe(&error))));
        }
        let (more, outcome) = store::once(&outbox, &publications[*count..]).await;
        (count + more, outcome)
    };
    match timeout(PATIENCE, store).await {
        Ok((count, outcome)) => {
            Retried { stored: jobs.into_iter().take(count).collect(), cause: outcome.map(store::cause) }
        }
        Err(_) => Retried { stored: Vec::new(), cause: Some(format!("no answer within {} s", PATIENCE.as_secs())) },
    }
}
