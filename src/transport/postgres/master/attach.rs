//! A session for work: one that holds the lock of an owner number for life, or the locks of a lease or ledger.
//!
//! The lock is held by the very session that claims, so that nobody can write as an owner whose lock is free. It is taken before the
//! number can be seen by others.

use std::{collections::HashMap, rc::Rc, time::Duration};

use tokio::sync::mpsc;

use crate::transport::postgres::{
    connect::{
        address::Address,
        fault::{Fault, Kind},
        session::{Heard, Role, Session},
    },
    jobs::stopped::Seen,
    keys,
    schema::{migrate, queue_ids::QueueIds},
    tasks::unique_keys,
};

/// Tries to take the lock that a session of ours has which the server has not noticed to be gone.
const TRIES: u32 = 40;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
/// The name of a session for work ends with this, and nobody else's does.
pub(super) const WORK_SUFFIX: &str = "/work";

const TRY_LOCK: &str = "SELECT pg_try_advisory_lock($1)";
const END_OTHERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                          WHERE application_name = $1 AND pid <> pg_backend_pid() AND datname = current_database()";
const REGISTER: &str = "INSERT INTO @.master (owner, host, pid, backend, program, attached_at) \
                        VALUES ($1, $2, $3, $4, $5, @.now_ms())";
const REGISTERED: &str = "UPDATE @.master SET backend = $2 WHERE owner = $1";
const NODE: &str =
    "INSERT INTO @.node (owner, waits) VALUES ($1, false) ON CONFLICT (owner) DO UPDATE SET waits = false";
const BOOT: &str = "INSERT INTO @.boot (seen) VALUES (@.now_ms()) ON CONFLICT DO NOTHING";
/// For how many milliseconds all sessions may have been cut.
const SINCE_BOOT: &str = "SELECT @.now_ms() - greatest((SELECT seen FROM @.boot), \
                          floor(extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint)";
/// What is in hand of queues that are worked no more goes back.
pub(super) const RELEASE_OTHERS: &str = "UPDATE @.task SET state = 0, owner = 0, claim = claim % 1000000000 + 1, redelivered = true \
                              WHERE state = 1 AND owner = $1 AND queue <> ALL ($2)";

/// What is to be connected.
pub(super) struct Wanted {
    pub(super) address: Rc<Address>,
    /// For `application_name`, without the suffix.
    pub(super) name: Rc<str>,
    /// The owner number that was had before; 0: none. `None`: not a master.
    pub(super) owner: Option<i64>,
    /// Nothing is created.
    pub(super) passive: bool,
    /// Names of the queues that are to be attached.
    pub(super) queues: Vec<String>,
    pub(super) ids: Rc<QueueIds>,
}

/// A session for work.
pub(super) struct Connected {
    pub(super) session: Session,
    pub(super) heard: mpsc::UnboundedReceiver<Heard>,
    pub(super) owner: i64,
    /// It is the owner that was had before.
    pub(super) is_same: bool,
    /// Ids of the queues, by their names.
    pub(super) queues: HashMap<String, i32>,
    /// Void rounds and frozen jobs that there are.
    pub(super) seen: Seen,
    /// Time until others may be judged.
    pub(super) judges_in: Duration,
}

