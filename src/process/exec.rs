//! Executing a program with execve(2) alone.
//!
//! std executes with `execvp`, and the C library gives a file that the kernel does not take for a program to `/bin/sh`:
//! an empty one "succeeds" at once, and one that is cut off does whatever its bytes mean there. So the last thing in the
//! forked child is our own execve: what it refuses is a failed start. The words, the variables and the places to look at are
//! made before the fork; the child allocates nothing.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    ffi::{CString, OsStr, OsString, c_char},
    io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    ptr,
};

use super::mark::DIGITS;

/// Where a program is looked for if there is no PATH, as execvp(3) does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A process's variables, byte for byte.
pub type Variables = BTreeMap<OsString, OsString>;

/// What execve(2) is called with.
#[derive(Debug)]
pub(super) struct Exec {
    /// Tried in turn.
    places: Vec<CString>,
    arguments: Pointers,
    variables: Pointers,
    numbered: Option<Numbered>,
}

/// Strings with the list of pointers to them that ends with a null, as the kernel wants it.
#[derive(Debug)]
struct Pointers {
    /// Owns what is pointed to; the heap's bytes stay where they are when this is moved.
    strings: Vec<CString>,
    list: Vec<*const c_char>,
}

/// A variable that begins with the number of its process, which only the forked child knows.
#[derive(Debug)]
struct Numbered {
    /// Made by [`CString::into_raw`].
    string: *mut c_char,
    /// Where its digits are.
    at: usize,
}

impl Drop for Numbered {
    fn drop(&mut self) {
        // SAFETY: it came from `into_raw`, and only digits were replaced by digits.
        drop(unsafe { CString::from_raw(self.string) });
    }
}

// SAFETY: the string belongs to this value alone.
unsafe impl Send for Numbered {}
// SAFETY: the only change is made in a forked child, which has one thread and a copy of its own.
unsafe impl Sync for Numbered {}

// SAFETY: the pointers are to strings that the same value owns and nobody changes.
unsafe impl Send for Pointers {}
// SAFETY: as above; everybody only reads.
unsafe impl Sync for Pointers {}

impl Pointers {
    fn new(strings: Vec<CString>) -> Self {
        let list = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Self { strings, list }
    }
}

impl Exec {
    /// The program `name`, looked for in the PATH of `variables` if there is no slash in it, called with `arguments`, of
    /// which the first is how it is called.
    ///
    /// # Errors
    /// If there is a NUL in one of them.
    pub(super) fn new<'a>(
        name: &OsStr,
        arguments: impl IntoIterator<Item = &'a OsStr>,
        variables: &Variables,
    ) -> io::Result<Self> {
        let places =
            places(name, variables).into_iter().map(|place| Ok(CString::new(place.into_os_string().as_bytes())?));
        let arguments = arguments.into_iter().map(|word| Ok(CString::new(word.as_bytes())?));
        let pairs = variables.iter().map(|(name, value)| {
            let pair = [name.as_bytes(), b"=", value.as_bytes()].concat();
            Ok(CString::new(pair)?)
        });
        Ok(Self {
            places: places.collect::<io::Result<_>>()?,
            arguments: Pointers::new(arguments.collect::<io::Result<_>>()?),
            variables: Pointers::new(pairs.collect::<io::Result<_>>()?),
            numbered: None,
        })
    }

    /// From now on the variable `name`, whose value begins with as many digits, is to begin with the number of the process
    /// itself.
    pub(super) fn number(&mut self, name: &str) {
        let Pointers { strings, list } = &mut self.variables;
        let is_it =
            |string: &CString| string.as_bytes().strip_prefix(name.as_bytes()).is_some_and(|v| v.starts_with(b"="));
        let Some(position) = strings.iter().position(is_it) else {
            debug_assert!(false, "{name} is set for whoever is to be numbered");
            return;
        };
        let (at, digits) = (name.len() + 1, strings[position].as_bytes().iter().skip(name.len() + 1));
        if digits.take(DIGITS).filter(|byte| byte.is_ascii_digit()).count() < DIGITS {
            debug_assert!(false, "{name} begins with room for a number");
            return;
        }
        let string = std::mem::take(&mut strings[position]).into_raw();
        list[position] = string;
        self.numbered = Some(Numbered { string, at });
    }

    /// Writes the number of this process. For the forked child.
    pub(super) fn write_number(&self) {
        let Some(Numbered { string, at }) = &self.numbered else { return };
        let mut rest = std::process::id();
        for place in (0..DIGITS).rev() {
            let digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            // SAFETY: `number` has seen that many digits there; the child has its own copy, and nobody reads it meanwhile.
            unsafe { string.add(at + place).write(c_char::from_ne_bytes([digit])) };
            rest /= 10;
        }
    }

    /// Becomes the program. For the forked child: system calls only.
    ///
    /// # Errors
    /// What the kernel says; of several places the most telling.
    pub(super) fn replace_process(&self) -> io::Result<Infallible> {
        let mut denied = false;
        let mut last = libc::ENOENT;
        for place in &self.places {
            // SAFETY: all three are to what `self` owns: a string with its NUL, and lists that end with a null pointer.
            unsafe { libc::execve(place.as_ptr(), self.arguments.list.as_ptr(), self.variables.list.as_ptr()) };
            last = io::Error::last_os_error().raw_os_error().unwrap_or(libc::ENOENT);
            match last {
                // It may be in a later folder, as execvp(3) has it.
                libc::EACCES => denied = true,
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
                _ => break,
            }
        }
        Err(io::Error::from_raw_os_error(if denied { libc::EACCES } else { last }))
    }
}

/// Where a program may be, in order.
pub(super) fn places(name: &OsStr, variables: &Variables) -> Vec<PathBuf> {
    if name.as_bytes().contains(&b'/') || name.is_empty() {
        return vec![name.into()];
    }
    let path = variables.get(OsStr::new("PATH")).map_or(OsStr::new(DEFAULT_PATH), OsString::as_os_str);
    path.as_bytes().split(|byte| *byte == b':').map(|folder| Path::new(OsStr::from_bytes(folder)).join(name)).collect()
}

/// Has `command` execute `argv` with these variables and never by a shell: `argv[0]` is looked for in their PATH if it
/// has no slash, else from the command's folder. The variables and arguments of `command` itself do not count.
///
/// # Errors
/// If there is nothing to execute, or a NUL in it.
pub fn without_shell(command: &mut Command, argv: &[impl AsRef<OsStr>], variables: &Variables) -> io::Result<()> {
    let Some(name) = argv.first() else { return Err(nothing_named()) };
    let exec = Exec::new(name.as_ref(), argv.iter().map(AsRef::as_ref), variables)?;
    // SAFETY: the closure runs in the forked child and only makes system calls, with what was prepared before.
    unsafe { command.pre_exec(move || exec.replace_process().map(|never| match never {})) };
    Ok(())
}

/// No program at all.
pub(super) fn nothing_named() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a command needs at least a program")
}
