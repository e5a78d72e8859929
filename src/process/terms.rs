//! Bringing a program on its [`Terms`]: what can be looked up is looked up before the fork, and the child only makes
//! system calls.

use std::{
    ffi::{CString, OsStr},
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use libc::{c_int, gid_t, mode_t, rlimit, uid_t};
use nix::{
    sys::resource::{Resource, getrlimit},
    unistd::{Gid, getegid, geteuid, getgrouplist},
};

use super::exec::Variables;
use crate::terms::{Limits, Terms};

/// A program that ignores SIGXCPU has so many seconds until it is killed.
const CPU_GRACE: u64 = 5;

/// The terms as numbers.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    limits: Vec<(c_int, rlimit)>,
    nice: Option<c_int>,
    umask: Option<mode_t>,
    identity: Option<Identity>,
}

#[derive(Debug)]
struct Identity {
    groups: Vec<gid_t>,
    group: gid_t,
    user: Option<uid_t>,
}

impl Prepared {
    /// Looks up what the child will need.
    ///
    /// # Errors
    /// If this process may not do what is asked for, or the groups of the user are not known.
    pub(super) fn new(terms: &Terms) -> io::Result<Self> {
        let is_root = geteuid().is_root();
        let denied = |text: String| io::Error::new(io::ErrorKind::PermissionDenied, text);
        if let Some(nice) = terms.nice.filter(|nice| *nice < 0 && !is_root) {
            return Err(denied(format!("nice {nice} takes a master that is root")));
        }
        let identity = identity(terms)?;
        if identity.is_some() && !is_root {
            let user = terms.user.as_ref().map_or("another group", |user| user.name.as_str());
            return Err(denied(format!("running it as {user} takes a master that is root")));
        }
        Ok(Self { limits: limits(&terms.limits)?, nice: terms.nice, umask: terms.umask, identity })
    }

