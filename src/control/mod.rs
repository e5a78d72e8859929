//! The control socket: commands and questions to a running master.
//!
//! One JSON object a line each way, over a Unix socket that only its owner can open. A client asks once per line and
//! gets one line back. No client can hold up the master: clients are bounded in number, size and time, each
//! is served by a task of its own, and the master's loop sees only whole, checked commands.

#![warn(clippy::missing_panics_doc)]

mod bound_file;
pub mod client;
pub(crate) mod lock;
pub mod presence;
pub mod server;
pub mod socket;
pub mod types;

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Name of the socket where none was configured.
pub const FILE: &str = "asynctask.sock";

/// Where a control socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its path.
    pub path: PathBuf,
    /// It was asked for by name: a master that cannot make it does not start.
    pub asked_for: bool,
}

/// Where the control socket is: as asked for (`none`: nowhere), else in `$RUNTIME_DIRECTORY`, else beside the first
/// configuration file; without a file there is none.
#[must_use]
pub fn place(asked_for: Option<&Path>, runtime_directory: Option<&OsStr>, first_file: Option<&Path>) -> Option<Place> {
    if let Some(path) = asked_for {
        return (path != Path::new("none")).then(|| Place { path: path.to_owned(), asked_for: true });
    }
    // systemd may name several, separated by colons.
    let first = runtime_directory.and_then(|folders| folders.as_bytes().split(|byte| *byte == b':').next());
    let runtime = first.filter(|folder| !folder.is_empty()).map(OsStr::from_bytes);
    let folder = runtime.map(Path::new).or_else(|| first_file.and_then(Path::parent))?;
    Some(Place { path: folder.join(FILE), asked_for: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_socket() {
        let found = |asked: Option<&str>, runtime: Option<&str>, file: Option<&str>| {
            place(asked.map(Path::new), runtime.map(OsStr::new), file.map(Path::new))
                .map(|place| (place.path, place.asked_for))
        };
        assert_eq!(found(Some("/a/b"), Some("/run/x"), Some("/etc/c.yaml")), Some(("/a/b".into(), true)));
        assert_eq!(found(Some("none"), Some("/run/x"), Some("/etc/c.yaml")), None);
        assert_eq!(
            found(None, Some("/run/x:/run/y"), Some("/etc/c.yaml")),
            Some(("/run/x/asynctask.sock".into(), false))
        );
        assert_eq!(found(None, None, Some("/etc/c.yaml")), Some(("/etc/asynctask.sock".into(), false)));
        assert_eq!(found(None, Some(""), None), None);
    }
}
