//! What workers leave running when they end, and what was left by a master that is no more: what is known of it, and the end of
//! the latter.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    logging::{Level, Logger, MASTER},
    master::core::event::{Ended, WorkerId},
    process::{
        Identity, Left, Mark, Marker, orphans,
        predecessors::{self, Fate},
    },
    transport::Uri,
};

/// How long a start waits for the end of what another master left.
const START_PATIENCE: Duration = Duration::from_secs(2);

/// What a thread found out of one worker: which number its death has, and what runs on.
pub(in crate::master) type OrphansEnded = (u64, Vec<Left>);

/// Deaths, and what runs on after them.
#[derive(Debug)]
pub(in crate::master) struct Orphans {
    marker: Option<Marker>,
    /// By what each worker's processes are known.
    traces: HashMap<WorkerId, (Option<Mark>, Vec<Identity>)>,
    pub(super) ended: mpsc::UnboundedSender<OrphansEnded>,
    /// Deaths out of order, in this turn.
    pub(super) out_of_order: Vec<ExitedWorker>,
    /// Those whose processes are being ended, by number.
    pub(super) waiting: Vec<(u64, ExitedWorker)>,
    pub(super) last_number: u64,
    /// What ran on, for the status.
    pub(super) left: Vec<(String, Left)>,
}

/// A worker that was waited for and of which the core is to hear.
#[derive(Debug)]
pub(in crate::master) struct ExitedWorker {
    pub(in crate::master) id: WorkerId,
    pub(in crate::master) pid: u32,
    pub(in crate::master) slot: String,
    pub(in crate::master) ended: Ended,
}

impl Orphans {
    /// Makes this process the one that orphans come to, and ends what an earlier master left that worked the same.
    pub(in crate::master) fn new(
        uri: &Uri,
        application: &str,
        logger: &Logger,
        ended: mpsc::UnboundedSender<OrphansEnded>,
    ) -> Self {
        if let Err(error) = orphans::adopt_orphans() {
            let text = format!("what leaves its worker's process group cannot be ended with it: {error}");
            logger.line(Level::Warning, MASTER, &text);
        }
        let marker = Marker::new(home(uri, application));
        // Tasks in the memory of this process had no other master.
        if let Some(marker) = marker.as_ref().filter(|_| !matches!(uri, Uri::Localmem(_))) {
            end_predecessors(marker, logger);
        }
        Self {
            marker,
            traces: HashMap::new(),
            ended,
            out_of_order: Vec::new(),
            waiting: Vec::new(),
            last_number: 0,
            left: Vec::new(),
        }
    }

    /// For a worker that is to be started.
    pub(in crate::master) fn mark(&mut self, id: WorkerId) -> Option<Mark> {
        let mark = self.marker.as_mut().map(Marker::mark);
        self.traces.insert(id, (mark.clone(), Vec::new()));
        mark
    }

    /// It is going to be killed: once it is dead, its tree cannot be seen any more.
    pub(in crate::master) fn remember_below(&mut self, id: WorkerId, pid: u32) {
        if let Some((_, below)) = self.traces.get_mut(&id) {
            *below = orphans::descendants(pid);
        }
    }

    /// By what its processes are known; nothing more will come of it.
    pub(in crate::master) fn trace_of(&mut self, id: WorkerId) -> (Option<Mark>, Vec<Identity>) {
        self.traces.remove(&id).unwrap_or_default()
    }
}

/// Names what a master works, for others that work the same.
fn home(uri: &Uri, application: &str) -> String {
    let place = match uri {
        Uri::Sqlite(path) => place_of_file(path).display().to_string(),
        // Without its password.
        Uri::Amqp(_) | Uri::Postgres(_) | Uri::Localmem(_) => uri.to_string(),
    };
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"asynctask.worker");
    Uuid::new_v5(&namespace, format!("{application}\n{place}").as_bytes()).to_string()
}

/// The same before and after the file is made, from wherever it is named.
fn place_of_file(path: &Path) -> PathBuf {
    let in_folder = || {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(folder.canonicalize().ok()?.join(path.file_name()?))
    };
    path.canonicalize().ok().or_else(in_folder).unwrap_or_else(|| path.to_owned())
}

fn end_predecessors(marker: &Marker, logger: &Logger) {
    for found in predecessors::end(marker, START_PATIENCE) {
        let (pid, master) = (found.process.pid, found.master);
        let fate = match found.fate {
            Fate::Ended => "ended".to_owned(),
            Fate::LeftAlone => "it has left its worker's process group and is left running".to_owned(),
            Fate::Refused(why) => format!("left running, as it cannot be ended: {why}"),
        };
        let text = format!(
            "pid {pid} ({}) is left of {}, of the master {master} that is no more: {fate}",
            found.command, found.slot
        );
        logger.line(Level::Warning, MASTER, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_before_it_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let named = link.join("tasks.db");
        let before = place_of_file(&named);
        std::fs::write(&named, "").unwrap();
        assert_eq!(before, place_of_file(&named));
        assert_eq!(before, place_of_file(&real.join("tasks.db")));
        let relative = Path::new("no such file, beside nothing");
        assert_eq!(place_of_file(relative), std::env::current_dir().unwrap().canonicalize().unwrap().join(relative));
    }
}
