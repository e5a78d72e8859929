//! Answering one request: what it asks for is done or looked up, and the reply sent to whoever waits for it.

use std::{rc::Rc, time::Duration};

use lapin::types::AMQPValue;
use serde_json::{Value, json};

use super::{
    asking::{self, Views},
    entities,
    methods::{self, Method, Work},
    mingle,
    outlet::{Outlet, transient},
    replies,
    request::{ReplyTo, Request},
    state::{EventsWanted, State},
    stored_ids::StoredIds,
    wording::{error, ok},
    work::{self, Reply},
};
use crate::{control::types::Command, process};

/// How long the reply to a revocation waits for results. Whoever asks waits for a second, unless it says otherwise.
const STORING: Duration = Duration::from_millis(700);
/// Longest reply, in bytes.
const REPLY_LIMIT: usize = 8 * 1024 * 1024;

/// What a request needs to be answered, in one session.
pub(super) struct Answering {
    pub(super) state: Rc<State>,
    pub(super) replies: Outlet,
    pub(super) views: Rc<Views>,
    pub(super) stored_ids: Rc<StoredIds>,
}

impl Answering {
    /// Does what is asked for, and replies if somebody waits.
    pub(super) async fn answer(&self, request: Request) {
        let Request { method, arguments, reply_to } = request;
        let reply = match methods::read(&method, &arguments) {
            Ok(asked) => self.reply(&method, asked).await,
            Err(reply) => Some(reply),
        };
        if let (Some(reply), Some(reply_to)) = (reply, reply_to) {
            self.send(reply, &reply_to).await;
        }
    }

    /// `None`: there is nothing to say.
    async fn reply(&self, method: &str, asked: Method) -> Option<Value> {
        let state = &self.state;
        match asked {
            // Asked of the master's loop: who answers for it without it would say of a deaf one that it is well.
            Method::Ping => {
                asking::command(state, Command::Schedules {}).await.ok()?;
                Some(ok("pong"))
            }
            Method::Clock => Some(json!({ "clock": state.forward() })),
            Method::Hello { from, .. } if from == state.settings.name => None,
            Method::Hello { revoked, .. } => {
                mingle::heard(state, revoked).await;
                self.stored_ids.store().await;
                Some(mingle::known(state))
            }
            // The event is the answer.
            Method::Heartbeat => Some(Value::Null),
            Method::EnableEvents => Some(self.enable_events()),
            Method::DisableEvents => Some(self.disable_events()),
            Method::Revoked => {
                let mut revoked = state.revoked.borrow_mut();
                revoked.purge(state.now());
                Some(revoked.ids().collect())
            }
            Method::Memory => Some(memory()),
            Method::Known(reply) => Some(reply),
            Method::Look(look) => Some(match self.views.view().await {
                Ok(view) => replies::look(&look, &view, &state.facts()),
                Err(cause) => error(&cause),
            }),
            Method::Work(_) if !state.settings.works => {
                state.deny(method);
                Some(work::denied(method, &state.settings.name))
            }
            Method::Work(work) => self.work(work).await,
        }
    }

    async fn work(&self, work: Work) -> Option<Value> {
        let view = if work::needs_view(&work) { self.views.view().await } else { Ok(Rc::default()) };
        let view = match view {
            Ok(view) => view,
            Err(cause) => return Some(error(&cause)),
        };
        let revoked = if let Work::Revoke { ids, .. } = &work { ids.clone() } else { Vec::new() };
        let plan = work::plan(work, &view);
        // Before anything is waited for: whoever asks next what is revoked is told of these.
        self.state.revoked.borrow_mut().add(self.state.now(), revoked.iter().cloned());
        let mut last = Value::Null;
        for command in plan.commands {
            match asking::command(&self.state, command).await {
                Ok(answer) => last = answer,
                Err(cause) => return Some(error(&cause)),
            }
        }
        if !revoked.is_empty() {
            self.stored_ids.store().await;
            self.store_results(work::elsewhere(&last)).await;
        }
        match plan.reply {
            Reply::This(reply) => Some(reply),
            Reply::Said => Some(ok(last.as_str().unwrap_or_default())),
            Reply::Terminated => Some(work::terminated(&last)),
            Reply::StampsTerminated(headers) => Some(work::stamps_terminated(&headers, &last)),
            Reply::None => None,
        }
    }

    /// Revoked tasks that are not here get their results now, and not only when they come. The reply waits for that, but not for long.
    async fn store_results(&self, ids: Vec<String>) {
        if !ids.is_empty() {
            let stored = asking::command(&self.state, Command::CeleryStoreRevoked { ids });
            // They are stored later, or when their tasks come.
            let _ = tokio::time::timeout(STORING, stored).await;
        }
    }

    fn enable_events(&self) -> Value {
        if self.state.settings.events == EventsWanted::Off {
            return error("events of tasks are never told here: its settings say `celery: { events: off }`");
        }
        ok(if self.state.ask_for_events() { "task events already enabled" } else { "task events enabled" })
    }

    fn disable_events(&self) -> Value {
        if self.state.settings.events == EventsWanted::On {
            return error("events of tasks are always told here: its settings say `celery: { events: on }`");
        }
        ok(if self.state.end_events() { "task events disabled" } else { "task events already disabled" })
    }

    /// A reply that cannot be sent is lost, as whoever waits knows.
    async fn send(&self, reply: Value, reply_to: &ReplyTo) {
        let name = &self.state.settings.name;
        let mut body = json!({ name.as_str(): reply }).to_string();
        if body.len() > REPLY_LIMIT {
            body = json!({ name.as_str(): error("the reply is too long") }).to_string();
        }
        let clock = i64::try_from(self.state.forward()).unwrap_or(i64::MAX);
        let ticket = reply_to.ticket.as_deref().map_or(AMQPValue::Void, |ticket| AMQPValue::LongString(ticket.into()));
        let headers = entities::table(&[("ticket", ticket), ("clock", AMQPValue::LongLongInt(clock))]);
        let sent =
            self.replies.publish(&reply_to.routing_key, transient().with_headers(headers), body.as_bytes()).await;
        if let Err(cause) = sent {
            tracing::debug!(target: "asynctask::celery", "a reply was not sent: {cause}");
        }
    }
}

/// In the words of Celery's `memsample`.
fn memory() -> Value {
    let bytes = process::memory::resident_bytes(std::process::id());
    bytes.map_or(Value::Null, |bytes| format!("{:.3}MB", bytes as f64 / f64::from(1 << 20)).into())
}
