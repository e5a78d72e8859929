//! Applies the [`ExecOptions`] of a program in the child, between fork and exec.
//!
//! Users and groups are numbers here. No name is ever looked up: a directory server may not answer, and programs are started
//! by the master's loop. Everything is prepared before the fork; the child makes system calls only.

use std::{
    ffi::{OsStr, OsString},
    io,
};

use libc::{c_int, gid_t, mode_t, rlimit, uid_t};
use nix::{
    sys::resource::{Resource, getrlimit},
    unistd::{getegid, geteuid},
};

use super::exec::Variables;
use crate::exec_options::{ExecOptions, Limits};

/// A program that ignores SIGXCPU has so many seconds until it is killed.
const CPU_GRACE: u64 = 5;
/// The upper half of an error's number names the key that could not be had: std hands over a number from the child, and
/// nothing else. The kernel's own numbers are below 4096.
const KEY_SHIFT: u32 = 16;

/// What the child settles, by the key that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Memory = 1,
    Cpu,
    Files,
    Nice,
    OomScoreAdj,
    User,
    NoNewPrivs,
}

impl Key {
    const ALL: [Self; 7] =
        [Self::Memory, Self::Cpu, Self::Files, Self::Nice, Self::OomScoreAdj, Self::User, Self::NoNewPrivs];

    /// The error with the key in it.
    fn named(self, error: &io::Error) -> io::Error {
        let number = error.raw_os_error().unwrap_or(libc::EINVAL);
        io::Error::from_raw_os_error(number | (self as c_int) << KEY_SHIFT)
    }
}

/// The option that the child could not apply and the cause, if `error` carries one.
pub(super) fn refused(error: &io::Error, options: &ExecOptions) -> Option<String> {
    let number = error.raw_os_error()?;
    let key = *Key::ALL.iter().find(|key| **key as c_int == number >> KEY_SHIFT)?;
    let cause = io::Error::from_raw_os_error(number & ((1 << KEY_SHIFT) - 1));
    Some(match key {
        Key::Memory => format!("limits.memory: {cause}"),
        Key::Cpu => format!("limits.cpu: {cause}"),
        Key::Files => format!("limits.files: {cause}"),
        Key::Nice => format!("nice: {cause}"),
        Key::OomScoreAdj => {
            let score = options.oom_score_adj.unwrap_or_default();
            format!("oom_score_adj: {score}: {cause}; one below the master's own takes CAP_SYS_RESOURCE")
        }
        Key::User => format!("user and group: {cause}"),
        Key::NoNewPrivs => format!("no_new_privs: {cause}"),
    })
}

/// The options as the arguments of system calls.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    limits: Vec<(Key, c_int, rlimit)>,
    nice: Option<c_int>,
    umask: Option<mode_t>,
    oom_score_adj: Option<String>,
    no_new_privs: bool,
    identity: Option<Credentials>,
}

#[derive(Debug)]
struct Credentials {
    groups: Vec<gid_t>,
    group: gid_t,
    user: Option<uid_t>,
}

impl Prepared {
    /// What the child will need.
    ///
    /// # Errors
    /// If this process may not do what is asked for.
    pub(super) fn new(options: &ExecOptions) -> io::Result<Self> {
        let is_root = geteuid().is_root();
        let denied = |text: String| io::Error::new(io::ErrorKind::PermissionDenied, text);
        if let Some(nice) = options.nice.filter(|nice| *nice < 0 && !is_root) {
            return Err(denied(format!("nice {nice} takes a master that is root")));
        }
        let identity = identity(options);
        if identity.is_some() && !is_root {
            let user = options.user.as_ref().map_or("another group", |user| user.name.as_str());
            return Err(denied(format!("running it as {user} takes a master that is root")));
        }
        Ok(Self {
            limits: limits(&options.limits)?,
            nice: options.nice,
            umask: options.umask,
            oom_score_adj: options.oom_score_adj.map(|score| score.to_string()),
            no_new_privs: options.no_new_privs,
            identity,
        })
    }

    /// In the forked child, before its limit of open files is set: it has all of this process's files open still, and opens
    /// one more. Only system calls.
    pub(super) fn set_oom_score_in_child(&self) -> io::Result<()> {
        let Some(score) = &self.oom_score_adj else { return Ok(()) };
        let written = || {
            // SAFETY: the path ends with a NUL.
            let file = unsafe { libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
            check(file.into())?;
            // SAFETY: the pointer is to as many bytes as are told.
            let written = check(unsafe { libc::write(file, score.as_ptr().cast(), score.len()) } as libc::c_long);
            // SAFETY: it was opened above, and nobody else has it.
            unsafe { libc::close(file) };
            written
        };
        written().map_err(|error| Key::OomScoreAdj.named(&error))
    }

    /// In the forked child, before anything that a change of user would take away. Only system calls: no memory is
    /// allocated and no lock is taken.
    pub(super) fn settle_in_child(&self) -> io::Result<()> {
        for (key, resource, limit) in &self.limits {
            set_limit(*resource, limit).map_err(|error| key.named(&error))?;
        }
        if let Some(nice) = self.nice {
            // SAFETY: three integers.
            check(i64::from(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }))
                .map_err(|error| Key::Nice.named(&error))?;
        }
        if let Some(umask) = self.umask {
            // SAFETY: one integer; it cannot fail.
            unsafe { libc::umask(umask) };
        }
        if let Some(identity) = &self.identity {
            identity.take_in_child().map_err(|error| Key::User.named(&error))?;
        }
        if self.no_new_privs {
            // After the change of user, which is none that a program brings about, and is not touched by it.
            // SAFETY: five integers.
            check(i64::from(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }))
                .map_err(|error| Key::NoNewPrivs.named(&error))?;
        }
        Ok(())
    }
}

