//! Notifies the service manager (`sd_notify(3)`): ready, stopping, alive, and a line of status.
//!
//! One datagram a message to the socket in `$NOTIFY_SOCKET`, never blocking: a manager that does not read loses
//! messages, not the master its time. The watchdog is fed from the master's loop alone, so that a loop that hangs is
//! noticed; a helping thread would only prove that threads run.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use crate::clock::Instant;

/// How often a status is told at most, and the stop timeout extended.
const EVERY: Duration = Duration::from_secs(5);
/// What the manager waits for is sent again after this long if it could not take it.
const AGAIN: Duration = Duration::from_secs(1);
/// How much more time is asked for while draining.
const EXTENSION: Duration = Duration::from_secs(20);

/// What is to be told of the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not every queue has had a ready worker yet.
    Starting,
    /// At work.
    Running,
    /// At work, with other settings to come.
    Reloading,
    /// On the way to its end.
    Stopping,
}

/// The connection to the service manager.
#[derive(Debug)]
pub struct Notifier {
    socket: UnixDatagram,
    /// Half of the time after which the manager would kill us, as `sd_watchdog_enabled(3)` asks for.
    watchdog: Option<Duration>,
    phase: Phase,
    status: String,
    told_at: Option<Instant>,
    /// Something happened since the status was told.
    is_old: bool,
    /// The present phase could not be told: try again then.
    again_at: Option<Instant>,
    /// A reload that could not be told: when it began, in microseconds of the monotonic clock.
    untold_reload: Option<i64>,
    fed_at: Instant,
}

impl Notifier {
    /// The manager that started this process, if it wants to be told: from `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` and
    /// `$WATCHDOG_PID`, read through `variable`.
    ///
    /// # Errors
    /// If the socket that was named cannot be reached.
    pub fn of_process(variable: impl Fn(&str) -> Option<OsString>) -> io::Result<Option<Self>> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect_addr(&address(&name)?)?;
        let ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == *std::process::id().to_string());
        let limit =
            variable("WATCHDOG_USEC").and_then(|text| text.to_str()?.parse().ok()).filter(|limit| *limit > 0 && ours);
        let watchdog = limit.map(|limit| Duration::from_micros(limit) / 2);
        let (phase, status) = (Phase::Starting, String::new());
        Ok(Some(Self {
            socket,
            watchdog,
            phase,
            status,
            told_at: None,
            is_old: false,
            again_at: None,
            untold_reload: None,
            fed_at: Instant::default(),
        }))
    }

    /// Tells what has changed. To be called from the master's loop after each turn.
    pub fn tell(&mut self, now: Instant, phase: Phase, status: impl FnOnce() -> String) {
        // Of a reload nobody wants to hear any more when the end comes.
        self.untold_reload.take_if(|_| phase == Phase::Stopping);
        self.again_at = self.again_at.filter(|_| phase != self.phase || self.untold_reload.is_some());
        if self.again_at.is_some_and(|at| now < at) {
            return;
        }
        if let Some(began_at) = self.untold_reload {
            if self.tell_reload(began_at) {
                self.again_at = Some(now + AGAIN);
                return;
            }
            self.again_at = None;
        }
        let before = self.phase;
        let mut lines = Vec::new();
        if phase != self.phase {
            match phase {
                Phase::Starting | Phase::Reloading => {}
                Phase::Running => lines.push("READY=1".to_owned()),
                Phase::Stopping => lines.push("STOPPING=1".to_owned()),
            }
        }
        let due = self.told_at.is_none_or(|at| now.since(at) >= EVERY);
        if phase != self.phase || due {
            let status = status();
            if phase == Phase::Stopping {
                lines.push(format!("EXTEND_TIMEOUT_USEC={}", EXTENSION.as_micros()));
            }
            if status != self.status || !lines.is_empty() {
                lines.push(format!("STATUS={status}"));
                self.status = status;
            }
            self.told_at = Some(now);
        }
        self.is_old = !due && phase == before;
        self.phase = phase;
        if self.watchdog.is_some_and(|every| now.since(self.fed_at) >= every) {
            lines.push("WATCHDOG=1".to_owned());
            self.fed_at = now;
        }
        if !lines.is_empty() {
            // A manager that does not read, or is gone, changes nothing for us. Only what it waits for is not left out.
            let sent = self.socket.send(lines.join("\n").as_bytes());
            let is_full = sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            self.again_at = (is_full && phase != before).then(|| now + AGAIN);
            if self.again_at.is_some() {
                self.phase = before;
            }
        }
    }

    /// Tells that the settings are being read again, unless they were not all in force yet, or the end is near. To be
    /// called first thing: the manager waits for this and then for the `READY=1` that [`Self::tell`] sends when the master
    /// is at work again, with other settings or with the old ones.
    pub fn reloading(&mut self, phase: Phase) {
        if phase != Phase::Running || self.phase != Phase::Running {
            return;
        }
        // Both in one datagram: without the time the manager would take it for the end of an earlier reload.
        if let Ok(now) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC) {
            self.phase = Phase::Reloading;
            self.tell_reload(now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000);
        }
    }

    /// Whether it has to be told again, because the manager could not take it.
    fn tell_reload(&mut self, began_at: i64) -> bool {
        let sent = self.socket.send(format!("RELOADING=1\nMONOTONIC_USEC={began_at}").as_bytes());
        let is_full = sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.untold_reload = is_full.then_some(began_at);
        is_full
    }

    /// When it is to be called again although nothing happens: for the watchdog, to extend a stop, and once after what
    /// happened too early for another status.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        if self.again_at.is_some() {
            return self.again_at;
        }
        let watchdog = self.watchdog.map(|every| self.fed_at + every);
        let extension = self.told_at.filter(|_| self.is_old || self.phase == Phase::Stopping).map(|at| at + EVERY);
        [watchdog, extension].into_iter().flatten().min()
    }
}

