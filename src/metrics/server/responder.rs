//! Answers requests: asks the master, and keeps its answer for the requests of the same second.
//!
//! However many requests come, the transport may never be asked to count more than once a second: probes of many machines must
//! not become its work. And no answer may be waited for without a limit, since a stuck loop is what a probe is to find out.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue, VARY},
};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use crate::{
    clock::{Clock, Instant, Timestamp},
    control::{
        server::Asked,
        types::{Answer, Command},
    },
    metrics::{
        form::{self, Form},
        page::Page,
        reading::{Master, Question},
    },
    process::self_usage::Usage,
    transport::{self, Depth},
};

/// The master's loop answers within that, or it is stuck.
const LOOP: Duration = Duration::from_secs(2);
/// How long the transport may count for a page; `health` itself waits up to 3 s for it.
const COUNTING: Duration = Duration::from_secs(2);
/// How long `health` may take.
const HEALTH: Duration = Duration::from_secs(5);
/// An answer is good for that long.
const FRESH: Duration = Duration::from_secs(1);

const STUCK: &str = "the master's loop does not answer\n";

#[derive(Clone, Debug)]
struct Answered {
    status: StatusCode,
    kind: &'static str,
    text: Bytes,
    /// The same in the classic form, of the page of numbers.
    classic: Option<Bytes>,
}

impl Answered {
    fn plain(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", text: text.into(), classic: None }
    }

    /// A page of numbers, in the form that this one is.
    fn page(openmetrics: String) -> Self {
        let classic = Some(form::classic(&openmetrics).into());
        let kind = Form::OpenMetrics.content_type();
        Self { status: StatusCode::OK, kind, text: openmetrics.into(), classic }
    }

    /// In the form that is asked for, where there are several.
    fn for_request(self, request: &Request<Incoming>) -> Self {
        let accept = request.headers().get_all(ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        match (self.classic, Form::wanted(accept)) {
            (Some(text), form @ Form::Classic) => Self { text, kind: form.content_type(), classic: None, ..self },
            (classic, _) => Self { classic, ..self },
        }
    }

    fn unavailable(text: &'static str) -> Self {
        Self::plain(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

/// An answer that is made once for all requests of the same second.
#[derive(Default)]
struct Shared {
    last: RefCell<Option<(Instant, Answered)>>,
    is_being_made: Cell<bool>,
    made: Notify,
}

/// Answers requests with what the master says.
pub(super) struct Responder {
    master: Master,
    began_at: Timestamp,
    clock: Clock,
    page: Shared,
    health: Shared,
    /// The transport's counts that did not come in time. Nothing more is asked of it before they do.
    late: RefCell<Option<Counting>>,
}

/// Counts under way, of these queues.
struct Counting {
    queues: Vec<String>,
    depths: oneshot::Receiver<Result<Vec<Depth>, transport::Error>>,
}

impl Responder {
    pub(super) fn new(master: Master, began_at: Timestamp) -> Self {
        let (page, health, late) = (Shared::default(), Shared::default(), RefCell::default());
        Self { master, began_at, clock: Clock::start(), page, health, late }
    }

    pub(super) async fn answer(self: &Rc<Self>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let responder = Rc::clone(self);
        let answered = match request.uri().path() {
            "/metrics" | "/livez" | "/readyz" if !is_read => {
                Answered::plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are answered here\n")
            }
            "/metrics" => self.shared(|responder| &responder.page, async move { responder.page().await }).await,
            "/readyz" => self.shared(|responder| &responder.health, async move { responder.health().await }).await,
            "/livez" => self.alive().await,
            _ => Answered::plain(StatusCode::NOT_FOUND, "/metrics, /livez and /readyz are here\n"),
        };
        let has_forms = answered.classic.is_some();
        let answered = answered.for_request(request);
        let mut response = Response::new(Full::new(answered.text));
        *response.status_mut() = answered.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answered.kind));
        if has_forms {
            response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
        }
        if answered.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }

    /// What was said last if that is fresh, else what is being made, or is made now.
    async fn shared(
        self: &Rc<Self>,
        of: fn(&Self) -> &Shared,
        making: impl Future<Output = Answered> + 'static,
    ) -> Answered {
        let shared = of(self);
        let now = self.clock.now().at;
        let fresh = shared.last.borrow().clone().filter(|(at, _)| now.since(*at) < FRESH);
        if let Some((_, answered)) = fresh {
            return answered;
        }
        // Made before the question: a `Notified` hears of everything since its making.
        let made = shared.made.notified();
        if !shared.is_being_made.replace(true) {
            let responder = Rc::clone(self);
            // A task of its own: the client that asked first may close, and others wait for the same answer.
            tokio::task::spawn_local(async move {
                let answered = making.await;
                let shared = of(&responder);
                shared.last.replace(Some((responder.clock.now().at, answered)));
                shared.is_being_made.set(false);
                shared.made.notify_waiters();
            });
        }
        made.await;
        let last = shared.last.borrow().clone();
        last.map_or_else(|| Answered::unavailable(STUCK), |(_, answered)| answered)
    }

    async fn alive(&self) -> Answered {
        match self.ask(Question::Alive).await {
            Some(()) => Answered::plain(StatusCode::OK, "alive\n"),
            None => Answered::unavailable(STUCK),
        }
    }

    async fn page(&self) -> Answered {
        let count = self.late.borrow().is_none();
        let Some(mut reading) = self.ask(|reply| Question::Read { count, reply }).await else {
            return Answered::unavailable(STUCK);
        };
        let asked = reading.depths.take().map(|depths| {
            let queues = reading.queues.iter().map(|queue| queue.name.clone()).collect();
            Counting { queues, depths }
        });
        let late = self.late.take();
        let depths = match late.or(asked) {
            Some(counting) => self.counted(counting).await,
            None => BTreeMap::new(),
        };
        let page = Page { reading, depths, usage: Usage::read(self.began_at) };
        Answered::page(page.text())
    }

    /// Waits a little for the transport's counts.
    async fn counted(&self, mut counting: Counting) -> BTreeMap<String, Depth> {
        match timeout(COUNTING, &mut counting.depths).await {
            Ok(Ok(Ok(depths))) => counting.queues.into_iter().zip(depths).collect(),
            Ok(_) => BTreeMap::new(),
            Err(_) => {
                self.late.replace(Some(counting));
                BTreeMap::new()
            }
        }
    }

    async fn health(&self) -> Answered {
        let (reply, answer) = oneshot::channel();
        let asked = Asked { command: Command::Health {}, by: "a probe".to_owned(), reply };
        if self.master.commands.send(asked).is_err() {
            return Answered::unavailable(STUCK);
        }
        let Ok(Ok(Answer::Done(health))) = timeout(HEALTH, answer).await else { return Answered::unavailable(STUCK) };
        if health["healthy"] == true {
            return Answered::plain(StatusCode::OK, "healthy\n");
        }
        let problems = health["problems"].as_array().into_iter().flatten();
        let text: String = problems.flat_map(|problem| [problem.as_str().unwrap_or_default(), "\n"]).collect();
        Answered::plain(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// Asks the master's loop; `None`: it is stuck, or over.
    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.master.questions.send(question(reply)).ok()?;
        timeout(LOOP, answer).await.ok()?.ok()
    }
}
