//! The socket of a service manager (`NOTIFY_SOCKET`), and what a master tells it.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    time::Duration,
};

/// What is to be told is told within that, on a busy machine.
pub const LIMIT: Duration = Duration::from_mins(1);

/// The manager's end.
pub struct NotifySocket {
    pub socket: UnixDatagram,
    /// What the master is told in `NOTIFY_SOCKET`.
    pub name: String,
}

impl NotifySocket {
    pub fn in_folder(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self { socket, name: path.to_str().expect("text").to_owned() }
    }

    pub fn in_the_abstract() -> Self {
        let name = format!("asynctask-tests-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        Self { socket: UnixDatagram::bind_addr(&address).expect("a socket"), name: format!("@{name}") }
    }

    pub fn next(&self, limit: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(limit)).expect("a socket");
        let mut bytes = [0; 1024];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Waits for a datagram with a line that begins with this text; it, and those before it.
    pub fn until(&self, text: &str) -> (String, Vec<String>) {
        let mut before = Vec::new();
        loop {
            let told = self.next(LIMIT).unwrap_or_else(|| panic!("\"{text}\" was never told, but {before:?}"));
            if told.lines().any(|line| line.starts_with(text)) {
                return (told, before);
            }
            before.push(told);
        }
    }

    /// What was told and not heard yet.
    pub fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next(Duration::from_millis(1))).collect()
    }
}
