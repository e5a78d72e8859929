//! A running master whose log is followed line by line: tests wait for what it says, never for time.

use std::{
    io::{BufRead, BufReader},
    process::Child,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

/// Nothing that a test waits for takes longer, on a machine of two slow cores.
const LIMIT: Duration = Duration::from_mins(1);

/// Looks again and again, for what no event tells: processes that are gone, counts of a broker. Bounded.
pub fn until(otherwise: &str, condition: impl Fn() -> bool) {
    let watch = Stopwatch::start();
    while !condition() {
        assert!(watch.elapsed() < LIMIT, "after {LIMIT:?}: {otherwise}");
        let (_sender, receiver) = mpsc::channel::<()>();
        let _ = receiver.recv_timeout(Duration::from_millis(50));
    }
}

/// Measures how long something took.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a test that measures reads the clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// All lines of a master's log so far, whoever has read them.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    fn push(&self, line: &str) {
        let mut text = self.0.lock().expect("nobody panics with it");
        text.push_str(line);
        text.push('\n');
    }

    pub fn text(&self) -> String {
        self.0.lock().expect("nobody panics with it").clone()
    }
}

/// A master that runs. Killed when dropped.
#[derive(Debug)]
pub struct Master {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
    log: Log,
}

impl Master {
    /// Follows the piped stdout of a child.
    pub fn follow(mut child: Child) -> Self {
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = mpsc::channel();
        let log = Log::default();
        let heard = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                heard.push(&line);
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new(), log }
    }

    /// Its log, which stays when it is gone.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line that contains `text`.
    pub fn expect(&mut self, text: &str) -> String {
        let watch = Stopwatch::start();
        loop {
            match self.lines.recv_timeout(LIMIT.saturating_sub(watch.elapsed())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("\"{text}\" never came ({error}); the log:\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) {
        kill(self.raw_pid(), signal).expect("the master lives");
    }

    /// Sends a signal to its process group, as a terminal does. It has to lead one.
    pub fn signal_group(&self, signal: Signal) {
        killpg(self.raw_pid(), signal).expect("the master leads a group");
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// Waits for its end; its exit code (minus the signal, if one ended it) and its whole log.
    pub fn wait(mut self) -> (i32, String) {
        use std::os::unix::process::ExitStatusExt;
        let watch = Stopwatch::start();
        loop {
            match self.lines.recv_timeout(LIMIT.saturating_sub(watch.elapsed())) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it did not end; the log:\n{}", self.seen.join("\n")),
            }
        }
        let status = self.child.wait().expect("it is our child");
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
        (code, std::mem::take(&mut self.seen).join("\n"))
    }

    /// The pids of its children: the workers.
    pub fn workers(&self) -> Vec<i32> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
