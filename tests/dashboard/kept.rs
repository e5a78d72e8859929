//! The page that a master keeps: opened by a link that the control socket tells, started again when it dies, gone with its master.

use nix::{sys::signal::Signal, unistd::Pid};

use super::Page;
use crate::support::{
    Demo, Place,
    http::Site,
    log::{Master, until},
};

const SETTINGS: &str = "workers: { foo: demo_sleep_worker }\ndashboard: { listen: \"127.0.0.1:0\" }\n";

/// The link of a demo's page, once it listens.
fn link(demo: &Demo) -> String {
    until("the page does not listen", || demo.run(&["dashboard", "link"]).code == 0);
    demo.run(&["dashboard", "link"]).stdout.trim().to_owned()
}

fn opened(process: Master, link: &str) -> Page {
    let (address, path) = link.strip_prefix("http://").and_then(|link| link.split_once('/')).expect("a link");
    let mut page =
        Page { process, site: Site(address.parse().expect("numbers")), link: Some(format!("/{path}")), cookie: None };
    page.use_link();
    page
}

/// The page's process of a master.
fn page_of(master: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{master}/task/{master}/children")).ok();
    // Its thread starts it: the children of all threads are looked at.
    let tasks = std::fs::read_dir(format!("/proc/{master}/task")).ok()?;
    let of_threads = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let all: Vec<String> = children.into_iter().chain(of_threads).collect();
    let is_page = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"--kept"))
    };
    all.iter().flat_map(|list| list.split_whitespace()).filter_map(|pid| pid.parse().ok()).find(is_page)
}

#[test]
fn a_kept_page_is_opened_by_the_link_of_the_control_socket_and_comes_again_when_it_dies() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    let mut master = demo.start_configured(&[]);
    let line = master.expect("Page at http://127.0.0.1:");
    assert!(!line.contains("key="), "the log tells the key: {line}");
    let master_pid = i32::try_from(master.pid()).expect("a pid");
    let first = link(&demo);
    let mut page = opened(master, &first);
    until("not all is well", || page.html("/").contains("All is well"));
    let pid = page_of(master_pid).expect("its process");
    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it is there");
    until("it is not started again", || page_of(master_pid).is_some_and(|other| other != pid));
    page.process.expect("The page's process has ended: killed by SIGKILL; it is started again in 1 s");
    let again = link(&demo);
    let key = |link: &str| link.split_once("key=").expect("a key").1.to_owned();
    assert_eq!(key(&first), key(&again), "links that people have still open it");
    assert!(!page.process.log().text().contains(&key(&first)), "the log tells the key");
    // The work did not notice.
    demo.submit("foo", r#"{"n":1}"#);
    until("it is not done", || demo.done().len() == 1);
    let last = page_of(master_pid).expect("its process");
    page.process.signal(Signal::SIGKILL);
    page.process.wait();
    let is_gone =
        |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z"));
    until("the page outlives its master", || is_gone(last));
}

#[test]
fn a_reload_with_other_settings_starts_the_page_again_and_one_without_does_not() {
    let demo = Demo::new(&Place::sqlite());
    let settings = |more: &str| {
        SETTINGS.replacen("demo_sleep_worker", &format!("demo_sleep_worker{more}"), 1)
            + "scheduled_workers: [{ worker: demo_sleep_worker, id: nightly, cron: '0 3 * * *' }]\n"
    };
    demo.write("asynctask.yaml", SETTINGS);
    let mut master = demo.start_configured(&[]);
    master.expect("Page at http://127.0.0.1:");
    let master_pid = i32::try_from(master.pid()).expect("a pid");
    let (first, pid) = (link(&demo), page_of(master_pid).expect("its process"));
    let page = opened(master, &first);
    assert!(!page.html("/api/schedules").contains("nightly"));
    assert_eq!(demo.run(&["control", "reload", "--wait"]).code, 0);
    assert_eq!((page_of(master_pid), link(&demo)), (Some(pid), first.clone()), "nothing is other than it was");
    demo.write("asynctask.yaml", &settings(", bar: demo_sleep_worker"));
    assert_eq!(demo.run(&["control", "reload", "--wait"]).code, 0);
    until("it is not started again", || page_of(master_pid).is_some_and(|other| other != pid));
    until("it does not listen", || demo.run(&["dashboard", "link"]).code == 0);
    let again = link(&demo);
    assert_eq!(first.split_once("key=").map(|(_, key)| key), again.split_once("key=").map(|(_, key)| key));
    // It is no end that anybody has to look into.
    assert!(!page.process.log().text().contains("The page's process has ended"), "{}", page.process.log().text());
    let page = opened(page.process, &again);
    assert!(page.html("/api/schedules").contains("nightly"));
    page.html("/failed/bar");
    // Its own settings may change, but it cannot come or go.
    let pid = page_of(master_pid).expect("its process");
    demo.write("asynctask.yaml", &SETTINGS.replacen("listen:", "hide: [password], listen:", 1));
    assert_eq!(demo.run(&["control", "reload", "--wait"]).code, 0);
    until("it is not started with its settings", || page_of(master_pid).is_some_and(|other| other != pid));
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\n");
    let ran = demo.run(&["control", "reload", "--wait"]);
    assert!(ran.code == 1 && ran.stderr.contains("dashboard needs a restart"), "{}", ran.stderr);
    page.end();
}

#[test]
fn what_is_wrong_with_its_history_stands_in_the_log_of_its_master() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("old.db", &"this is no database ".repeat(1000));
    demo.write("asynctask.yaml", &SETTINGS.replacen("listen:", "history: old.db, listen:", 1));
    let mut master = demo.start_configured(&[]);
    let line = master.expect("Page: nothing is written to the history: the file ");
    assert!(line.contains("old.db is damaged; remove it"), "{line}");
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}

#[test]
fn a_master_without_a_page_says_how_to_have_one() {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", "workers: { foo: demo_sleep_worker }\n");
    let mut master = demo.start_configured(&[]);
    master.expect("Starting; queue=foo");
    let ran = demo.run(&["dashboard", "link"]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("keeps no page") && ran.stderr.contains("dashboard: {"), "{}", ran.stderr);
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}
