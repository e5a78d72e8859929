//! `asynctask dashboard`: the page, and the hashes of its users' passwords.

use std::{
    io::{self, BufRead, IsTerminal, Read, Write},
    net::SocketAddr,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use super::{
    args::Global,
    control_client::{ask, socket},
    dashboard_args::{Dashboard, Verb},
    output::print,
    settings::load,
};
use crate::{
    config::dashboard::{Dashboard as Settings, Listen},
    control::types::Command,
    dashboard::{
        access::password::{self, LONGEST_PASSWORD},
        dead_letters::Source,
        history::{History, Limits},
        page::Application,
        routes,
        server::{self, Fault, Opened},
    },
    exit_code::{Code, Error},
    process::signals::{Signal, Signals},
    worker::registry::Registry,
};

pub(super) fn run(registry: &Registry, global: &Global, verb: &Dashboard) -> Result<Code, Error> {
    match verb.verb {
        Some(Verb::Password) => hash_password(),
        Some(Verb::Link) => {
            let path = match &verb.socket {
                Some(path) => path.clone(),
                None => socket(&load(registry, global)?, None)?,
            };
            let link = ask(&path, &Command::DashboardLink {})?;
            print(&format!("{}\n", link.as_str().unwrap_or_default()))?;
            Ok(Code::Ok)
        }
        None => serve(registry, global, verb),
    }
}

fn serve(registry: &Registry, global: &Global, verb: &Dashboard) -> Result<Code, Error> {
    let config = load(registry, global)?;
    let path = socket(&config, verb.socket.as_ref())?;
    let mut settings = config.dashboard.clone().unwrap_or_default();
    if let Some(listen) = &verb.listen {
        settings.listen = read_listen(listen)?;
    }
    check(&settings)?;
    let internal = |error: io::Error| Error::new(Code::Internal, format!("the page cannot be served: {error}"));
    let key = if verb.kept { Some(key_of_master().map_err(internal)?) } else { None };
    let (closed, is_closed) = tokio::sync::oneshot::channel();
    if verb.kept {
        std::thread::Builder::new()
            .name("standard input".to_owned())
            .spawn(move || {
                // Nothing more comes by it but its end.
                let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
                let _: Result<(), ()> = closed.send(());
            })
            .map_err(internal)?;
    }
    let signals = Signals::listen().map_err(internal)?;
    let signalled = async {
        let Ok(watch) = signals.watch() else { return };
        loop {
            // The end of its terminal is its end, too; started with nohup it hears nothing of that.
            let is_end = |signal: &Signal| {
                matches!(signal, Signal::Terminate | Signal::Interrupt | Signal::Quit | Signal::HangUp)
            };
            if signals.drain().iter().any(is_end) {
                return;
            }
            if watch.readable().await.is_err() {
                return;
            }
        }
    };
    let ended = async {
        tokio::select! {
            () = signalled => {}
            Ok(()) = is_closed => {}
        }
    };
    let said = std::cell::Cell::new(Ok(()));
    let listen = settings.listen.clone();
    let ready = |opened: &Opened| {
        let text = match &opened.link {
            // Once, and nowhere else: who has it may do what the page can do.
            Some(link) => format!("open {link}"),
            None => format!("log in at {}", opened.at),
        };
        // The keeper of the page reads this line, too.
        let socket = opened.socket.as_ref().map(|path| format!(" through ssh -L 5555:{} HOST", path.display()));
        said.set(print(&format!("{text}{}\n", socket.unwrap_or_default())));
    };
    let file = settings.history.clone().unwrap_or_else(|| beside(&path));
    let (history, mut record, writer) = History::begin(&file, Limits::DEFAULT).map_err(internal)?;
    let run = server::Run {
        settings: &settings,
        socket: &path,
        key,
        source: (
            Source::of(&config),
            Application { name: config.application.clone(), schedules: config.schedules.clone() },
        ),
        router: routes::router,
        recorder: Box::new(move |heard| record.take(heard)),
        history,
        ready: Box::new(ready),
    };
    let served = server::run(run, ended);
    // It ends when it has written what it was given; the recorder went with the office.
    drop(writer.join());
    served.map_err(|fault| match fault {
        Fault::Listen(error) => Error::new(Code::Taken, format!("cannot listen at {listen}: {error}"))
            .hint("another address: --listen 127.0.0.1:PORT, or dashboard: { listen: … }"),
        Fault::Internal(error) => internal(error),
    })?;
    said.into_inner()?;
    Ok(Code::Ok)
}

/// The key that the master sends; at most a line.
fn key_of_master() -> io::Result<String> {
    let mut line = String::new();
    io::Read::take(io::stdin().lock(), 1024).read_line(&mut line)?;
    let key = line.trim_end();
    if key.len() < 32 { Err(io::Error::other("the master sent no key")) } else { Ok(key.to_owned()) }
}

/// The file of the history, if the settings name none.
fn beside(socket: &Path) -> PathBuf {
    let mut name = socket.as_os_str().to_owned();
    name.push(".history.db");
    name.into()
}

fn read_listen(text: &str) -> Result<Listen, Error> {
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() => Ok(Listen::Unix(path.into())),
        _ => text.parse::<SocketAddr>().map(Listen::Tcp).map_err(|_| {
            Error::new(
                Code::Usage,
                format!("--listen: \"{text}\" is no address of numbers with a port, and no unix:PATH"),
            )
            .hint("as 127.0.0.1:5555, [::1]:5555 or unix:/run/asynctask/page.sock")
        }),
    }
}

/// What others can reach has users, or a proxy that knows them.
fn check(settings: &Settings) -> Result<(), Error> {
    if settings.listen.is_local() || !settings.users.is_empty() || settings.proxy.is_some() {
        return Ok(());
    }
    let text = format!("others can reach {}, and there are no users who may", settings.listen);
    Err(Error::new(Code::Config, text).hint(
        "dashboard: { users: { NAME: { password: HASH, role: look } } }; `asynctask dashboard password` makes the hash",
    ))
}

fn hash_password() -> Result<Code, Error> {
    let failed = |error: io::Error| Error::new(Code::Internal, format!("no password can be read: {error}"));
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let first = asked("Password: ").map_err(failed)?;
        if asked("Again: ").map_err(failed)? != first {
            return Err(Error::new(Code::Refused, "the two are not the same"));
        }
        first
    } else {
        let mut line = Vec::new();
        stdin.lock().take(LONGEST_PASSWORD as u64 + 2).read_until(b'\n', &mut line).map_err(failed)?;
        let line = String::from_utf8(line).map_err(|_| Error::new(Code::Refused, "a password is text in UTF-8"))?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    if password.is_empty() || password.len() > LONGEST_PASSWORD {
        return Err(Error::new(Code::Refused, format!("a password has 1 to {LONGEST_PASSWORD} bytes")));
    }
    let hash = password::hash(&password).map_err(failed)?;
    print(&format!("{hash}\n"))?;
    Ok(Code::Ok)
}

/// A line from the terminal, which does not show it.
fn asked(question: &str) -> io::Result<String> {
    let mut stderr = io::stderr();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let stdin = io::stdin();
    let quiet = Quiet::begin()?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    drop(quiet);
    writeln!(stderr)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The terminal does not show what is typed, until this is dropped.
struct Quiet(nix::sys::termios::Termios);

impl Quiet {
    fn begin() -> io::Result<Self> {
        use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd())?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        quiet.local_flags.insert(LocalFlags::ECHONL);
        tcsetattr(stdin.as_fd(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        use nix::sys::termios::{SetArg, tcsetattr};
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSAFLUSH, &self.0);
    }
}
