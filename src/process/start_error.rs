//! Words the error of a program that cannot be executed: a sentence with the path in place of the kernel's one word.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use super::exec::{Variables, places};

/// How much of a file is looked at.
const HEAD: u64 = 4096;

/// An interpreter may be a script itself, but not for ever: the kernel's own limit is about this.
const INTERPRETERS: usize = 4;

/// The file that will be executed, as far as that can be told from here.
pub(super) fn found(name: &OsStr, folder: &Path, variables: &Variables) -> Option<PathBuf> {
    let places = places(name, variables).into_iter().map(|place| folder.join(place));
    let may_run = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
    let mut existing = None;
    for place in places {
        if may_run(&place) {
            return Some(place);
        }
        if existing.is_none() && place.symlink_metadata().is_ok() {
            existing = Some(place);
        }
    }
    existing
}

/// What the kernel would start, and what could then only die: a program of which the end is missing, as while it is
/// copied. It is looked at before the start, since its death would be the task's.
pub(super) fn is_cut_off(path: &Path) -> Option<String> {
    cut_off(path, INTERPRETERS)
}

fn cut_off(path: &Path, more: usize) -> Option<String> {
    let (head, length) = head(path).ok()?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let interpreter = interpreter(line)?;
        let what = (more > 0).then(|| cut_off(&interpreter, more - 1))??;
        return Some(format!("its interpreter {}: {what}", interpreter.display()));
    }
    let needed = elf_bytes(&head)?;
    (needed > length).then(|| format!("it is cut off: {length} bytes of at least {needed}"))
}

/// Why the kernel refused `path` with `error`; `None` where the error says it all.
pub(super) fn why(path: &Path, error: &io::Error) -> Option<String> {
    match error.raw_os_error() {
        // fork(2), execve(2): the user has as many processes as it may, or the control group has.
        Some(libc::EAGAIN) => {
            return Some("the limit of processes is reached (ulimit -u, TasksMax=, pids.max)".to_owned());
        }
        // Nothing of these is the file's fault.
        Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE) => return None,
        _ => {}
    }
    reason(path, error, INTERPRETERS)
}

fn reason(path: &Path, error: &io::Error, more: usize) -> Option<String> {
    let Ok(meta) = fs::metadata(path) else {
        let target = fs::read_link(path).ok()?;
        return Some(format!("it is a link to {}, which does not exist", target.display()));
    };
    if meta.is_dir() {
        return Some("it is a directory".to_owned());
    }
    if !meta.is_file() {
        return Some("it is no file".to_owned());
    }
    if meta.mode() & 0o111 == 0 {
        let bits = meta.mode() & 0o777;
        return Some(format!("nobody may execute it (mode {bits:03o}; chmod +x)"));
    }
    if meta.len() == 0 {
        return Some("it is empty".to_owned());
    }
    let (head, _) = head(path).ok()?;
    if let Some(line) = head.strip_prefix(b"#!") {
        return script(line, error, more);
    }
    if head.starts_with(b"\x7fELF") {
        return Some(elf(path, &head, error));
    }
    if error.raw_os_error() != Some(libc::ENOEXEC) {
        return None;
    }
    let is_text = !head.contains(&0);
    let what = if is_text { "it is a text whose first line is no #! with an interpreter" } else { "it is no program" };
    Some(what.to_owned())
}

fn script(line: &[u8], error: &io::Error, more: usize) -> Option<String> {
    let first = line.split(|byte| *byte == b'\n').next().unwrap_or(line);
    if first.ends_with(b"\r") {
        return Some("its first line ends with CR LF; a script's lines end with LF alone".to_owned());
    }
    let Some(path) = interpreter(line) else {
        return Some("its first line names no interpreter".to_owned());
    };
    if path.symlink_metadata().is_err() {
        return Some(format!("the interpreter named in its first line, {}, does not exist", path.display()));
    }
    let what = (more > 0).then(|| reason(&path, error, more - 1))??;
    Some(format!("the interpreter named in its first line, {}: {what}", path.display()))
}

