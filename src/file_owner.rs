//! Words the owner of a file, and the user of this process, for an error of kind permission denied.
//!
//! Names are those of `/etc/passwd` alone: an error may be made on a thread that must not wait for a directory server, and a number
//! says the same.

use std::{fs::File, io::BufRead, io::BufReader, os::unix::fs::MetadataExt, path::Path};

use nix::unistd::geteuid;

/// The name of a user that this system itself knows (`passwd(5)`).
fn local_name(user: u32) -> Option<String> {
    let lines = BufReader::new(File::open("/etc/passwd").ok()?).split(b'\n').map_while(Result::ok);
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then(|| name.to_owned())
    })
}

/// The folder of a file.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A user by name and number; one without an entry by the number.
fn named(user: u32) -> String {
    local_name(user).map_or_else(|| format!("user {user}"), |name| format!("{name} ({user})"))
}

/// The user of this process.
pub(crate) fn ours() -> String {
    named(geteuid().as_raw())
}

/// The owner and the mode of what is at a path, if that can be told.
pub(crate) fn of(path: &Path) -> Option<(String, u32)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((named(metadata.uid()), metadata.mode() & 0o7777))
}

/// The name of a file's owner.
pub(crate) fn name(path: &Path) -> Option<String> {
    local_name(std::fs::metadata(path).ok()?.uid())
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
        assert_eq!(named(0), "root (0)");
        assert_eq!(named(3_999_999_999), "user 3999999999");
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(of(file.path()), Some((ours(), 0o600)));
        assert!(denied(file.path()).contains("with mode 0600"));
    }
}
