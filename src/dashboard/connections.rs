//! The page's connections: how many there are at once, and how long each may take.
//!
//! A client has [`HEAD_PATIENCE`] to say what it wants, from its connection or its last answer on, and [`CHANGE_PATIENCE`] for a change
//! with its body. Of more than [`MOST`] connections the one is closed whose last request is the oldest, so a crowd that asks for
//! nothing keeps out nobody who does.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    time::timeout,
};

use super::{access::Peer, answer, page::Caller};
use crate::net::connection_limit::{self, ConnectionGuard, ConnectionLimit};

/// Connections at once. A browser has six.
const MOST: usize = 512;
/// How long a client may take for a head, and for the pause before it.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a change may take, the reading of its body and the passwords that are checked before its own included.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const HEAD: usize = 32 * 1024;
/// Lines of a head.
const HEADERS: usize = 64;

/// Where it listens.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Answers whoever comes, for ever, on a local set.
    pub(super) async fn serve(self, router: Router) {
        let limit = ConnectionLimit::at_most(MOST);
        match self {
            Self::Tcp(listener) => loop {
                let (stream, address) = connection_limit::accepted(|| listener.accept()).await;
                // Small parts of a stream are seen at once; without it they are seen later.
                let _ = stream.set_nodelay(true);
                let router = router.clone();
                limit.spawn(|guard| converse(stream, router, Peer::Address(address.ip()), guard));
            },
            Self::Unix(listener) => loop {
                let (stream, _) = connection_limit::accepted(|| listener.accept()).await;
                let router = router.clone();
                limit.spawn(|guard| converse(stream, router, Peer::Local, guard));
            },
        }
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    router: Router,
    peer: Peer,
    guard: ConnectionGuard,
) {
    let router = TowerToHyperService::new(router);
    let answer = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        guard.touch();
        request.extensions_mut().insert(ConnectInfo(Caller(peer)));
        router.call(request)
    });
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    // Who has closed its side is gone: a stream counts as long as somebody reads it.
    connection.half_close(false).max_buf_size(HEAD).max_headers(HEADERS);
    // One that breaks off, says nonsense or takes too long is no error of ours.
    drop(connection.serve_connection(TokioIo::new(stream), answer).await);
}

/// Gives up a change that takes too long, be it for its body.
pub(super) async fn in_time(request: Request<Body>, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    match timeout(CHANGE_PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => answer::problem(StatusCode::REQUEST_TIMEOUT, "that took too long"),
    }
}
