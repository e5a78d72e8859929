//! The listener and the threads of the page's process.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use axum::Router;
use tokio::net::{TcpListener, UnixListener};

use super::{
    access::secret,
    connections::Listener,
    dead_letters::Source,
    history::History,
    office::{Office, Recorder},
    page::{Application, Page},
    socket_file::{self, SocketFile},
};
use crate::config::dashboard::{Dashboard, Listen};

/// What the page is made of.
pub(crate) struct Run<'a> {
    pub(crate) settings: &'a Dashboard,
    /// The master's control socket.
    pub(crate) socket: &'a Path,
    /// The key; `None`: one is made.
    pub(crate) key: Option<String>,
    /// Where dead letters are asked for, and what is known without asking.
    pub(crate) source: (Source, Application),
    /// Its addresses.
    pub(crate) router: fn(Arc<Page>) -> Router,
    /// Takes what ended.
    pub(crate) recorder: Recorder,
    /// What is kept of it.
    pub(crate) history: Arc<History>,
    /// Told once it listens: the link that opens it.
    pub(crate) ready: Box<dyn FnOnce(&Opened) + 'a>,
}

/// It listens.
pub(crate) struct Opened {
    /// Where.
    pub(crate) at: String,
    /// The link with the key; `None`: people log in.
    pub(crate) link: Option<String>,
    /// The Unix socket that is to be forwarded to that address first.
    pub(crate) socket: Option<PathBuf>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// It cannot listen there.
    #[error("{0}")]
    Listen(io::Error),
    /// The system does not give it what it needs: random bytes, a thread.
    #[error(transparent)]
    Internal(#[from] io::Error),
}

/// The thread that asks the master, until this is dropped.
struct Asker {
    is_open: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Asker {
    fn start(office: Arc<Office>, recorder: Recorder) -> io::Result<Self> {
        let is_open = Arc::new(AtomicBool::new(true));
        let goes_on = Arc::clone(&is_open);
        let ask = move || office.run(recorder, || goes_on.load(Ordering::Relaxed));
        Ok(Self { is_open, thread: Some(thread::Builder::new().name("office".to_owned()).spawn(ask)?) })
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.is_open.store(false, Ordering::Relaxed);
        // It ends with its round; a panic in it was told where it happened.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Serves the page until `ended` is done.
///
/// # Errors
/// [`Fault`]; its threads have ended then.
pub(crate) fn run(run: Run<'_>, ended: impl Future<Output = ()>) -> Result<(), Fault> {
    let Run { settings, socket, key, source, router, recorder, history, ready } = run;
    let (bound, port, _file) = bind(&settings.listen).map_err(Fault::Listen)?;
    let key = match key {
        Some(key) => key,
        None => secret::random()?,
    };
    let office = Office::new(socket);
    let page = Arc::new(Page::new(settings, port, &key, Arc::clone(&office), history, source));
    let at = base(settings, port);
    let link = settings.users.is_empty().then(|| format!("{at}/open?key={key}"));
    let socket = match &settings.listen {
        Listen::Unix(path) if settings.url.is_none() => Some(path.clone()),
        Listen::Unix(_) | Listen::Tcp(_) => None,
    };
    let _asker = Asker::start(office, recorder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let router = router(page);
    let served = tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = bound.listen()?;
        ready(&Opened { at, link, socket });
        tokio::select! {
            () = listener.serve(router) => {}
            () = ended => {}
        }
        Ok(())
    });
    // A password under check holds up no end.
    runtime.shutdown_background();
    served.map_err(Fault::Internal)
}

/// The address for links: as people open it, else where it listens.
fn base(settings: &Dashboard, port: Option<u16>) -> String {
    match (&settings.url, &settings.listen) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Listen::Tcp(address)) => {
            let mut address = *address;
            address.set_port(port.unwrap_or_default());
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            format!("http://{address}")
        }
        // As through `ssh -L 5555:PATH`.
        (None, Listen::Unix(_)) => "http://localhost:5555".to_owned(),
    }
}

fn bind(listen: &Listen) -> io::Result<(Bound, Option<u16>, Option<SocketFile>)> {
    match listen {
        Listen::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            Ok((Bound::Tcp(listener), Some(port), None))
        }
        Listen::Unix(path) => {
            let (listener, file) = socket_file::bind(path)?;
            Ok((Bound::Unix(listener), None, Some(file)))
        }
    }
}

impl Bound {
    fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener) => Listener::Unix(UnixListener::from_std(listener)?),
        })
    }
}
