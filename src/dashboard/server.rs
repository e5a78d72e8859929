//! The listener and the threads of the page's process.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
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
}

enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// Serves the page until `ended` is done.
///
/// # Errors
/// It cannot listen there.
pub(crate) fn run(run: Run<'_>, ended: impl Future<Output = ()>) -> io::Result<()> {
    let Run { settings, socket, key, source, router, recorder, history, ready } = run;
    let (bound, port) = bind(&settings.listen)?;
    let key = match key {
        Some(key) => key,
        None => secret::random()?,
    };
    let office = Office::new(socket);
    let page = Arc::new(Page::new(settings, port, &key, Arc::clone(&office), history, source));
    let at = base(settings, port);
    let link = settings.users.is_empty().then(|| format!("{at}/open?key={key}"));
    let is_open = Arc::new(AtomicBool::new(true));
    let asker = {
        let is_open = Arc::clone(&is_open);
        thread::Builder::new()
            .name("office".to_owned())
            .spawn(move || office.run(recorder, || is_open.load(Ordering::Relaxed)))?
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let router = router(page);
    let served = tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = bound.listen()?;
        ready(&Opened { at, link });
        tokio::select! {
            () = listener.serve(router) => {}
            () = ended => {}
        }
        Ok(())
    });
    is_open.store(false, Ordering::Relaxed);
    // A password under check holds up no end; the office ends with its round.
    runtime.shutdown_background();
    drop(asker.join());
    served
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

fn bind(listen: &Listen) -> io::Result<(Bound, Option<u16>)> {
    match listen {
        Listen::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            Ok((Bound::Tcp(listener), Some(port)))
        }
        Listen::Unix(path) => {
            // A socket that nobody answers at was left by a page that was killed.
            if std::os::unix::net::UnixStream::connect(path).is_err()
                && std::fs::symlink_metadata(path).is_ok_and(|file| is_socket(&file))
            {
                std::fs::remove_file(path)?;
            }
            let listener = std::os::unix::net::UnixListener::bind(path)?;
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok((Bound::Unix(listener), None))
        }
    }
}

fn is_socket(file: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_socket(&file.file_type())
}

impl Bound {
    fn listen(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener) => Listener::Unix(UnixListener::from_std(listener)?),
        })
    }
}