impl Credentials {
    fn take_in_child(&self) -> io::Result<()> {
        let Self { groups, group, user } = self;
        // The kernel's own calls and not glibc's, which tell all threads and take a lock for it: here is one thread.
        // SAFETY: the pointer is to as many group numbers as are told.
        check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
        // SAFETY: one integer.
        check(unsafe { libc::syscall(libc::SYS_setgid, *group) })?;
        if let Some(user) = user {
            // SAFETY: one integer.
            check(unsafe { libc::syscall(libc::SYS_setuid, *user) })?;
        }
        Ok(())
    }
}

/// A system call and no more.
pub(super) fn set_limit(resource: c_int, limit: &rlimit) -> io::Result<()> {
    // SAFETY: the pointer is to a whole `rlimit`; the conversion is of a number whose type libraries disagree about.
    check(i64::from(unsafe { libc::setrlimit(resource as _, limit) }))
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `None` if it runs as this process does already.
fn identity(options: &ExecOptions) -> Option<Credentials> {
    let group = options.group.as_ref().map(|(_, number)| *number);
    let group = group.or_else(|| options.user.as_ref().map(|user| user.group))?;
    let same_user = options.user.as_ref().is_none_or(|user| user.id == geteuid().as_raw());
    if same_user && group == getegid().as_raw() {
        return None;
    }
    Some(Credentials { groups: options.groups.clone(), group, user: options.user.as_ref().map(|user| user.id) })
}

/// No limit is raised above what this process itself may have.
fn limits(limits: &Limits) -> io::Result<Vec<(Key, c_int, rlimit)>> {
    let seconds = limits.cpu.map(|cpu| cpu.as_secs() + u64::from(cpu.subsec_nanos() > 0));
    let wanted = [
        (Key::Memory, Resource::RLIMIT_AS, limits.memory, 0),
        (Key::Cpu, Resource::RLIMIT_CPU, seconds, CPU_GRACE),
        (Key::Files, Resource::RLIMIT_NOFILE, limits.files, 0),
    ];
    let mut set = Vec::new();
    for (key, resource, soft, grace) in wanted {
        let Some(soft) = soft else { continue };
        let (_, most) = getrlimit(resource)?;
        let limit = rlimit { rlim_cur: soft.min(most), rlim_max: soft.saturating_add(grace).min(most) };
        set.push((key, resource as c_int, limit));
    }
    Ok(set)
}

/// What the program sees of the master's environment.
pub(super) fn variables(options: &ExecOptions) -> Variables {
    let mut variables: Variables = std::env::vars_os().collect();
    if options.user.as_ref().is_some_and(|user| user.id != geteuid().as_raw()) {
        // The master's own is often closed to others.
        variables.remove(OsStr::new("TMPDIR"));
    }
    if let Some(names) = &options.pass_env {
        // Without PATH a program without a slash would not be found.
        variables.retain(|name, _| name == "PATH" || names.iter().any(|other| name == other.as_str()));
    }
    variables
}

/// What says whose program it is, if it has a user: as a login would (environ(7)).
pub(super) fn user_variables(options: &ExecOptions) -> impl Iterator<Item = (OsString, OsString)> {
    let of_user = options.user.as_ref().map(|user| {
        let shell = user.shell.as_ref().map(|shell| ("SHELL".into(), shell.into()));
        let names = ["USER", "LOGNAME"].map(|name| (name.into(), user.name.clone().into()));
        [("HOME".into(), user.home.clone().into())].into_iter().chain(names).chain(shell)
    });
    of_user.into_iter().flatten()
}

/// The user and the group to whom belongs what is made for the program, if not to this process's user.
pub(super) fn owner(options: &ExecOptions) -> Option<(u32, u32)> {
    let user = options.user.as_ref().filter(|user| user.id != geteuid().as_raw())?;
    Some((user.id, options.group.as_ref().map_or(user.group, |(_, number)| *number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_from_the_child_names_its_key() {
        let options = ExecOptions { oom_score_adj: Some(-5), ..ExecOptions::default() };
        let denied = io::Error::from_raw_os_error(libc::EACCES);
        for (key, name) in Key::ALL.into_iter().zip([
            "limits.memory: ",
            "limits.cpu: ",
            "limits.files: ",
            "nice: ",
            "oom_score_adj: -5: ",
            "user and group: ",
            "no_new_privs: ",
        ]) {
            let text = refused(&key.named(&denied), &options).unwrap();
            assert!(text.starts_with(&format!("{name}Permission denied (os error 13)")), "{text}");
        }
        assert_eq!(refused(&denied, &options), None);
        assert_eq!(refused(&io::Error::other("x"), &options), None);
    }
}
