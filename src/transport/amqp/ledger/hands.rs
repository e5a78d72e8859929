//! Asking all masters of an application which tasks of jobs they have in hand. Those that have none say nothing.

use std::{collections::BTreeSet, time::Duration};

use uuid::Uuid;

use super::{
    asking::ReplyQueue,
    names::{Announcement, HandsAsked, HandsOfJob},
    store,
};
use crate::transport::amqp::{broker_error::Fault, publish::outbox::Outbox};

/// Masters that work say within this time what they have in hand. One that is stopped is not heard.
const HEARD: Duration = Duration::from_secs(1);

/// Those of some rounds of which a master has tasks in hand.
pub(crate) async fn of_rounds(
    outbox: &Outbox,
    application: &str,
    rounds: &BTreeSet<Uuid>,
) -> Result<BTreeSet<Uuid>, Fault> {
    let announcement = |hands| Announcement { hands: Some(hands), ..Announcement::default() };
    ask(outbox, application, announcement, |found| found.is_superset(rounds)).await
}

/// Whether a master has a task of a job in hand, but for one that wipes.
pub(crate) async fn of_job(outbox: &Outbox, application: &str, job: &str) -> Result<bool, Fault> {
    let announcement = |asked| {
        let hands_of = Some(HandsOfJob { job: job.to_owned(), asked });
        Announcement { hands_of, ..Announcement::default() }
    };
    Ok(!ask(outbox, application, announcement, |found| !found.is_empty()).await?.is_empty())
}

/// Gathers rounds until there are enough, or all have had their time.
async fn ask(
    outbox: &Outbox,
    application: &str,
    announcement: impl FnOnce(HandsAsked) -> Announcement,
    is_enough: impl Fn(&BTreeSet<Uuid>) -> bool,
) -> Result<BTreeSet<Uuid>, Fault> {
    let mut replies = ReplyQueue::open(&outbox.session.reader()).await.map_err(|error| Fault::of(&error))?;
    let id = Uuid::now_v7().to_string();
    let asked = HandsAsked { reply_to: replies.name.clone(), correlation_id: id.clone() };
    store::announce(outbox, application, &announcement(asked)).await;
    let mut found = BTreeSet::new();
    let limit = tokio::time::sleep(HEARD);
    tokio::pin!(limit);
    while !is_enough(&found) {
        tokio::select! {
            Some(answer) = replies.next(&id) => {
                found.extend(serde_json::from_slice::<Vec<Uuid>>(&answer).unwrap_or_default());
            }
            () = &mut limit => break,
        }
    }
    Ok(found)
}
