//! The listener and the threads of the page's process.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use axum::{Router, extract::connect_info::Connected, serve::IncomingStream};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};

use super::{
    access::{
        Access, Peer, Proxy,
        hosts::Hosts,
        password::Throttle,
        secret::{self, Hashed},
        sessions::Sessions,
    },
    office::{Office, Recorder},
    routes,
};
use crate::{
    clock::Clock,
    config::dashboard::{Dashboard, Listen},
};

/// All that the page's requests share.
pub(crate) struct Page {
    pub(crate) access: Mutex<Access>,
    pub(crate) throttle: Mutex<Throttle>,
    /// One password is checked at a time.
    pub(crate) checking: Semaphore,
    /// How many wait for that.
    pub(crate) waiting: AtomicUsize,
    pub(crate) office: Arc<Office>,
    pub(crate) clock: Clock,
    /// Streams that are open.
    pub(crate) streams: AtomicUsize,
    pub(crate) proxy_headers: Option<(String, String)>,
    pub(crate) is_secure: bool,
    pub(crate) hide: super::mask::Mask,
}

/// What the page is made of.
pub(crate) struct Run<'a> {
    pub(crate) settings: &'a Dashboard,
    /// The master's control socket.
    pub(crate) socket: &'a Path,
    /// The key; `None`: one is made.
    pub(crate) key: Option<String>,
    /// Takes what ended.
    pub(crate) recorder: Recorder,
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
    let Run { settings, socket, key, recorder, ready } = run;
    let (bound, port) = bind(&settings.listen)?;
    let key = match key {
        Some(key) => key,
        None => secret::random()?,
    };
    let office = Office::new(socket);
    let page = Arc::new(page(settings, port, &key, Arc::clone(&office)));
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
    let router = routes::router(page);
    let served = runtime.block_on(async {
        let serving = serve(bound, router)?;
        ready(&Opened { at, link });
        tokio::select! {
            served = serving => served,
            () = ended => Ok(()),
        }
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

fn page(settings: &Dashboard, port: Option<u16>, key: &str, office: Arc<Office>) -> Page {
    let proxy = settings.proxy.as_ref();
    Page {
        access: Mutex::new(Access {
            hosts: Hosts::new(port, &settings.hosts, settings.url.as_deref()),
            key: Hashed::of(key),
            users: settings.users.clone(),
            proxy: proxy.map(|proxy| Proxy { peer: proxy.from, secret: Hashed::of(&proxy.secret.0), role: proxy.role }),
            sessions: Sessions::default(),
            // Cookies know no ports: another page on this host has another name.
            cookie: format!("asynctask_{}", port.unwrap_or_default()),
        }),
        throttle: Mutex::default(),
        checking: Semaphore::new(1),
        waiting: AtomicUsize::new(0),
        office,
        clock: Clock::start(),
        streams: AtomicUsize::new(0),
        proxy_headers: proxy.map(|proxy| (proxy.user_header.clone(), proxy.secret_header.clone())),
        is_secure: settings.url.as_deref().is_some_and(|url| url.starts_with("https://")),
        hide: super::mask::Mask::new(&settings.hide),
    }
}

/// A page at its port, of a master that is not there.
#[cfg(test)]
pub(super) fn test_page(settings: &Dashboard) -> Arc<Page> {
    let port = match &settings.listen {
        Listen::Tcp(address) => Some(address.port()),
        Listen::Unix(_) => None,
    };
    Arc::new(page(settings, port, "the-key", Office::new(Path::new("/nowhere"))))
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

fn serve(bound: Bound, router: Router) -> io::Result<std::pin::Pin<Box<dyn Future<Output = io::Result<()>>>>> {
    Ok(match bound {
        Bound::Tcp(listener) => {
            let service = router.into_make_service_with_connect_info::<From>();
            let listener = TcpListener::from_std(listener)?;
            Box::pin(async { axum::serve(listener, service).await })
        }
        Bound::Unix(listener) => {
            let service = router.into_make_service_with_connect_info::<From>();
            let listener = UnixListener::from_std(listener)?;
            Box::pin(async { axum::serve(listener, service).await })
        }
    })
}

/// Where a connection came from, for requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From(pub(crate) Peer);

impl Connected<IncomingStream<'_, UnixListener>> for From {
    fn connect_info(_: IncomingStream<'_, UnixListener>) -> Self {
        Self(Peer::Local)
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for From {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(Peer::Address(stream.remote_addr().ip()))
    }
}
