//! Workers in other languages: the example projects, one session in four languages, ends that no Rust kind has, and
//! payloads of all shapes.

#[path = "languages/checked.rs"]
mod checked;
#[path = "languages/ends.rs"]
mod ends;
#[path = "languages/payloads.rs"]
mod payloads;
#[path = "languages/projects.rs"]
mod projects;
#[path = "languages/properties.rs"]
mod properties;
#[path = "languages/said.rs"]
mod said;
#[path = "languages/session.rs"]
mod session;
#[path = "support/mod.rs"]
mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A folder of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Whether there is a program of this name; says so if not.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        support::left_out(&format!("{program} is not installed"));
    }
    found
}
