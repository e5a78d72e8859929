//! Checks the merged text and makes a `Config` of it. All problems are reported at once.
//!
//! The rules of queues, kinds, pipelines, schedules and the transport, and between them, are in files of this folder, those of
//! the smaller sections in this one. The type and the bounds of most single values are checked by `reader`; addresses are read by `transport`, crontab lines by `schedule`. What a command asks beside (a master
//! without workers, files on the command line) is in the command's file in `cli`.

mod accounts;
mod address;
mod backoff;
mod celery;
mod dashboard;
mod exec_options;
mod kinds;
mod pipelines;
mod queues;
mod schedules;
mod transport;
mod withheld;

use std::time::Duration;

pub(super) use self::schedules::is_id as is_schedule_id;

use self::{address::address, backoff::backoff};
use super::{
    file::{Sources, Typed},
    node::Entry,
    problem::Origin,
    reader::Section,
    report::Report,
    types::{Config, Supervisor},
    working_folder,
};
use crate::transport::Uri;

/// The keys at the top; each is known with the prefix `asynctask_` too.
pub(super) const TOP: &[&str] = &[
    "application",
    "transport",
    "tls",
    "declare",
    "workers",
    "kinds",
    "pipelines",
    "scheduled_workers",
    "supervisor",
    "control",
    "metrics",
    "celery",
    "dashboard",
    "workers_poll_interval",
    "workers_check_child_interval",
];
const SUPERVISOR: &[&str] = &["grace", "start_timeout", "ping", "restart"];
const RESTART: &[&str] = &["first", "factor", "longest"];
const METRICS: &[&str] = &["listen"];

/// What a key at the top begins with that is none of ours: for anchors that several places share, and for other programs.
const EXTENSION: &str = "x-";

/// Checks everything; with `fires`, also that schedules have a time zone. The result is of use only if nothing was reported.
pub(super) fn check(sources: &Sources, typed: Typed, report: &Report, fires: bool) -> Config {
    let ours: Vec<Entry> = typed.root.into_iter().filter(|entry| !entry.key.starts_with(EXTENSION)).collect();
    let top = Section { report, path: String::new(), entries: &ours }.only(TOP);
    let application = application(&top).unwrap_or_else(|| sources.application.clone());
    let uri = transport::read(&top).unwrap_or_else(|| Uri::Sqlite(typed.folder.join("asynctask.db")));
    if typed.folder.as_os_str().is_empty() && top.get("transport").is_none() {
        let what = "sqlite:asynctask.db, which is meant without one, ".to_owned() + working_folder::UNKNOWN;
        report.add_outside(Origin::Option("transport".to_owned()), what, Some(working_folder::elsewhere()));
    }
    let kinds = kinds::read(&top, &sources.rust_kinds);
    let known = kinds::Known::new(&sources.rust_kinds, &kinds);
    let (mut queues, disabled) = queues::read(&top, &known, &uri);
    let pipelines = pipelines::read(&top, &queues, &disabled);
    let around = schedules::Around { application: &application, transport: &uri, kinds: &known, pipelines: &pipelines };
    let schedules = schedules::read(&top, &around, &mut queues, &disabled);
    if fires {
        schedules::check_zone(&top, &schedules);
    }
    queues::check_names(&top, &queues, &disabled);
    queues::check_for_transport(&top, &queues, &uri);
    for key in ["workers_poll_interval", "workers_check_child_interval"] {
        // Milliseconds. Nothing polls, so there is nothing to set.
        top.get(key).map(|item| item.integer(1, u32::MAX));
    }
    let control = top.section("control", &["socket"]);
    let control_socket = control.get("socket").and_then(|item| {
        let path = item.text()?;
        Some(if path == "none" { path.into() } else { item.path(path) })
    });
    let celery = celery::node(&top, &queues);
    let declare = top.get("declare").and_then(|item| item.choice(&[("create", false), ("passive", true)]));
    Config {
        application,
        transport: uri,
        withheld_variables: withheld::variables(&top, sources),
        declare_passive: declare.unwrap_or(false),
        queues,
        disabled,
        says_workers: top.get("workers").is_some(),
        kinds,
        pipelines,
        schedules,
        supervisor: supervisor(&top),
        control_socket,
        metrics_listen: top.section("metrics", METRICS).get("listen").and_then(|item| address(&item)),
        celery,
        dashboard: dashboard::read(&top),
        folder: typed.folder,
        files: typed.files,
    }
}

fn application(top: &Section<'_>) -> Option<String> {
    let item = top.get("application")?;
    let name = item.text()?;
    if crate::task::is_queue_name(name) {
        Some(name.to_owned())
    } else {
        // It is part of a queue's name on the broker.
        item.expected("a name of letters, digits and _ - . :")
    }
}

fn supervisor(top: &Section<'_>) -> Supervisor {
    let default = Supervisor::default();
    let section = top.section("supervisor", SUPERVISOR);
    let duration = |key, default: Duration| section.get(key).and_then(|item| item.duration()).unwrap_or(default);
    let restart = section.section("restart", RESTART);
    Supervisor {
        grace: section.get("grace").and_then(|item| item.duration_or_zero()).unwrap_or(default.grace),
        start_timeout: duration("start_timeout", default.start_timeout),
        ping: duration("ping", default.ping),
        restart: backoff(&restart, default.restart),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::cron::Fields;

    #[test]
    fn the_reference_names_every_key() {
        let reference = [
            include_str!("../../../config/reference.yaml"),
            // Not with the transport of the other one.
            include_str!("../../../config/pipelines.yaml"),
        ]
        .concat();
        let lists = [
            TOP,
            SUPERVISOR,
            METRICS,
            RESTART,
            super::celery::SECTION,
            super::celery::OF_SCHEDULE,
            super::dashboard::SECTION,
            super::dashboard::USER,
            super::dashboard::PROXY,
            super::kinds::KIND,
            super::exec_options::LIMITS,
            super::pipelines::PIPELINE,
            super::pipelines::STEP,
            super::schedules::OWN,
            &Fields::CALENDAR,
            &Fields::BOUNDS,
        ];
        for key in lists.into_iter().chain(super::queues::LISTS).flatten() {
            let named = |line: &str| line.split('#').next().is_some_and(|line| line.contains(&format!("{key}:")));
            assert!(reference.lines().any(named), "{key} is missing in reference.yaml");
        }
        for key in super::transport::TLS {
            // Files that have to be there are not.
            let named = |line: &str| line.trim_start_matches([' ', '#']).starts_with(&format!("{key}: "));
            assert!(reference.lines().any(named), "{key} is missing in reference.yaml");
        }
    }
}
