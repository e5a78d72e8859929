//! The folder that a program was started in, by the name it was started through.
//!
//! A deploy changes the target of a link (`current`), and a program that was started through the link has to follow it. The kernel
//! knows the folder without the link; the shell tells the name in `$PWD` (POSIX, `pwd -L`), which counts as long as it leads to
//! the same folder.

use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::reader::Item;

/// The current folder: as `$PWD` names it, if that is absolute, has no `.` and `..` in it, and is the same folder.
///
/// # Errors
/// What the operating system said: the folder was removed.
pub(crate) fn working_folder() -> io::Result<PathBuf> {
    named(env::var_os("PWD").as_deref()).map_or_else(env::current_dir, Ok)
}

fn named(pwd: Option<&OsStr>) -> Option<PathBuf> {
    let pwd = pwd?;
    let is_plain = |part: &[u8]| !matches!(part, b"." | b"..");
    if !pwd.as_bytes().starts_with(b"/") || !pwd.as_bytes().split(|byte| *byte == b'/').all(is_plain) {
        return None;
    }
    let number = |path: &Path| std::fs::metadata(path).ok().map(|folder| (folder.dev(), folder.ino()));
    let here = number(Path::new("."))?;
    (number(Path::new(pwd)) == Some(here)).then(|| pwd.into())
}

/// What is said of a path that is relative to a current folder that is none any more.
pub(super) const UNKNOWN: &str = "is relative to the current folder, which was removed";

/// What helps then.
pub(super) fn elsewhere() -> String {
    "change to another folder, or name it with an absolute path".to_owned()
}

impl Item<'_> {
    /// A path in this value, absolute.
    pub(super) fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = self.folder().join(path);
        if path.is_relative() {
            self.problem(UNKNOWN, Some(elsewhere()));
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_counts_where_it_leads_to_the_folder() {
        let here = env::current_dir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&here, &link).unwrap();
        assert_eq!(named(Some(link.as_os_str())), Some(link.clone()));
        assert_eq!(named(Some(here.as_os_str())), Some(here.clone()));
        for other in
            [folder.path().to_owned(), folder.path().join("none"), here.join("."), here.join("src/.."), ".".into()]
        {
            assert_eq!(named(Some(other.as_os_str())), None, "{}", other.display());
        }
        assert_eq!(named(None), None);
    }
}
