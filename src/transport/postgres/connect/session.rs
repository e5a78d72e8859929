//! One connection to the server, with its settings and its prepared statements.
//!
//! Settings are made by statements after connecting: poolers refuse them as options of the start. Statements name the schema as `@.`,
//! which is replaced when they are prepared, so that nothing depends on `search_path`.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Row, Statement, types::ToSql};

use super::{
    address::Address,
    fault::{Fault, Kind},
    pipeline::Call,
};

/// Parameters of a statement.
pub(crate) type Params<'a> = [&'a (dyn ToSql + Sync)];

/// What is heard on a session beside answers.
pub(crate) enum Heard {
    /// The payload of a notification.
    Notified(String),
    /// The session is gone.
    Ended(String),
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It claims, settles and holds locks: its plans do not depend on statistics.
    Work,
    /// Submits and short reads.
    Side,
    /// What may take long.
    Long,
    /// The upkeep: as long, and as independent of statistics as the claims.
    Keeper,
}

/// An open session. Dropped, it is closed at once.
pub(crate) struct Session {
    client: Client,
    /// As its own first answer said.
    pub(crate) backend: i32,
    schema: String,
    prepared: RefCell<HashMap<&'static str, Statement>>,
    link: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.link.abort();
    }
}

impl Session {
    /// Connects, and makes the settings.
    pub(crate) async fn connect(
        address: &Address,
        role: Role,
        name: &str,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Heard>), Fault> {
        let mut config = address.config.clone();
        config.application_name(name);
        let (sender, heard) = mpsc::unbounded_channel();
        let (client, link, version) = match &address.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                let version = version(connection.parameter("server_version"));
                (client, spawn(connection, sender), version)
            }
            Some(files) => {
                let connector = files.connector().map_err(|cause| Fault::new(Kind::Refused, cause))?;
                let (client, connection) = config.connect(connector).await?;
                let version = version(connection.parameter("server_version"));
                (client, spawn(connection, sender), version)
            }
        };
        let mut session =
            Self { client, backend: 0, schema: format!("{}.", address.schema), prepared: RefCell::default(), link };
        if version < 14 {
            return Err(Fault::new(Kind::Refused, format!("PostgreSQL {version} is too old; 14 is needed")));
        }
        session.client.batch_execute(&settings(role, version, address.dead_after)).await?;
        let row = session.client.query_one("SELECT pg_backend_pid()", &[]).await?;
        session.backend = row.get(0);
        Ok((session, heard))
    }

    /// Waits until the server has heard that it ends, for a short while.
    pub(crate) async fn close(mut self) {
        // The link ends by itself once the client is gone, and says so to the server.
        let link = std::mem::replace(&mut self.link, tokio::task::spawn_local(async {}));
        drop(self);
        let _ = tokio::time::timeout(Duration::from_secs(1), link).await;
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// A statement as it is sent, with the schema.
    pub(crate) fn with_schema(&self, sql: &str) -> String {
        sql.replace("@.", &self.schema)
    }

    /// Prepares a statement, once.
    pub(crate) async fn statement(&self, sql: &'static str) -> Result<Statement, Fault> {
        if let Some(known) = self.prepared.borrow().get(sql) {
            return Ok(known.clone());
        }
        let statement = self.client.prepare(&self.with_schema(sql)).await?;
        self.prepared.borrow_mut().insert(sql, statement.clone());
        Ok(statement)
    }

    /// Runs a statement, and gives its rows.
    pub(crate) async fn rows(&self, sql: &'static str, params: &Params<'_>) -> Result<Vec<Row>, Fault> {
        let statement = self.statement(sql).await?;
        self.client.query(&statement, params).await.map_err(|error| self.forget_plans(error.into()))
    }

    /// Runs a statement that is made here; its text holds nothing of anybody's.
    pub(crate) async fn rows_of(&self, sql: &str, params: &Params<'_>) -> Result<Vec<Row>, Fault> {
        Ok(self.client.query(&self.with_schema(sql), params).await?)
    }

    /// The first row, if there is one.
    pub(crate) async fn first(&self, sql: &'static str, params: &Params<'_>) -> Result<Option<Row>, Fault> {
        Ok(self.rows(sql, params).await?.into_iter().next())
    }

    /// Runs a statement, and gives how many rows it changed.
    pub(crate) async fn run(&self, sql: &'static str, params: &Params<'_>) -> Result<u64, Fault> {
        let statement = self.statement(sql).await?;
        self.client.execute(&statement, params).await.map_err(|error| self.forget_plans(error.into()))
    }

    /// Runs several statements without parameters.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), Fault> {
        Ok(self.client.batch_execute(&self.with_schema(sql)).await?)
    }

    /// A statement for a pipeline; it must be [prepared](Self::statement).
    pub(crate) fn call<'a>(
        &'a self,
        sql: &'static str,
        params: Vec<&'a (dyn ToSql + Sync)>,
    ) -> Call<'a, Result<Vec<Row>, Fault>> {
        Box::pin(async move {
            let statement = self.statement(sql).await?;
            self.client.query(&statement, &params).await.map_err(|error| self.forget_plans(error.into()))
        })
    }

    /// Statements without parameters for a pipeline.
    pub(crate) fn batch_call<'a>(&'a self, sql: &'static str) -> Call<'a, Result<Vec<Row>, Fault>> {
        Box::pin(async move { Ok(self.client.batch_execute(sql).await.map(|()| Vec::new())?) })
    }

    /// One transaction. Nothing of it is stored unless `work` and the commit succeed.
    pub(crate) async fn transaction<T>(&self, work: impl AsyncFnOnce(&Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.client.batch_execute("BEGIN").await?;
        match work(self).await {
            Ok(value) => {
                self.client.batch_execute("COMMIT").await.map_err(|error| Fault::from(error).of_commit())?;
                Ok(value)
            }
            Err(fault) => {
                // Where that fails the session is gone, and the transaction with it.
                let _ = self.client.batch_execute("ROLLBACK").await;
                Err(fault)
            }
        }
    }

    /// One snapshot of several reads.
    pub(crate) async fn snapshot<T>(&self, work: impl AsyncFnOnce(&Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let read = work(self).await;
        self.client.batch_execute("ROLLBACK").await?;
        read
    }

    /// The plan of a prepared statement may not fit any more (`cached plan must not change result type`).
    fn forget_plans(&self, fault: Fault) -> Fault {
        if fault.kind == Kind::Again {
            self.prepared.borrow_mut().clear();
        }
        fault
    }
}

/// Carries the bytes of a connection until it ends.
fn spawn<S, T>(mut connection: Connection<S, T>, heard: mpsc::UnboundedSender<Heard>) -> JoinHandle<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    tokio::task::spawn_local(async move {
        let end = loop {
            match std::future::poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(note))) => {
                    let _ = heard.send(Heard::Notified(note.payload().to_owned()));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => break Fault::from(error).cause,
                None => break "the connection was closed".to_owned(),
            }
        };
        let _ = heard.send(Heard::Ended(end));
    })
}

/// `15.18 (Debian …)` is 15.
fn version(text: Option<&str>) -> u32 {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.and_then(|text| digits(text).parse().ok()).unwrap_or(0)
}

/// A role or a database may have others of any of these by default.
fn settings(role: Role, version: u32, dead_after: Duration) -> String {
    let dead_after = dead_after.as_millis();
    let patience = if matches!(role, Role::Long | Role::Keeper) { 0 } else { 60_000 };
    let mut text = format!(
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; \
         SET statement_timeout = {patience}; SET lock_timeout = 5000; SET idle_in_transaction_session_timeout = 10000; \
         SET idle_session_timeout = 0; SET synchronous_commit = on; SET jit = off; SET client_min_messages = warning; \
         SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; \
         SET tcp_user_timeout = {}; SET client_connection_check_interval = 5000",
        dead_after - 4000
    );
    if matches!(role, Role::Work | Role::Keeper) {
        text.push_str(
            "; SET enable_seqscan = off; SET enable_bitmapscan = off; SET plan_cache_mode = force_generic_plan",
        );
    }
    if version >= 17 {
        text.push_str("; SET transaction_timeout = 0");
    }
    text
}