/// The name of this host, as others are told it.
pub(in crate::transport::postgres) fn host() -> String {
    nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// Builds it.
pub(super) async fn connect(wanted: &Wanted) -> Result<Connected, Fault> {
    let name = format!("{}{WORK_SUFFIX}", wanted.name);
    let (session, heard) = Session::connect(&wanted.address, Role::Work, &name).await?;
    let schema = &wanted.address.schema;
    if !migrate::provide(&session, schema, !wanted.passive).await? {
        let cause = format!("there is no schema {schema}; asynctask schema --sql prints what makes it");
        return Err(Fault::new(Kind::Refused, cause));
    }
    if wanted.address.listens {
        // What is stored from here on is heard; what was stored before is looked for once.
        session.batch(&format!("LISTEN {}", channel(schema))).await?;
    }
    let names = wanted.queues.iter().map(String::as_str);
    let queues = if wanted.passive {
        known_queues(&session, &wanted.queues).await?
    } else {
        let ids = wanted.ids.provide(&session, names).await?;
        ids.into_iter().map(|(name, id)| (name.to_owned(), id)).collect()
    };
    let seen = Seen::all(&session).await?;
    let Some(former) = wanted.owner else {
        let (owner, is_same, judges_in) = (0, false, Duration::MAX);
        return Ok(Connected { session, heard, owner, is_same, queues, seen, judges_in });
    };
    if former == 0 {
        refuse_pool(&session, &wanted.address, &name).await?;
    }
    let (owner, is_same) = own(&session, former, &name).await?;
    session.run(NODE, &[&owner]).await?;
    session.run(BOOT, &[]).await?;
    let since: i64 = session.first(SINCE_BOOT, &[]).await?.map_or(0, |row| row.get(0));
    let grace = wanted.address.grace;
    let judges_in = if former == 0 {
        grace.saturating_sub(Duration::from_millis(u64::try_from(since).unwrap_or(0)))
    } else {
        grace
    };
    Ok(Connected { session, heard, owner, is_same, queues, seen, judges_in })
}

/// The channel of a schema.
pub(super) fn channel(schema: &str) -> String {
    format!("asynctask_{schema}")
}

async fn known_queues(session: &Session, names: &[String]) -> Result<HashMap<String, i32>, Fault> {
    let mut ids = HashMap::new();
    for name in names {
        let row = session.first("SELECT id FROM @.queue WHERE name = $1", &[name]).await?;
        let Some(row) = row else {
            return Err(Fault::new(Kind::Refused, format!("queue \"{name}\" does not exist")));
        };
        ids.insert(name.clone(), row.get(0));
    }
    Ok(ids)
}

/// Becomes the owner that we were, if its row is still there, or a new one.
async fn own(session: &Session, former: i64, name: &str) -> Result<(i64, bool), Fault> {
    if former != 0 && take_lock(session, former, Some(name)).await? {
        if session.run(REGISTERED, &[&former, &session.backend]).await? > 0 {
            return Ok((former, true));
        }
        session.rows("SELECT pg_advisory_unlock($1)", &[&former]).await?;
    }
    loop {
        let owner = keys::new_owner()
            .map_err(|error| Fault::new(Kind::Refused, format!("there are no random numbers: {error}")))?;
        if take_lock(session, owner, None).await? {
            let (host, pid) = (host(), std::process::id() as i32);
            let program = env!("CARGO_PKG_VERSION");
            session.run(REGISTER, &[&owner, &host, &pid, &session.backend, &program]).await?;
            return Ok((owner, false));
        }
    }
}

/// Takes a lock; from a session of ours that the server has not noticed to be gone, by ending that.
async fn take_lock(session: &Session, owner: i64, from: Option<&str>) -> Result<bool, Fault> {
    for attempt in 0..TRIES {
        if session.first(TRY_LOCK, &[&owner]).await?.is_some_and(|row| row.get(0)) {
            return Ok(true);
        }
        let Some(name) = from else { return Ok(false) };
        if attempt == 0 {
            session.rows(END_OTHERS, &[&name]).await?;
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    Ok(false)
}

/// A lock of a session means nothing behind a pool that gives each transaction another one. While another connection of ours sits in a
/// transaction, the pool has to give this one another backend than before, or the same one as that.
async fn refuse_pool(session: &Session, address: &Address, name: &str) -> Result<(), Fault> {
    let (probe, _) = Session::connect(address, Role::Side, name).await?;
    probe.batch("BEGIN").await?;
    let other = probe.rows_of("SELECT pg_backend_pid()", &[]).await?;
    let ours = session.rows_of("SELECT pg_backend_pid()", &[]).await?;
    let pid = |rows: &[tokio_postgres::Row]| rows.first().map_or(0, |row| row.get::<_, i32>(0));
    let is_pooled = pid(&ours) != session.backend || pid(&ours) == pid(&other);
    probe.batch("ROLLBACK").await?;
    probe.close().await;
    if is_pooled {
        let cause = "masters need sessions of their own, and this is a pool of transactions: use the server's own port, or \
                     pool_mode = session";
        return Err(Fault::new(Kind::Refused, cause));
    }
    Ok(())
}

/// Leaves in order: tasks in hand go back with their count of deliveries as it was. Gives the queues with something to claim.
pub(super) async fn leave(session: &Session, owner: i64) -> Result<(), Fault> {
    session
        .transaction(async |session| {
            session.run(super::judge::RETURN_UNCOUNTED, &[&owner]).await?;
            session.run(unique_keys::GIVE_BACK_ALL, &[&owner]).await?;
            session.run("DELETE FROM @.node WHERE owner = $1", &[&owner]).await?;
            session.run("DELETE FROM @.master WHERE owner = $1", &[&owner]).await.map(drop)
        })
        .await
}
