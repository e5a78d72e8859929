//! The page of a real master with workers that really die, and a browser in front of it.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    support::{
        Demo,
        demo::demo_program,
        http::Site,
        log::{Master, until},
    },
    tools::Tools,
};

/// A page that is served for a demo.
pub(crate) struct Stage<'a> {
    pub(crate) demo: &'a Demo,
    page: Master,
    /// What opens it: a link with a key, or the address at which people log in.
    link: String,
}

impl<'a> Stage<'a> {
    /// Serves the page of a demo's master, which need not be there.
    pub(crate) fn open(demo: &'a Demo) -> Self {
        Self::open_with(demo, &[])
    }

    /// The same with more options.
    pub(crate) fn open_with(demo: &'a Demo, options: &[&str]) -> Self {
        // In the settings this section would make the master keep a page, too.
        let own = ["dashboard", "--listen", "127.0.0.1:0", "--set", "dashboard.hide=[password, 'card.*']"];
        let mut command = demo.command(&[&own, options].concat());
        command.stdin(Stdio::null());
        let mut page = demo.follow(command);
        let said = page.expect("http://");
        let link = said.split_once("http://").map(|(_, rest)| format!("http://{}", rest.trim())).expect("an address");
        Self { demo, page, link }
    }

    /// Waits until the page hears of a master: it is told of no end before that.
    pub(crate) fn hears(&self) {
        let (address, key) = self.link["http://".len()..].split_once("/open?key=").expect("a link with a key");
        let site = Site(address.parse().expect("an address with numbers"));
        let head = format!("Authorization: Bearer {key}\r\nConnection: close\r\n");
        until("the page hears of no master", || site.get_with("/api/counters", &head).status == 200);
    }

    /// Lets a browser do what a scenario says, to its end.
    pub(crate) fn play(&self, tools: &Tools, scenario: &str, more: &[(&str, &str)]) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/browser/scenarios").join(scenario);
        let mut command = Command::new("node");
        command.arg(script).current_dir(self.demo.folder.path()).stdin(Stdio::null());
        command.env("BROWSER_CHROMIUM", &tools.chromium).env("BROWSER_PACKAGES", &tools.packages);
        command.env("BROWSER_PICTURES", pictures()).env("PAGE_LINK", &self.link);
        command.env("DEMO_PROGRAM", demo_program()).env("DEMO_TRANSPORT", &self.demo.uri);
        command.env("DEMO_FOLDER", self.demo.folder.path()).env("DEMO_FILE", self.demo.done_file());
        command.env_remove("ASYNCTASK_CONFIG").envs(more.iter().copied());
        let output = command.output().expect("node runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{scenario}:\n{out}{err}");
    }

    /// Ends it in order.
    pub(crate) fn end(self) {
        self.page.signal(nix::sys::signal::Signal::SIGTERM);
        let (code, log) = self.page.wait();
        assert_eq!(code, 0, "{log}");
    }
}

/// Where pictures are kept: `browser-pictures` in the folder for temporary files of the target folder.
fn pictures() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("browser-pictures")
}

/// … those of the page's own README in the repository, where they are to be renewed; else in a folder beside the others.
pub(crate) fn pictures_of_readme() -> PathBuf {
    match std::env::var_os("ASYNCTASK_RENEW") {
        Some(_) => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dashboard/pictures"),
        None => pictures().join("readme"),
    }
}

/// Waits until a queue has so many dead letters.
pub(crate) fn dead(demo: &Demo, queue: &str, count: u64) {
    until(&format!("queue {queue} has not {count} dead letters"), || {
        demo.depth(queue)["failed"].as_u64() >= Some(count)
    });
}
