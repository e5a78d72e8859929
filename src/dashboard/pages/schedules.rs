//! Schedules: when each fires next, when it fired last, and who fires them. The same as `asynctask schedules`.

use std::sync::Arc;

use askama::Template;
use axum::{Extension, extract::State, http::StatusCode, response::Response};

use super::{Frame, NAME};
use crate::{
    clock::Clock,
    dashboard::{access::visitor::Visitor, answer, page::Page, shown},
    schedule::{
        Schedule,
        shown::{Known, target, upcoming},
    },
};

#[derive(Template)]
#[template(path = "schedules.html", config = "src/dashboard/askama.toml")]
struct Schedules {
    frame: Frame,
    leader: String,
    rows: Vec<Row>,
}

struct Row {
    id: String,
    target: String,
    queue: String,
    zone: String,
    next: Vec<String>,
    last: String,
}

pub(crate) async fn schedules(State(page): State<Arc<Page>>, Extension(visitor): Extension<Visitor>) -> Response {
    let snapshot = page.office.look();
    let known = if snapshot.is_of_now() { Known::told(&snapshot.schedules) } else { Known::default() };
    let now = Clock::wall();
    let row = |schedule: &Schedule| {
        let (kind, name) = target(schedule);
        let last = known.last.as_ref().map(|last| last.get(&schedule.id));
        Row {
            id: shown::line(&schedule.id, NAME),
            target: shown::line(&format!("{kind} {name}"), NAME),
            queue: shown::line(&schedule.queue, NAME),
            zone: schedule.zone(),
            next: upcoming(schedule, now),
            last: match last {
                Some(Some(at)) => schedule.when.in_its_zone(*at),
                Some(None) => "-".to_owned(),
                None => "not known".to_owned(),
            },
        }
    };
    let view = Schedules {
        frame: Frame::new("Schedules", "/schedules", &visitor, &snapshot, "asynctask schedules"),
        leader: match &known.leader {
            Some((pid, host)) => format!("Process {pid} on {} fires them.", host.as_deref().unwrap_or("this host")),
            None => "This master does not fire them: another one does, or none.".to_owned(),
        },
        rows: page.application.schedules.iter().map(row).collect(),
    };
    answer::page(StatusCode::OK, &view)
}
