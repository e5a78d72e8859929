//! A TCP proxy on the loopback that can fail on command: cut, refuse, or stall without a word.
//!
//! One thread accepts, two carry the bytes of each connection. They end with their connection, or with the program.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, PoisonError},
};

/// A proxy in front of one port.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    line: Arc<Line>,
}

#[derive(Debug, Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes are swallowed up to where nothing more fits; nobody is told.
    stalled: bool,
    /// New connections are closed at once.
    refusing: bool,
    open: Vec<TcpStream>,
}

impl Proxy {
    /// In front of a port of the loopback.
    pub fn before(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has free ports");
        let port = listener.local_addr().expect("it is bound").port();
        let line = Arc::new(Line::default());
        let carried = Arc::clone(&line);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                carried.accept(client, target);
            }
        });
        Self { port, line }
    }

    /// The address of what is behind it, through it.
    pub fn address(&self, uri: &str, target: u16) -> String {
        uri.replace(&format!(":{target}"), &format!(":{}", self.port))
    }

    /// Closes all connections. New ones are carried.
    pub fn cut(&self) {
        for stream in self.line.lock().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Closes all connections and every new one, until it is mended.
    pub fn sever(&self) {
        self.line.lock().refusing = true;
        self.cut();
    }

    /// Carries nothing any more, of old and new connections, until it is mended.
    pub fn stall(&self) {
        self.line.lock().stalled = true;
    }

    /// Carries everything again.
    pub fn mend(&self) {
        let mut state = self.line.lock();
        (state.stalled, state.refusing) = (false, false);
        self.line.changed.notify_all();
    }
}

impl Line {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: &Arc<Self>, client: TcpStream, target: u16) {
        if self.lock().refusing {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
        let both = [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())];
        self.lock().open.extend([client, server]);
        for (from, to) in both {
            let (Ok(from), Ok(to)) = (from, to) else { return };
            let line = Arc::clone(self);
            std::thread::spawn(move || line.carry(from, to));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            let state = self.lock();
            let flowing = self.changed.wait_while(state, |state| state.stalled);
            drop(flowing.unwrap_or_else(PoisonError::into_inner));
            if to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
