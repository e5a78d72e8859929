//! What a browser test needs: a Chromium, Node.js, and the packages of `package-lock.json`, which npm installs once into the target
//! folder. What is missing is told, and the test is left out; with `ASYNCTASK_REQUIRE_BROWSER=1` that is a failure.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use nix::fcntl::{Flock, FlockArg};

use crate::support::left_out;

/// Oldest Node.js that the packages run on.
const OLDEST_NODE: u32 = 20;
const CHROMIUMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Where the tools are.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) chromium: PathBuf,
    /// The folder with `node_modules`.
    pub(crate) packages: PathBuf,
}

/// The tools; `None` where one is missing, after saying so.
pub(crate) fn tools() -> Option<&'static Tools> {
    static FOUND: OnceLock<Result<Tools, String>> = OnceLock::new();
    match FOUND.get_or_init(find) {
        Ok(tools) => Some(tools),
        Err(why) => {
            assert!(env::var_os("ASYNCTASK_REQUIRE_BROWSER").is_none(), "a browser is required, and {why}");
            left_out(&format!("the page in a browser: {why}"));
            None
        }
    }
}

fn find() -> Result<Tools, String> {
    let chromium = chromium().ok_or("there is no Chromium (Debian: apt-get install chromium)")?;
    let version = said(Command::new("node").arg("--version"))?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|number| number.parse::<u32>().ok());
    if major < Some(OLDEST_NODE) {
        return Err(format!("Node.js is {}, and {OLDEST_NODE} is needed", version.trim()));
    }
    Ok(Tools { chromium, packages: packages()? })
}

/// `ASYNCTASK_TEST_CHROMIUM`, else the first on the path.
fn chromium() -> Option<PathBuf> {
    if let Some(path) = env::var_os("ASYNCTASK_TEST_CHROMIUM") {
        return Some(path.into());
    }
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    CHROMIUMS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}

/// Installs the packages, once: another list of them is another folder. Programs that ask at once wait for the one that installs.
fn packages() -> Result<PathBuf, String> {
    let lists = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = fs::read(lists.join("package-lock.json")).expect("the lock file is here");
    let sum = lock
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let folder = target.join(format!("browser-packages-{sum:016x}"));
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let turn = File::create(target.join("browser-packages.lock")).map_err(|error| error.to_string())?;
    let _turn = Flock::lock(turn, FlockArg::LockExclusive).map_err(|(_, errno)| errno.to_string())?;
    // Written last: a folder without it was interrupted while it was filled.
    let made = folder.join("made");
    if !made.exists() {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(lists.join(name), folder.join(name)).map_err(|error| error.to_string())?;
        }
        // A machine without a network is to be told from a slow one soon. No package runs a program of its own.
        let options =
            ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=20000"];
        said(Command::new("npm").args(options).current_dir(&folder))?;
        fs::write(&made, "").map_err(|error| error.to_string())?;
    }
    Ok(folder)
}

/// What a command prints; its last word of complaint if it fails.
fn said(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = complaint.lines().rev().find(|line| !line.trim().is_empty() && !line.contains("complete log"));
    Err(format!("{name} failed: {}", last.unwrap_or("without a reason").trim()))
}