/// A path, or with `@` a name in the abstract namespace.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn the_sequence_of_a_life() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let variable = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into()),
            "WATCHDOG_USEC" => Some("30000000".into()),
            _ => None,
        };
        let told = || {
            let mut bytes = [0; 512];
            manager.recv(&mut bytes).map(|length| String::from_utf8_lossy(&bytes[..length]).into_owned()).ok()
        };
        let mut notifier = Notifier::of_process(variable).unwrap().unwrap();
        notifier.tell(at(0), Phase::Starting, || "0/2 workers".to_owned());
        assert_eq!(told().unwrap(), "STATUS=0/2 workers");
        notifier.tell(at(1), Phase::Running, || "2/2 workers".to_owned());
        assert_eq!(told().unwrap(), "READY=1\nSTATUS=2/2 workers");
        notifier.tell(at(2), Phase::Running, || unreachable!("not within five seconds"));
        assert_eq!(told(), None);
        assert_eq!(notifier.next_at(), Some(at(6)), "what happened at 2 is to be told");
        notifier.tell(at(6), Phase::Running, || "2/2 workers, 1 parked".to_owned());
        assert_eq!(told().unwrap(), "STATUS=2/2 workers, 1 parked");
        assert_eq!(notifier.next_at(), Some(at(15)));
        notifier.reloading(Phase::Running);
        let message = told().unwrap();
        let micros = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        notifier.reloading(Phase::Reloading);
        notifier.tell(at(7), Phase::Reloading, || unreachable!("not within five seconds"));
        assert_eq!(told(), None);
        notifier.tell(at(8), Phase::Running, || "2/2 workers".to_owned());
        assert_eq!(told().unwrap(), "READY=1\nSTATUS=2/2 workers");
        notifier.tell(at(15), Phase::Running, || "2/2 workers".to_owned());
        assert_eq!(told().unwrap(), "WATCHDOG=1");
        notifier.tell(at(16), Phase::Stopping, || "draining".to_owned());
        assert_eq!(told().unwrap(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=20000000\nSTATUS=draining");
        assert_eq!(notifier.next_at(), Some(at(21)));
        notifier.tell(at(21), Phase::Stopping, || "draining".to_owned());
        assert_eq!(told().unwrap(), "EXTEND_TIMEOUT_USEC=20000000\nSTATUS=draining");
    }

    #[test]
    fn a_manager_that_does_not_read_costs_nothing_and_hears_of_the_start_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let variable = |name: &str| match name {
            "NOTIFY_SOCKET" => Some(path.clone().into()),
            "WATCHDOG_USEC" => Some("2000000".into()),
            _ => None,
        };
        let mut notifier = Notifier::of_process(variable).unwrap().unwrap();
        // Until it takes no more (`net.unix.max_dgram_qlen`).
        while notifier.socket.send(b"X_FULL=1").is_ok() {}
        notifier.tell(at(1), Phase::Running, String::new);
        assert_eq!(notifier.next_at(), Some(at(2)));
        let told = || {
            let mut bytes = [0; 512];
            let length = manager.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..length]).into_owned()
        };
        assert_eq!(told(), "X_FULL=1");
        notifier.tell(at(2), Phase::Running, String::new);
        assert_eq!(notifier.next_at(), Some(at(3)));
        let mut last = told();
        while last == "X_FULL=1" {
            last = told();
        }
        assert_eq!(last, "READY=1\nSTATUS=\nWATCHDOG=1");
        // Nor is a reload left out, not even one that is over meanwhile.
        while notifier.socket.send(b"X_FULL=1").is_ok() {}
        notifier.reloading(Phase::Running);
        notifier.tell(at(3), Phase::Reloading, String::new);
        assert_eq!(notifier.next_at(), Some(at(4)));
        assert_eq!([told(), told()], ["X_FULL=1"; 2]);
        notifier.tell(at(4), Phase::Running, String::new);
        let mut last = told();
        while last == "X_FULL=1" {
            last = told();
        }
        assert!(last.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{last}");
        assert_eq!(told(), "READY=1\nSTATUS=\nWATCHDOG=1");
    }

    #[test]
    fn without_a_manager_nothing_is_told() {
        assert!(Notifier::of_process(|_| None).unwrap().is_none());
        assert!(Notifier::of_process(|name| (name == "NOTIFY_SOCKET").then(|| "/no/such".into())).is_err());
    }
}
