//! Priorities for systemd's journal (`sd-daemon(3)`): where stdout or stderr is the journal itself, each line begins with
//! `<N>`, which the journal takes off again.

use std::{fs::File, os::fd::AsFd, os::unix::fs::MetadataExt};

use crate::level::Level;

/// Whether a stream is the one that `$JOURNAL_STREAM` names, by device and inode. A pipe or file of somebody else's is not,
/// though the variable was inherited.
#[must_use]
pub fn is_journal(named: Option<&str>, stream: impl AsFd) -> bool {
    let Some((device, inode)) = named.and_then(|named| named.split_once(':')) else { return false };
    let metadata = stream.as_fd().try_clone_to_owned().and_then(|stream| File::from(stream).metadata());
    metadata.is_ok_and(|stream| device.parse() == Ok(stream.dev()) && inode.parse() == Ok(stream.ino()))
}

/// The text with its priority before each line.
#[must_use]
pub fn marked(level: Level, text: &str) -> String {
    let priority = match level {
        Level::Error => "<3>",
        Level::Warning => "<4>",
        Level::Info => "<6>",
        Level::Debug => "<7>",
    };
    let mut marked = String::with_capacity(text.len() + 2 * priority.len());
    for line in text.split_inclusive('\n') {
        marked.push_str(priority);
        marked.push_str(line);
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let (_, pipe) = std::io::pipe().unwrap();
        let here = File::from(pipe.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap();
        let named = |device, inode| is_journal(Some(&format!("{device}:{inode}")), &pipe);
        assert!(named(here.dev(), here.ino()));
        assert!(!named(here.dev(), here.ino() + 1) && !named(here.dev() + 1, here.ino()));
        for nonsense in [None, Some(""), Some(":"), Some("9"), Some("a:b")] {
            assert!(!is_journal(nonsense, &pipe), "{nonsense:?}");
        }
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let here = File::from(socket.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap();
        assert!(is_journal(Some(&format!("{}:{}", here.dev(), here.ino())), &socket));
    }

    #[test]
    fn each_line_has_its_priority() {
        assert_eq!(marked(Level::Error, "a\nb\n"), "<3>a\n<3>b\n");
        assert_eq!(marked(Level::Debug, "a"), "<7>a");
        assert_eq!(marked(Level::Info, ""), "");
    }
}
