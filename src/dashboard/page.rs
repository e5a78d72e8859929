//! What all requests of the page share.

#[cfg(test)]
use std::path::Path;
use std::sync::{Arc, Mutex, atomic::AtomicUsize};

use tokio::sync::Semaphore;

use super::{
    access::{
        Access, Peer, Proxy, hosts::Hosts, secret::Hashed, sessions::Sessions, throttle::Throttle, waiting::Waiting,
    },
    dead_letters::{DeadLetters, Source},
    history::History,
    large_answers::LargeAnswers,
    mask::Mask,
    office::Office,
};
use crate::{
    clock::Clock,
    config::dashboard::{Dashboard, Listen},
    schedule::Schedule,
};

/// All that the page's requests share.
pub(crate) struct Page {
    pub(crate) access: Mutex<Access>,
    pub(crate) throttle: Mutex<Throttle>,
    /// One password is checked at a time.
    pub(crate) checking: Semaphore,
    /// Who waits for that.
    pub(crate) waiting: Waiting,
    pub(crate) office: Arc<Office>,
    pub(crate) clock: Clock,
    /// Streams that are open.
    pub(crate) streams: AtomicUsize,
    pub(crate) proxy_headers: Option<(String, String)>,
    pub(crate) is_secure: bool,
    pub(crate) hide: Mask,
    pub(crate) history: Arc<History>,
    pub(crate) dead_letters: Arc<DeadLetters>,
    pub(crate) large_answers: LargeAnswers,
    pub(crate) application: Application,
}

/// What the page knows from the settings alone.
#[derive(Debug, Default)]
pub(crate) struct Application {
    pub(crate) name: String,
    pub(crate) schedules: Vec<Schedule>,
}

impl Page {
    /// The page of these settings, at this port, for whom the office asks. Dead letters are asked for at the source.
    pub(crate) fn new(
        settings: &Dashboard,
        port: Option<u16>,
        key: &str,
        office: Arc<Office>,
        history: Arc<History>,
        (source, application): (Source, Application),
    ) -> Self {
        let proxy = settings.proxy.as_ref();
        Self {
            access: Mutex::new(Access {
                hosts: Hosts::new(&settings.hosts, settings.url.as_deref()),
                key: Hashed::of(key),
                users: settings.users.clone(),
                proxy: proxy.map(|proxy| Proxy {
                    peer: proxy.from,
                    secret: Hashed::of(&proxy.secret.0),
                    role: proxy.role,
                }),
                sessions: Sessions::default(),
                // Cookies know no ports: another page on this host has another name.
                cookie: format!("asynctask_{}", place_of(settings, port)),
            }),
            throttle: Mutex::default(),
            checking: Semaphore::new(1),
            waiting: Waiting::default(),
            office,
            clock: Clock::start(),
            streams: AtomicUsize::new(0),
            proxy_headers: proxy.map(|proxy| (proxy.user_header.clone(), proxy.secret_header.clone())),
            is_secure: settings.url.as_deref().is_some_and(|url| url.starts_with("https://")),
            hide: Mask::new(&settings.hide),
            history,
            dead_letters: DeadLetters::new(source),
            large_answers: LargeAnswers::default(),
            application,
        }
    }
}

/// What tells a page from others of this host: its port, else its socket.
fn place_of(settings: &Dashboard, port: Option<u16>) -> String {
    match (&settings.listen, port) {
        (Listen::Unix(path), _) => Hashed::of(&path.to_string_lossy()).shortened(),
        (Listen::Tcp(address), port) => port.unwrap_or_else(|| address.port()).to_string(),
    }
}

/// A page at its port, of a master that is not there.
#[cfg(test)]
pub(crate) fn test_page(settings: &Dashboard) -> Arc<Page> {
    let port = match &settings.listen {
        Listen::Tcp(address) => Some(address.port()),
        Listen::Unix(_) => None,
    };
    let (office, history) = (Office::new(Path::new("/nowhere")), History::at(Path::new("/nowhere")));
    let source = (Source::nowhere(), Application::default());
    Arc::new(Page::new(settings, port, "the-key", office, Arc::new(history), source))
}

/// Where a connection came from, for requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) Peer);
