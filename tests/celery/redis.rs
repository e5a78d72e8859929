//! A Redis of our own, on a free port of the loopback, without a file.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use super::{
    support::{broker::free_port, left_out, log::until},
    watchdog::Watchdog,
};

/// Gone when dropped.
pub(super) struct Redis {
    port: u16,
    server: Child,
    _folder: tempfile::TempDir,
    _watchdog: Watchdog,
}

impl Redis {
    /// `None` where it is not installed, after saying so.
    pub(super) fn start() -> Option<Self> {
        let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
        let mut server = Command::new("redis-server");
        server.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let server = server.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let Ok(server) = server else {
            left_out("no redis-server found: results over Redis");
            return None;
        };
        let mut watchdog = Watchdog::over(folder.path());
        watchdog.tell(&[server.id()]);
        let redis = Self { port, server, _folder: folder, _watchdog: watchdog };
        until("Redis does not answer", || redis.answers());
        Some(redis)
    }

    pub(super) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut answer = [0; 5];
        stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"+PONG"
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