/// What a script's first line names, from behind its `#!`.
fn interpreter(line: &[u8]) -> Option<PathBuf> {
    let first = line.split(|byte| *byte == b'\n').next()?;
    let word = first.split(|byte| matches!(byte, b' ' | b'\t')).find(|word| !word.is_empty())?;
    Some(OsString::from(OsStr::from_bytes(word)).into())
}

fn elf(path: &Path, head: &[u8], error: &io::Error) -> String {
    // Class and order of bytes, then the machine.
    let machine = |head: &[u8]| Some((head.get(4..6)?.to_vec(), head.get(18..20)?.to_vec()));
    if let Some(what) = cut_off(path, 0) {
        return what;
    }
    let ours = self::head(Path::new("/proc/self/exe")).ok().and_then(|(head, _)| machine(&head));
    match machine(head) {
        None => "it is cut off".to_owned(),
        theirs if ours.is_some() && theirs != ours => "it is a program for another machine".to_owned(),
        _ if error.kind() == io::ErrorKind::NotFound => "the loader that it names does not exist".to_owned(),
        _ => "it is a damaged program".to_owned(),
    }
}

/// How long an ELF file for this machine must be, so that all of what it loads is there. `None`: it is none.
fn elf_bytes(head: &[u8]) -> Option<u64> {
    const HEADER: usize = 64;
    const LOAD: u64 = 1;
    // 64 bits, little-endian; others are left to the kernel.
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    if head.len() < HEADER {
        return Some(HEADER as u64);
    }
    let number = |from: usize, length: usize| {
        let bytes = head.get(from..from.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut needed = table.saturating_add(size * count);
    for entry in 0..count {
        let at = usize::try_from(table.checked_add(entry * size)?).ok()?;
        // A table that stands further behind than was read is not looked at.
        let (Some(kind), Some(offset), Some(length)) =
            (number(at, 4), number(at.checked_add(8)?, 8), number(at.checked_add(32)?, 8))
        else {
            break;
        };
        if kind == LOAD {
            needed = needed.max(offset.saturating_add(length));
        }
    }
    Some(needed)
}

/// The beginning of a file, and its length.
fn head(path: &Path) -> io::Result<(Vec<u8>, u64)> {
    // Whatever it is by now, nobody is waited for.
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let length = file.metadata()?.len();
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    Ok((head, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_whole_and_half_of_it_is_not() {
        let own = std::env::current_exe().unwrap();
        assert_eq!(is_cut_off(&own), None);
        let folder = tempfile::tempdir().unwrap();
        let half = folder.path().join("half");
        let (head, length) = head(&own).unwrap();
        assert!(elf_bytes(&head).unwrap() <= length);
        fs::write(&half, &head).unwrap();
        assert!(is_cut_off(&half).unwrap().starts_with("it is cut off: 4096 bytes of at least"));
        fs::write(&half, &head[..20]).unwrap();
        assert!(is_cut_off(&half).unwrap().contains("20 bytes of at least 64"));
        let script = folder.path().join("script");
        fs::write(&script, format!("#!{} -x\n", half.display())).unwrap();
        assert!(is_cut_off(&script).unwrap().starts_with("its interpreter "));
        fs::write(&script, format!("#!{0}\n", script.display())).unwrap();
        assert_eq!(is_cut_off(&script), None, "its own interpreter");
    }
    #[test]
    fn a_limit_of_the_system_is_not_the_programs_fault() {
        let own = std::env::current_exe().unwrap();
        let of = |code| why(&own, &io::Error::from_raw_os_error(code));
        assert!(of(libc::EAGAIN).unwrap().contains("limit of processes"));
        assert_eq!(of(libc::ENOMEM), None);
        assert!(of(libc::ENOEXEC).is_some_and(|text| text.contains("damaged")));
    }
}
