//! The listener, and the thread behind it.
//!
//! One request a connection, GET and HEAD alone. A client has [`PATIENCE`] for everything: to say what it wants, and to take
//! the answer. A head of more than 16 KiB is refused, a body is never read, and of more than [`CLIENTS`] at once the one
//! with the longest connection is closed. The page and the answer to the probe of readiness are made at most once a
//! second, one at a time, however many clients ask or close meanwhile: no client decides how often the master and its
//! transport count.

mod responder;

use std::{io, net::SocketAddr, rc::Rc, thread, time::Duration};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

use self::responder::Responder;
use super::reading::Master;
use crate::{
    clock::Clock,
    net::connection_limit::{self, ConnectionLimit},
};

/// Clients at once; beyond that the oldest goes.
const CLIENTS: usize = 32;
/// How long a connection may last.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const HEAD: usize = 16 * 1024;

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
                    () = accept(listener, Rc::new(Responder::new(master, began_at))) => {}
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

async fn accept(listener: TcpListener, responder: Rc<Responder>) {
    let limit = ConnectionLimit::at_most(CLIENTS);
    loop {
        let (stream, _) = connection_limit::accepted(|| listener.accept()).await;
        let responder = Rc::clone(&responder);
        // A client that breaks off, says nonsense or takes too long is no error of ours.
        limit.spawn(|_| async move { drop(timeout(PATIENCE, converse(stream, responder)).await) });
    }
}

async fn converse(stream: TcpStream, responder: Rc<Responder>) -> Result<(), hyper::Error> {
    let answer = service_fn(move |request: Request<Incoming>| {
        let responder = Rc::clone(&responder);
        async move { Ok::<_, std::convert::Infallible>(responder.answer(&request).await) }
    });
    let mut connection = http1::Builder::new();
    // A client may have said all it has to say before it reads.
    connection.keep_alive(false).half_close(true).max_buf_size(HEAD).max_headers(64);
    connection.serve_connection(TokioIo::new(stream), answer).await
}
