//! The listener, and the thread behind it.
//!
//! One request a connection, GET and HEAD alone. A client has [`PATIENCE`] for everything: to say what it wants, and to take
//! the answer. A head of more than 16 KiB is refused, a body is never read, and of more than [`CLIENTS`] at once the one
//! that has been there longest goes. The page and what the probe of readiness says are made at most once a
//! second, however many ask, so that nobody outside decides how often the master and its transport count.

use std::{io, net::SocketAddr, rc::Rc, thread, time::Duration};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, oneshot},
    time::timeout,
};

use self::plumbing::{Stream, Text};
use super::{
    Master, Question, Reading,
    page::{self, Page},
};
use crate::{
    clients::Clients,
    clock::{Clock, Instant, Timestamp},
    control::{
        server::Asked,
        types::{Answer, Command},
    },
    process::own::Usage,
    transport::Depth,
};

mod plumbing;

/// Clients at once; beyond that the oldest goes.
const CLIENTS: usize = 32;
/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;
/// The master's loop answers within that, or it is stuck.
const LOOP: Duration = Duration::from_secs(2);
/// How long the transport may count for a page; `health` itself waits up to 3 s for it.
const COUNTING: Duration = Duration::from_secs(2);
/// How long `health` may take.
const HEALTH: Duration = Duration::from_secs(5);
/// An answer is good for that long.
const FRESH: Duration = Duration::from_secs(1);

/// A bound address on which nothing is answered yet.
#[derive(Debug)]
pub struct Listener {
    listener: std::net::TcpListener,
}

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// What the operating system says, such as that it is in use.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Where it listens: the port that was found, if any was wanted.
    ///
    /// # Errors
    /// If the operating system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Begins to answer for this master, until what is returned is dropped.
    ///
    /// # Errors
    /// If the thread or its event loop cannot be made.
    pub fn serve(self, master: Master) -> io::Result<Server> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let (running, ended) = oneshot::channel();
        let began_at = Clock::wall();
        thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let Ok(listener) = TcpListener::from_std(self.listener) else { return };
                tokio::select! {
                    () = accept(listener, Rc::new(Office::new(master, began_at))) => {}
                    // The sender is dropped; nothing is ever sent.
                    _ = ended => {}
                }
            });
        })?;
        Ok(Server { _running: running })
    }
}

/// Answers while it lives.
#[derive(Debug)]
pub struct Server {
    _running: oneshot::Sender<()>,
}

async fn accept(listener: TcpListener, office: Rc<Office>) {
    let clients = Clients::at_most(CLIENTS);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: those of clients come back within their patience.
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        let office = Rc::clone(&office);
        // A client that breaks off, says nonsense or takes too long is none of our business.
        clients.admit(async move { drop(timeout(PATIENCE, converse(stream, office)).await) });
    }
}

async fn converse(stream: TcpStream, office: Rc<Office>) -> Result<(), hyper::Error> {
    let answer = service_fn(move |request: Request<Incoming>| {
        let office = Rc::clone(&office);
        async move { Ok::<_, std::convert::Infallible>(office.answer(&request).await) }
    });
    let mut connection = http1::Builder::new();
    // A client may have said all it has to say before it reads.
    connection.keep_alive(false).half_close(true).max_buf_size(HEAD).max_headers(64);
    connection.serve_connection(Stream(stream), answer).await
}

/// What was said last, and when.
type Last = Mutex<Option<(Instant, Answered)>>;

#[derive(Clone, Debug)]
struct Answered {
    status: StatusCode,
    kind: &'static str,
    text: Bytes,
}

impl Answered {
    fn plain(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", text: text.into() }
    }

    fn unavailable(text: &'static str) -> Self {
        Self::plain(StatusCode::SERVICE_UNAVAILABLE, text)
    }
}

/// Answers requests with what the master says.
struct Office {
    master: Master,
    began_at: Timestamp,
    clock: Clock,
    page: Last,
    health: Last,
}

impl Office {
    fn new(master: Master, began_at: Timestamp) -> Self {
        Self { master, began_at, clock: Clock::start(), page: Last::default(), health: Last::default() }
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Text> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let answered = match request.uri().path() {
            "/metrics" | "/livez" | "/readyz" if !is_read => {
                Answered::plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD are answered here\n")
            }
            "/metrics" => self.fresh(&self.page, self.page()).await,
            "/readyz" => self.fresh(&self.health, self.health()).await,
            "/livez" => self.alive().await,
            _ => Answered::plain(StatusCode::NOT_FOUND, "/metrics, /livez and /readyz are here\n"),
        };
        let mut response = Response::new(Text::from(answered.text));
        *response.status_mut() = answered.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answered.kind));
        if answered.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }

    /// What was said last if that is fresh, else what is made now. Who comes meanwhile waits for the same.
    async fn fresh(&self, last: &Last, made: impl Future<Output = Answered>) -> Answered {
        let mut last = last.lock().await;
        if let Some((at, answered)) = &*last
            && self.clock.now().at.since(*at) < FRESH
        {
            return answered.clone();
        }
        let answered = made.await;
        *last = Some((self.clock.now().at, answered.clone()));
        answered
    }

    async fn alive(&self) -> Answered {
        match self.ask(Question::Alive).await {
            Some(()) => Answered::plain(StatusCode::OK, "alive\n"),
            None => Answered::unavailable(STUCK),
        }
    }

    async fn page(&self) -> Answered {
        let Some(reading) = self.ask(Question::Read).await else { return Answered::unavailable(STUCK) };
        let (reading, depths) = counted(reading).await;
        let page = Page { reading, depths, usage: Usage::read(self.began_at) };
        Answered { status: StatusCode::OK, kind: page::CONTENT_TYPE, text: page.text().into() }
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

const STUCK: &str = "the master's loop does not answer\n";

/// Waits a little for the transport's counts.
async fn counted(mut reading: Reading) -> (Reading, Option<Vec<Depth>>) {
    let depths = match timeout(COUNTING, &mut reading.depths).await {
        Ok(Ok(Ok(depths))) => Some(depths),
        _ => None,
    };
    (reading, depths)
}