    /// In the forked child, before anything that a change of user would take away. Only system calls: no memory is
    /// allocated and no lock is taken.
    pub(super) fn settle_in_child(&self) -> io::Result<()> {
        for (resource, limit) in &self.limits {
            set_limit(*resource, limit)?;
        }
        if let Some(nice) = self.nice {
            // SAFETY: three integers.
            check(i64::from(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }))?;
        }
        if let Some(umask) = self.umask {
            // SAFETY: one integer; it cannot fail.
            unsafe { libc::umask(umask) };
        }
        if let Some(Identity { groups, group, user }) = &self.identity {
            // The kernel's own calls and not glibc's, which tell all threads and take a lock for it: here is one thread.
            // SAFETY: the pointer is to as many group numbers as are told.
            check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
            // SAFETY: one integer.
            check(unsafe { libc::syscall(libc::SYS_setgid, *group) })?;
            if let Some(user) = user {
                // SAFETY: one integer.
                check(unsafe { libc::syscall(libc::SYS_setuid, *user) })?;
            }
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
fn identity(terms: &Terms) -> io::Result<Option<Identity>> {
    let group = terms.group.as_ref().map(|(_, number)| *number);
    let Some(group) = group.or_else(|| terms.user.as_ref().map(|user| user.group)) else { return Ok(None) };
    let same_user = terms.user.as_ref().is_none_or(|user| user.id == geteuid().as_raw());
    if same_user && group == getegid().as_raw() {
        return Ok(None);
    }
    let groups = match &terms.user {
        // Without an entry it is in no other groups.
        Some(user) if user.name.parse() == Ok(user.id) => vec![group],
        Some(user) => {
            let name = CString::new(user.name.as_str())?;
            getgrouplist(&name, Gid::from_raw(group))?.into_iter().map(Gid::as_raw).collect()
        }
        None => vec![group],
    };
    Ok(Some(Identity { groups, group, user: terms.user.as_ref().map(|user| user.id) }))
}

/// No limit is raised above what this process itself may have.
fn limits(limits: &Limits) -> io::Result<Vec<(c_int, rlimit)>> {
    let seconds = limits.cpu.map(|cpu| cpu.as_secs() + u64::from(cpu.subsec_nanos() > 0));
    let wanted = [
        (Resource::RLIMIT_AS, limits.memory, 0),
        (Resource::RLIMIT_CPU, seconds, CPU_GRACE),
        (Resource::RLIMIT_NOFILE, limits.files, 0),
    ];
    let mut set = Vec::new();
    for (resource, soft, grace) in wanted {
        let Some(soft) = soft else { continue };
        let (_, most) = getrlimit(resource)?;
        let limit = rlimit { rlim_cur: soft.min(most), rlim_max: soft.saturating_add(grace).min(most) };
        set.push((resource as c_int, limit));
    }
    Ok(set)
}

/// What the program sees of the master's environment, and whose it is.
pub(super) fn variables(terms: &Terms) -> Variables {
    let mut variables: Variables = std::env::vars_os().collect();
    if terms.user.as_ref().is_some_and(|user| user.id != geteuid().as_raw()) {
        // The master's own is often closed to others.
        variables.remove(OsStr::new("TMPDIR"));
    }
    if let Some(names) = &terms.pass_env {
        // Without PATH a program without a slash would not be found.
        variables.retain(|name, _| name == "PATH" || names.iter().any(|other| name == other.as_str()));
    }
    if let Some(user) = &terms.user {
        variables.insert("HOME".into(), user.home.clone().into());
        variables.extend(["USER", "LOGNAME"].map(|name| (name.into(), user.name.clone().into())));
    }
    variables
}

/// To whom belongs what is made for the program, if not to this process's user.
pub(super) fn owner(terms: &Terms) -> Option<(Option<u32>, Option<u32>)> {
    let user = terms.user.as_ref().filter(|user| user.id != geteuid().as_raw())?;
    Some((Some(user.id), Some(terms.group.as_ref().map_or(user.group, |(_, number)| *number))))
}

/// Where a payload's file is put: the folder for temporary files, and for another user who may not enter that `/tmp`.
///
/// # Errors
/// If there is none that the user can enter.
fn folder(terms: &Terms) -> io::Result<PathBuf> {
    let own = std::env::temp_dir();
    let Some((Some(user), Some(group))) = owner(terms) else { return Ok(own) };
    let can_enter = |folder: &PathBuf| {
        let Ok(folder) = folder.canonicalize() else { return false };
        folder.ancestors().all(|folder| {
            std::fs::metadata(folder).is_ok_and(|meta| {
                let bit = if meta.uid() == user {
                    0o100
                } else if meta.gid() == group {
                    0o010
                } else {
                    0o001
                };
                meta.mode() & bit != 0
            })
        })
    };
    let shown = own.display().to_string();
    [own, PathBuf::from("/tmp")].into_iter().find(can_enter).ok_or_else(|| {
        let text = format!("its user may enter neither {shown} nor /tmp, where the file of its payload would be");
        io::Error::new(io::ErrorKind::PermissionDenied, text)
    })
}

/// A payload as a file that its program can read and nobody else. Removed when dropped.
#[derive(Debug)]
pub struct PayloadFile(PathBuf);

impl PayloadFile {
    /// Writes it into the folder for temporary files.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(payload: &[u8], terms: &Terms) -> io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = folder(terms)?;
        let explained = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("cannot write its payload into a file in {}: {error}", folder.display()),
            )
        };
        let (mut file, path) = create(&folder, number).map_err(explained)?;
        let path = Self(path);
        file.write_all(payload).map_err(explained)?;
        if let Some((user, group)) = owner(terms) {
            fchown(&file, user, group).map_err(explained)?;
        }
        Ok(path)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PayloadFile {
    fn drop(&mut self) {
        // The program may have removed or renamed it.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn create(folder: &Path, number: u64) -> io::Result<(File, PathBuf)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    // A master with the same pid may have been killed and left one behind.
    for attempt in 0..1000 {
        let path = folder.join(format!("asynctask-{}-{number}-{attempt}", std::process::id()));
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (file, path)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
