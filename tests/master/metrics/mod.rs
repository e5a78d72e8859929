//! Metrics and probes, end to end: what a scraper reads, what a probe is told, and who cannot disturb the master.
#![allow(clippy::float_cmp, reason = "what is compared are counts")]

mod hostile;
mod page;

use crate::support::{Demo, http::Site, log::Master};

/// A master that serves numbers, once its queue `foo` has a worker that is ready.
fn started(demo: &Demo, workers: &str) -> (Master, Site) {
    demo.write("asynctask.yaml", &format!("metrics: {{ listen: 127.0.0.1:0 }}\nworkers: {workers}\n"));
    let mut master = demo.start_configured(&[]);
    let site = Site::told(&master.expect("Metrics at http://"));
    master.expect("Starting; queue=foo");
    (master, site)
}

/// Stops it and holds that it ends well.
fn ends(demo: &Demo, master: Master) {
    let ran = demo.run(&["control", "stop"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (code, log) = master.wait();
    assert_eq!(code, 0, "{log}");
}
