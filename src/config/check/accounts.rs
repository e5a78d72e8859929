//! Users and groups as the system knows them: the one place that asks its databases (`nsswitch.conf(5)`).
//!
//! A directory server may take its time, or not answer: so it is asked while settings are read, never when a program is
//! started, and never on the master's loop. A missing entry is an answer; a database that does not answer is an error.

use std::ffi::CString;

use nix::{
    errno::Errno,
    unistd::{self, Gid, Group, Uid},
};

use crate::exec_options::User;

/// Shells of those who may not log in.
const NO_SHELLS: [&str; 2] = ["nologin", "false"];

/// A user by name or number. In containers numbers that nobody has a name for are the rule.
///
/// # Errors
/// If it cannot be told whether there is an entry.
pub(super) fn user(name: &str) -> Result<Option<User>, Errno> {
    let number = number(name);
    let found = number.map_or_else(|| unistd::User::from_name(name), |id| unistd::User::from_uid(Uid::from_raw(id)));
    if let Some(user) = answer(found)? {
        // passwd(5): an empty one is /bin/sh.
        let shell = if user.shell.as_os_str().is_empty() { "/bin/sh".into() } else { user.shell };
        let may_log_in = !NO_SHELLS.iter().any(|none| shell.file_name().is_some_and(|name| name == *none));
        let (id, group) = (user.uid.as_raw(), user.gid.as_raw());
        return Ok(Some(User { name: user.name, id, group, home: user.dir, shell: may_log_in.then_some(shell) }));
    }
    let of_nobody = |id| User { name: name.to_owned(), id, group: id, home: "/".into(), shell: None };
    Ok(number.map(of_nobody))
}

/// A group by name or number: its name, if it has one, and its number.
///
/// # Errors
/// If it cannot be told whether there is an entry.
pub(super) fn group(name: &str) -> Result<Option<(String, u32)>, Errno> {
    let number = number(name);
    let found = number.map_or_else(|| Group::from_name(name), |id| Group::from_gid(Gid::from_raw(id)));
    match answer(found)? {
        Some(group) => Ok(Some((group.name, group.gid.as_raw()))),
        None => Ok(number.map(|id| (name.to_owned(), id))),
    }
}

/// All groups of a user that runs with this one. A server that does not answer cannot be told from one that knows of no more.
///
/// # Errors
/// If they are more than the kernel takes.
pub(super) fn groups(user: &User, group: u32) -> Result<Vec<u32>, Errno> {
    // Without an entry it is in no other groups.
    if number(&user.name) == Some(user.id) {
        return Ok(vec![group]);
    }
    let name = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL)?;
    Ok(unistd::getgrouplist(&name, Gid::from_raw(group))?.into_iter().map(Gid::as_raw).collect())
}

/// A number that can be somebody's: -1 means "as it is" to the kernel.
fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|number| *number != u32::MAX)
}

/// `getpwnam(3)` names the errors by which systems say that there is no entry, or no database at all.
fn answer<T>(found: Result<Option<T>, Errno>) -> Result<Option<T>, Errno> {
    match found {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        found => found,
    }
}
