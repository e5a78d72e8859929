//! Ends a process, and removes a folder, when the test program ends, however it ends: for what several tests share, which no
//! test can end.

use std::{
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
};

/// Dropped, or with the end of this program, it does its work.
pub(super) struct Watchdog(Child);

impl Watchdog {
    /// Watches over a folder.
    pub(super) fn over(folder: &Path) -> Self {
        let script = "while read line; do pids=$line; done; kill -9 $pids 2>/dev/null; sleep 0.2; rm -rf \"$0\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(shell.spawn().expect("there is a shell"))
    }

    /// From now on these are to end, and no others.
    pub(super) fn tell(&mut self, pids: &[u32]) {
        let words: Vec<String> = pids.iter().map(u32::to_string).collect();
        let pipe = self.0.stdin.as_mut().expect("its input is piped");
        pipe.write_all((words.join(" ") + "\n").as_bytes()).expect("the watchdog reads");
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
