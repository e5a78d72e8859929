//! Whose a file is, and who we are, in the words of an error: what a system refuses it refuses for the owner's sake.

use std::{os::unix::fs::MetadataExt, path::Path};

use nix::unistd::{Uid, User, geteuid};

/// A user by name and number; one without an entry by the number.
fn named(user: Uid) -> String {
    match User::from_uid(user) {
        Ok(Some(entry)) => format!("{} ({user})", entry.name),
        _ => format!("user {user}"),
    }
}

/// The user of this process.
pub(crate) fn ours() -> String {
    named(geteuid())
}

/// The owner and the mode of what is at a path, if that can be told.
pub(crate) fn of(path: &Path) -> Option<(String, u32)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((named(Uid::from_raw(metadata.uid())), metadata.mode() & 0o7777))
}

/// The name of a file's owner.
pub(crate) fn name(path: &Path) -> Option<String> {
    let owner = Uid::from_raw(std::fs::metadata(path).ok()?.uid());
    User::from_uid(owner).ok()?.map(|entry| entry.name)
}

/// "permission denied", with all that explains it.
pub(crate) fn denied(path: &Path) -> String {
    match of(path) {
        Some((owner, mode)) => {
            format!("permission denied: it belongs to {owner}, with mode {mode:04o}, and this is {}", ours())
        }
        None => format!("permission denied: a folder on the way to it is closed to {}", ours()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_names_where_there_are_any() {
        assert_eq!(named(Uid::from_raw(0)), "root (0)");
        assert_eq!(named(Uid::from_raw(3_999_999_999)), "user 3999999999");
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(of(file.path()), Some((ours(), 0o600)));
        assert!(denied(file.path()).contains("with mode 0600"));
    }
}
