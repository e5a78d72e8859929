//! The options that a worker kind's program is executed with: user and groups, priority, limits, environment.

use std::{path::PathBuf, time::Duration};

/// How the program's process differs from the master's. By default in one point: it gains no privileges by `execve(2)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOptions {
    /// As another user.
    pub user: Option<User>,
    /// With another group, by name and number; without it the user's own.
    pub group: Option<(String, u32)>,
    /// All groups it is in, where it has a user or a group.
    pub groups: Vec<u32>,
    /// The bits that new files do not get.
    pub umask: Option<u32>,
    /// From -20, the most favoured, to 19.
    pub nice: Option<i32>,
    /// How soon the kernel ends it when memory is short: from -1000, never, to 1000, first.
    pub oom_score_adj: Option<i32>,
    /// Executing a program gives it nothing that it did not have: not the user of one that is setuid, not its capabilities.
    pub no_new_privs: bool,
    /// Limits of one process.
    pub limits: Limits,
    /// Of the master's environment only PATH and these; `None`: all of it.
    pub pass_env: Option<Vec<String>>,
    /// The payload of a process for one task lies in a file, whose path is the last argument.
    pub payload_in_file: bool,
}

impl Default for ExecOptions {
    fn default() -> Self {
        Self {
            user: None,
            group: None,
            groups: Vec::new(),
            umask: None,
            nice: None,
            oom_score_adj: None,
            no_new_privs: true,
            limits: Limits::default(),
            pass_env: None,
            payload_in_file: false,
        }
    }
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
    /// Its shell, if it may log in.
    pub shell: Option<PathBuf>,
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
