//! Storing what a ledger consists of: published until it is confirmed, however long that takes. It ends without only with the session,
//! or when its caller has lost the ledger.

use std::time::Duration;

use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::time::timeout;

use super::names::{Announcement, void_exchange};
use crate::transport::amqp::{
    broker_error::{answer, describe},
    connect::channel::{close, open_channel, short},
    publish::{
        outbox::{Outbox, PAUSES},
        publisher::{Publication, Published, WINDOW},
    },
};

/// Tries to tell masters what is stopped, which the next coordinator tells again.
const TRIES: u32 = 3;

/// Whoever gave an order waits for 10 s; the ledger does not wait so long for them.
const ANSWERED: Duration = Duration::from_secs(5);

/// Stores messages in queues that exist.
pub(crate) async fn until_stored(outbox: &Outbox, publications: &[Publication]) {
    for window in publications.chunks(WINDOW) {
        if matches!(window, [_, _, ..]) && outbox.session.publisher.window(window).await {
            continue;
        }
        for publication in window {
            one(outbox, publication).await;
        }
    }
}

/// Tries each once, in their order, up to the first that is not stored. Gives how many are, and what became of that one.
pub(crate) async fn once(outbox: &Outbox, publications: &[Publication]) -> (usize, Option<Published>) {
    let publisher = &outbox.session.publisher;
    let mut stored = 0;
    for window in publications.chunks(WINDOW) {
        if matches!(window, [_, _, ..]) && publisher.window(window).await {
            stored += window.len();
            continue;
        }
        for publication in window {
            match publisher.single(publication).await {
                Published::Stored => stored += 1,
                outcome => return (stored, Some(outcome)),
            }
        }
    }
    (stored, None)
}

/// Why something was not stored.
pub(crate) fn cause(outcome: Published) -> String {
    match outcome {
        Published::Stored => String::new(),
        Published::Returned => "it does not exist".to_owned(),
        Published::Nacked => "it is full, or has no leader (rabbitmqctl list_queues name state)".to_owned(),
        Published::Refused(cause) => cause,
        Published::Unknown { why, .. } => why.cause(),
    }
}

async fn one(outbox: &Outbox, publication: &Publication) {
    let publisher = &outbox.session.publisher;
    let mut failures = 0;
    loop {
        let outcome = publisher.single(publication).await;
        let line = match &outcome {
            Published::Stored => return,
            Published::Unknown { line, .. } => Some(*line),
            _ => None,
        };
        let cause = cause(outcome);
        if let Some(line) = line
            && let Err(error) = publisher.reconnect(line).await
        {
            let _: Result<(), ()> = outbox.broken(format!("{cause}; {error}"));
            return std::future::pending().await;
        }
        failures += 1;
        let pause = PAUSES.delay(failures);
        outbox.warn(format!(
            "queue \"{}\" of the jobs did not take what is to be stored: {cause}; again in {} s",
            publication.queue,
            pause.as_secs()
        ));
        tokio::time::sleep(pause).await;
    }
}

/// Sends answers to orders to where they are waited for, until the broker has confirmed them or it is clear that nobody waits any more,
/// for a while.
pub(crate) async fn send_answers(outbox: &Outbox, answers: &[Publication]) {
    let publisher = &outbox.session.publisher;
    let sent = async {
        // That of one who is gone comes back, and may have been taken for that of another: whoever gets an answer twice takes the first.
        if matches!(answers, [_, _, ..]) && publisher.window(answers).await {
            return;
        }
        for answer in answers {
            if let Published::Unknown { line, .. } = publisher.single(answer).await
                && publisher.reconnect(line).await.is_ok()
            {
                publisher.single(answer).await;
            }
        }
    };
    if timeout(ANSWERED, sent).await.is_err() {
        tracing::debug!(target: "asynctask::amqp", "the broker does not take the answers to {} orders", answers.len());
    }
}

/// Tells all masters of an application what is stopped.
pub(crate) async fn announce(outbox: &Outbox, application: &str, announcement: &Announcement) {
    // Texts and numbers: writing them cannot fail.
    let body = serde_json::to_vec(announcement).unwrap_or_default();
    for attempt in 1..=TRIES {
        match publish(outbox, application, &body).await {
            Ok(()) => return,
            Err(error) if attempt == TRIES => {
                outbox.warn(format!("masters were not told which jobs are stopped: {}", describe(&error)));
            }
            Err(_) => {}
        }
    }
}

async fn publish(outbox: &Outbox, application: &str, body: &[u8]) -> Result<(), lapin::Error> {
    let channel = open_channel(&outbox.session.publisher.connection()).await?;
    answer(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let properties = BasicProperties::default().with_delivery_mode(1).with_content_type("application/json".into());
    let (exchange, options) = (void_exchange(application), BasicPublishOptions::default());
    let published = channel.basic_publish(short(&exchange), "".into(), options, body, properties);
    answer(async { published.await?.await }).await?;
    close(&channel);
    Ok(())
}
