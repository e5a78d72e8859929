//! The Python environment of the tests of Celery applications: the packages of `tests/celery/requirements.txt`, installed once
//! and kept in the target folder.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Its Python; `None` where there is none and none can be made, after saying so.
pub fn python() -> Option<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match MADE.get_or_init(make) {
        Ok(python) => Some(python),
        Err(why) => {
            super::left_out(&format!("Celery cannot be installed: {why}"));
            None
        }
    }
}

fn make() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/celery/environment.py");
    let run = Command::new("python3").arg(script).arg(env!("CARGO_TARGET_TMPDIR")).output();
    let run = run.map_err(|error| format!("python3: {error}"))?;
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    if run.status.success() {
        return Ok(PathBuf::from(out.trim_end()));
    }
    // The reason is its last word.
    Err(err.trim_end().lines().last().unwrap_or("without a reason").to_owned())
}
