//! What keeps a dead letter of a job from work: the state of its job, and who has its key.

use uuid::Uuid;

use crate::{
    membership::Membership,
    transport::{
        job_letters::{self, Hindrance},
        postgres::connect::{fault::Fault, session::Session},
    },
};

/// Locked until the end of the transaction, so that no step of the coordinator changes the job meanwhile.
const ROUNDS: &str = "SELECT rounds FROM @.job WHERE application = $1 AND id = $2 \
                      AND (purge_at IS NULL OR purge_at > @.now_ms()) FOR SHARE";
const HOLDER: &str =
    "SELECT id FROM @.job WHERE application = $1 AND pipeline = $2 AND key = $3 AND holds_key AND id <> $4";

/// The job that has a key, other than one.
pub(super) async fn holder(
    session: &Session,
    application: &str,
    (pipeline, key): (&str, &str),
    other_than: &str,
) -> Result<Option<String>, Fault> {
    let row = session.first(HOLDER, &[&application, &pipeline, &key, &other_than]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// What keeps a dead letter of a job from work.
pub(crate) async fn hindrance(session: &Session, membership: &Membership) -> Result<Option<Hindrance>, Fault> {
    let (application, job) = (&membership.application, &membership.job);
    let row = session.first(ROUNDS, &[application, job]).await?;
    let rounds: Option<Vec<Uuid>> = row.map(|row| row.get(0));
    let holder = match &membership.key {
        Some(key) => holder(session, application, (&membership.pipeline, key), job).await?,
        None => None,
    };
    Ok(job_letters::hindrance(membership, rounds.as_deref(), holder))
}
