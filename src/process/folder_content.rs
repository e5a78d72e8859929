//! Removing what a program has left in a folder of ours: anything may lie there.
//!
//! No link is followed, at any depth: each folder is opened as what it is and gone through by its descriptor. No other mount is
//! entered: a program that may mount can have put a folder of the machine there, whose files are no files of its own.

use std::{
    fs::{self, File, OpenOptions},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

/// Folders in folders that are gone through: each has a descriptor open meanwhile. What lies deeper stays.
const DEEPEST: usize = 64;

/// Removes all that is in an open folder, as far as that is possible. Without `/proc`: its files.
pub(super) fn remove(path: &Path, folder: &File) {
    remove_in(path, mount(folder), DEEPEST);
}

fn remove_in(path: &Path, ours: Option<u64>, deeper: usize) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        // Of a link the link is removed, and a folder is not.
        if fs::remove_file(&path).is_ok() || deeper == 0 {
            continue;
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let Ok(inner) = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&path) else { continue };
        if ours.is_some() && mount(&inner) == ours {
            remove_in(&by_descriptor("fd", &inner), ours, deeper - 1);
            let _ = fs::remove_dir(&path);
        }
    }
}

/// The number of the mount that an open folder lies on; `proc_pid_fdinfo(5)`.
fn mount(folder: &File) -> Option<u64> {
    let known = fs::read_to_string(by_descriptor("fdinfo", folder)).ok()?;
    known.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

fn by_descriptor(what: &str, folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/{what}/{}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn folders_in_it_go_and_what_links_lead_to_stays() {
        let place = tempfile::tempdir().unwrap();
        let (ours, other) = (place.path().join("ours"), place.path().join("other"));
        fs::create_dir_all(ours.join("a/b/c")).unwrap();
        fs::create_dir_all(&other).unwrap();
        for file in [ours.join("a/b/c/file"), ours.join("file"), other.join("kept")] {
            fs::write(file, "content").unwrap();
        }
        symlink(&other, ours.join("a/link")).unwrap();
        symlink("nowhere", ours.join("link")).unwrap();
        remove(&ours, &File::open(&ours).unwrap());
        assert_eq!(fs::read_dir(&ours).unwrap().count(), 0);
        assert!(other.join("kept").exists());
    }

    #[test]
    fn what_lies_on_another_mount_or_too_deep_stays() {
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("x/".repeat(DEEPEST + 1));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "content").unwrap();
        let folder = File::open(place.path()).unwrap();
        remove_in(place.path(), mount(&folder).map(|number| number + 1), DEEPEST);
        assert!(deep.join("file").exists(), "as if all of it lay on another one");
        remove(place.path(), &folder);
        assert!(deep.join("file").exists());
        // The next one begins where this one ended.
        let inner = place.path().join("x");
        remove(&inner, &File::open(&inner).unwrap());
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 0);
    }
}
