//! Files of a process for one task: its payload (`input: file`), what it reads and writes beside that, and what a master that was
//! killed has left of them.
//!
//! The files of a task lie in a folder of its own, whose lock this process has for as long as the folder is there. The kernel gives
//! the lock back when the process ends, however it ends: so a folder whose lock can be had has no owner, and the
//! next master removes it. Process ids would not tell: they are used again, and differ between containers that share a
//! folder.
//!
//! All users can write to the folder for temporary files. No link in it is ever followed, and files of other users are left
//! alone; a folder of ours belongs to this process's user also where its program has another one, which may enter it as a
//! member of its group and remove its own file.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    hash::{BuildHasher, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use nix::{fcntl::OFlag, unistd::geteuid};

use super::{exec_options::owner, folder_content};
use crate::exec_options::ExecOptions;

/// How the names of folders begin.
const PREFIX: &str = "asynctask-payload-";
/// The payload in its folder.
const PAYLOAD: &str = "payload";
/// Where it goes if the program's user may not enter the folder for temporary files.
const FOR_ALL: &str = "/tmp";

/// A payload as a file that its program alone can read. Removed when dropped; with all that the program has put
/// beside it, which may be much, on a thread of its own.
#[derive(Debug)]
pub struct PayloadFile(TaskFiles);

impl PayloadFile {
    /// Writes it into a folder of its own in the one for temporary files.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(payload: &[u8], options: &ExecOptions) -> io::Result<Self> {
        let place = place(options)?;
        write(&[(PAYLOAD, payload)], &place, owner(options)).map(Self).map_err(|error| {
            let text = format!("cannot write the payload file in {} (input: file): {error}", place.display());
            io::Error::new(error.kind(), text)
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path(PAYLOAD)
    }
}

/// Files that a program reads from and writes to, in a folder of its own. Removed as a [`PayloadFile`] is.
#[derive(Debug)]
pub struct TaskFiles {
    folder: Arc<Folder>,
    /// Whose they are.
    user: u32,
}

impl TaskFiles {
    /// Writes files with these names and contents.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(files: &[(&'static str, &[u8])], options: &ExecOptions) -> io::Result<Self> {
        let place = place(options)?;
        write(files, &place, owner(options)).map_err(|error| {
            let text = format!("cannot make the files of a task in {}: {error}", place.display());
            io::Error::new(error.kind(), text)
        })
    }

    /// Where the file of a name is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path.join(name)
    }

    /// The first `most` bytes of a file, and its length in bytes. Its program may have put anything in its place: nothing but a file
    /// of the program's own is read, and no link is followed.
    ///
    /// # Errors
    /// Those of the file system; [`InvalidData`](io::ErrorKind::InvalidData) if it is no such file any more.
    pub fn read(&self, name: &str, most: u64) -> io::Result<(Vec<u8>, u64)> {
        let invalid = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidData, text));
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(self.path(name)) {
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return invalid("it is a link, and none is followed");
            }
            opened => opened?,
        };
        let known = file.metadata()?;
        if !known.is_file() {
            return invalid("it is no file");
        }
        // A second name of somebody else's file, which this process may read and the program may not.
        if known.uid() != self.user {
            return invalid("it belongs to another user");
        }
        let mut content = Vec::new();
        file.take(most).read_to_end(&mut content)?;
        Ok((content, known.len()))
    }
}

