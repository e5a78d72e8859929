//! Looking up jobs for the coordinator, beside everything else that is asked of a transport.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{
    contract::{Request, Transport},
    error::Error,
};
use crate::jobs::record::{JobFilter, Record};

/// The jobs of each of these filters, each once. What is asked is asked before this is awaited.
pub fn look_up(
    transport: &dyn Transport,
    application: &str,
    filters: Vec<JobFilter>,
) -> impl Future<Output = Result<Vec<Record>, Error>> + use<> {
    let ask = |filter| {
        let (reply, answer) = oneshot::channel();
        transport.ask(Request::Jobs { application: application.to_owned(), filter, reply });
        answer
    };
    let answers = join_all(filters.into_iter().map(ask).collect::<Vec<_>>());
    async {
        let mut found = Vec::new();
        let mut known = BTreeSet::new();
        for answer in answers.await {
            let (records, _) = answer.unwrap_or(Err(Error::Closed))?;
            found.extend(records.into_iter().filter(|record| known.insert(record.id.clone())));
        }
        Ok(found)
    }
}
