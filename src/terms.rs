//! The terms on which a program of a worker kind runs: as whom, with which limits, knowing what of its surroundings.

use std::{path::PathBuf, time::Duration};

/// What is different from running as the master does; by default nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// As another user.
    pub user: Option<User>,
    /// With another group, by name and number; without it the user's own.
    pub group: Option<(String, u32)>,
    /// The bits that new files do not get.
    pub umask: Option<u32>,
    /// From -20, the most favoured, to 19.
    pub nice: Option<i32>,
    /// Limits of one process.
    pub limits: Limits,
    /// Of the master's environment only PATH and these; `None`: all of it.
    pub pass_env: Option<Vec<String>>,
    /// The payload of a process for one task lies in a file, whose path is the last argument.
    pub payload_in_file: bool,
}

/// A user as the system knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// Its own group.
    pub group: u32,
    /// Its folder.
    pub home: PathBuf,
}

/// What the kernel lets one process have (setrlimit(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Address space in bytes; beyond it no memory is given.
    pub memory: Option<u64>,
    /// Processor time in its whole life, in whole seconds, rounded up: SIGXCPU then, SIGKILL 5 s later.
    pub cpu: Option<Duration>,
    /// Open files.
    pub files: Option<u64>,
}
