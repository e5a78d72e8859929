//! A running master, end to end: its starts and stops, its control socket, its figures, its service manager, the tasks that
//! it has done, and what its workers leave behind.

mod bulk;
mod control;
mod metrics;
mod orphans;
mod sessions;
mod splitting;
mod starts;
mod stops;
#[path = "../support/mod.rs"]
mod support;
mod systemd;
mod unique;