fn write(files: &[(&'static str, &[u8])], place: &Path, owner: Option<(u32, u32)>) -> io::Result<TaskFiles> {
    let mut folder = Folder::create(place)?;
    for (name, content) in files {
        folder.files.push(name);
        // The folder is still closed to everybody else.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.path.join(name))?;
        file.write_all(content)?;
        if let Some((user, group)) = owner {
            fchown(&file, Some(user), Some(group))?;
        }
    }
    if let Some((_, group)) = owner {
        // Its group may enter and write, as in /tmp: it may remove or rename what is its own.
        fchown(&folder.lock, None, Some(group))?;
        folder.lock.set_permissions(Permissions::from_mode(0o1730))?;
    }
    let user = owner.map_or_else(|| geteuid().as_raw(), |(user, _)| user);
    Ok(TaskFiles { folder: Arc::new(folder), user })
}

impl Drop for TaskFiles {
    fn drop(&mut self) {
        let is_occupied = |error: &io::Error| error.kind() == io::ErrorKind::DirectoryNotEmpty;
        if self.folder.remove().is_err_and(|error| is_occupied(&error)) {
            let folder = Arc::clone(&self.folder);
            // Where no thread can be made, or this process ends before it is done, the next master does it.
            let _ = thread::Builder::new().name("payload folder".to_owned()).spawn(move || folder.empty());
        }
    }
}

/// A folder that this process has locked. Removed when dropped, if nothing but its own files is in it.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    lock: File,
    files: Vec<&'static str>,
}

impl Folder {
    fn create(place: &Path) -> io::Result<Self> {
        for _ in 0..1000 {
            // The standard library's own source of randomness for hash maps: nobody knows the name before.
            let number = std::hash::RandomState::new().build_hasher().finish();
            let path = place.join(format!("{PREFIX}{number:016x}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Until it is locked it looks like one that was left behind, and another master may have removed it.
            match Self::claim(&path) {
                Ok(Some(folder)) => return Ok(folder),
                Ok(None) => {}
                Err(error) => {
                    let _ = fs::remove_dir(&path);
                    return Err(error);
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Locks a folder of this user; `None` if it is another user's, locked, gone, or no folder.
    fn claim(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let lock = match OpenOptions::new().read(true).custom_flags(flags.bits()).open(path) {
            Ok(lock) => lock,
            Err(error) => {
                let is_other = matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP | libc::EACCES));
                return if is_other || error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) };
            }
        };
        let known = lock.metadata()?;
        if known.uid() != geteuid().as_raw() {
            return Ok(None);
        }
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Whoever had it before may have removed it.
        let is_there =
            fs::symlink_metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (known.dev(), known.ino()));
        Ok(is_there.then(|| Self { path: path.to_owned(), lock, files: Vec::new() }))
    }

    /// Removes it with its files, if nothing else is in it.
    fn remove(&self) -> io::Result<()> {
        for name in &self.files {
            // The program may have removed or renamed it.
            let _ = fs::remove_file(self.path.join(name));
        }
        fs::remove_dir(&self.path)
    }

    /// Removes what is in it, whatever the program has made there.
    fn empty(&self) {
        folder_content::remove(&self.path, &self.lock);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

/// Where a payload's folder is put: the folder for temporary files, and for another user who may not enter that `/tmp`.
///
/// # Errors
/// If there is none that the user can enter.
fn place(options: &ExecOptions) -> io::Result<PathBuf> {
    let own = std::env::temp_dir();
    let Some((user, group)) = owner(options) else { return Ok(own) };
    let can_enter = |folder: &PathBuf| {
        let Ok(folder) = folder.canonicalize() else { return false };
        folder.ancestors().all(|folder| {
            fs::metadata(folder).is_ok_and(|meta| {
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
    [own, PathBuf::from(FOR_ALL)].into_iter().find(can_enter).ok_or_else(|| {
        let text = format!("its user may enter neither {shown} nor {FOR_ALL}, where the file of its payload would be");
        io::Error::new(io::ErrorKind::PermissionDenied, text)
    })
}

/// Removes what masters of this user that were killed have left in the places where payloads are put, and tells the number
/// of payloads if there were any. On a thread of its own: very much may lie there.
pub fn remove_left(told: impl FnOnce(usize) + Send + 'static) {
    let own = std::env::temp_dir();
    let for_all = Some(PathBuf::from(FOR_ALL)).filter(|for_all| *for_all != own);
    let run = move || {
        let count = [Some(own), for_all].into_iter().flatten().map(|place| remove_left_in(&place)).sum();
        if count > 0 {
            told(count);
        }
    };
    // Where no thread can be made, the next master does it.
    let _ = thread::Builder::new().name("payloads left".to_owned()).spawn(run);
}

fn remove_left_in(place: &Path) -> usize {
    let is_ours = |name: &OsStr| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| is_ours(&entry.file_name()));
    // What cannot be looked at stays.
    let left = ours.filter_map(|entry| Folder::claim(&entry.path()).ok().flatten());
    left.filter(|folder| {
        folder.empty();
        folder.remove().is_ok()
    })
    .count()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn only_what_belongs_to_nobody_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        let own = PayloadFile(write(&[(PAYLOAD, b"in hand")], place, None).unwrap());
        let left = |name: &str| {
            let folder = place.join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(PAYLOAD), "left").unwrap();
            folder
        };
        let (dead, other) = (left("asynctask-payload-0"), left("asynctask-other"));
        // Somebody's attempt to have something else removed.
        std::os::unix::fs::symlink(&other, place.join("asynctask-payload-1")).unwrap();
        std::os::unix::fs::symlink(other.join(PAYLOAD), dead.join("link")).unwrap();
        fs::write(place.join("asynctask-payload-2"), "a file").unwrap();
        assert_eq!(remove_left_in(place), 1);
        assert!(!dead.exists() && own.path().exists() && other.join(PAYLOAD).exists());
        assert!(place.join("asynctask-payload-1").is_symlink() && place.join("asynctask-payload-2").exists());
        assert_eq!(remove_left_in(place), 0);
        drop(own);
        let is_folder = |entry: &fs::DirEntry| entry.file_type().unwrap().is_dir();
        let folders = fs::read_dir(place).unwrap().map(Result::unwrap).filter(is_folder).count();
        assert_eq!(folders, 1, "only the other one");
    }

    #[test]
    fn what_a_program_put_beside_its_payload_goes_with_it() {
        let place = tempfile::tempdir().unwrap();
        let payload = PayloadFile(write(&[(PAYLOAD, b"in hand")], place.path(), None).unwrap());
        let folder = payload.path().parent().unwrap().to_owned();
        fs::write(folder.join("beside"), "more").unwrap();
        fs::create_dir_all(folder.join("result/inner")).unwrap();
        std::os::unix::fs::symlink(place.path(), folder.join("link")).unwrap();
        let looked_after = Arc::downgrade(&payload.0.folder);
        let watch = nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::empty()).unwrap();
        watch.add_watch(place.path(), nix::sys::inotify::AddWatchFlags::IN_DELETE).unwrap();
        drop(payload);
        // The thread has the folder's lock until it is gone.
        let mut deleted = [nix::poll::PollFd::new(watch.as_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut deleted, 60_000u16), Ok(1), "it is not removed");
        assert!(!watch.read_events().unwrap().is_empty());
        assert!(!folder.exists() && place.path().exists() && looked_after.upgrade().is_none());
    }

    #[test]
    fn a_folder_whose_payload_could_not_be_written_is_removed() {
        let place = tempfile::tempdir().unwrap();
        // Where the rest of it does not fit, or its owner cannot be changed, this is what is there.
        let mut folder = Folder::create(place.path()).unwrap();
        folder.files.push(PAYLOAD);
        fs::write(folder.path.join(PAYLOAD), b"the first ha").unwrap();
        drop(folder);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_files_are_read_as_far_as_they_count() {
        let place = tempfile::tempdir().unwrap();
        let files = write(&[("memo", b"seven"), ("result", b"")], place.path(), None).unwrap();
        assert_eq!(files.read("memo", 3).unwrap(), (b"sev".to_vec(), 5));
        assert_eq!(files.read("result", 3).unwrap(), (Vec::new(), 0));
        fs::remove_file(files.path("result")).unwrap();
        assert_eq!(files.read("result", 3).unwrap_err().kind(), io::ErrorKind::NotFound);
        // Written anew beside it, and renamed.
        fs::write(files.path("new"), "8").unwrap();
        fs::rename(files.path("new"), files.path("result")).unwrap();
        assert_eq!(files.read("result", 3).unwrap(), (b"8".to_vec(), 1));
        fs::remove_file(files.path("memo")).unwrap();
        std::os::unix::fs::symlink(files.path("result"), files.path("memo")).unwrap();
        assert_eq!(files.read("memo", 3).unwrap_err().to_string(), "it is a link, and none is followed");
        fs::remove_file(files.path("memo")).unwrap();
        nix::unistd::mkfifo(&files.path("memo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(files.read("memo", 3).unwrap_err().to_string(), "it is no file");
        let others = TaskFiles { folder: Arc::clone(&files.folder), user: files.user + 1 };
        assert_eq!(others.read("result", 3).unwrap_err().to_string(), "it belongs to another user");
        std::mem::forget(others);
        drop(files);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn another_users_folder_is_left_alone() {
        if !geteuid().is_root() {
            assert!(
                std::env::var_os("ASYNCTASK_REQUIRE_ALL").is_none(),
                "everything is required, and this is not root"
            );
            eprintln!("left out: it takes root to make a folder of another user");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("asynctask-payload-0");
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::chown(&folder, Some(65534), None).unwrap();
        assert_eq!(remove_left_in(place.path()), 0);
        assert!(folder.exists());
    }
}
