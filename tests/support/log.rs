//! A running master whose log is followed line by line: tests wait for what it says, never for time.

use std::{
    io::{BufRead, BufReader},
    process::Child,
    sync::mpsc,
    time::Duration,
};

/// Nothing that a test waits for takes longer, on a machine of two slow cores.
const LIMIT: Duration = Duration::from_mins(1);

/// A master that runs. Killed when dropped.
#[derive(Debug)]
pub struct Master {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Master {
    /// Follows the piped stdout of a child.
    pub fn follow(mut child: Child) -> Self {
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line that contains `text`.
    pub fn expect(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(LIMIT) {
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
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("the master lives");
    }

    /// Waits for its end; its exit code (minus the signal, if one ended it) and its whole log.
    pub fn wait(mut self) -> (i32, String) {
        use std::os::unix::process::ExitStatusExt;
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            self.seen.push(line);
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
