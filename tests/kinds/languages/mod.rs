//! Workers in other languages: the example projects, one session in four languages, ends that no Rust kind has, and
//! payloads of all shapes.

mod checked;
mod ends;
mod memos;
mod payloads;
mod projects;
mod properties;
mod said;
mod session;
mod steps;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A folder of the repository.
pub(super) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Whether there is a program of this name; says so if not.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        crate::support::left_out(&format!("{program} is not installed"));
    }
    found
}
