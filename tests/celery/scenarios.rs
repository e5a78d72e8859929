//! The files of `scenarios/`, on one master that they share, each kind with a queue of its own.

use std::sync::OnceLock;

use super::{
    application::{Application, FOLDER, Kind, More, Workers},
    redis::Redis,
    support::{broker, left_out},
};

const KINDS: &str = "  resize: { command: [./resize.sh], mode: once }
  frames: { command: [python3, frames.py] }
";
const WORKERS: &str = "  thumbs: { worker: resize, protocol: celery }
  framed: { worker: frames, protocol: celery }
";

/// What all share. It ends with this program.
struct Shared {
    application: Application,
    redis: Option<Redis>,
}

fn shared() -> Option<&'static Shared> {
    static SHARED: OnceLock<Option<Shared>> = OnceLock::new();
    SHARED.get_or_init(start).as_ref().or_else(|| {
        left_out("the applications that the scenarios share");
        None
    })
}

fn start() -> Option<Shared> {
    let broker = broker::controlled()?;
    let redis = Redis::start();
    // It keeps the arguments beside a result, which JSON could not.
    let settings = r#"{"result_serializer": "pickle"}"#;
    let trusting = vec![("SHOP_ACCEPT", "json,pickle".to_owned()), ("SHOP_SETTINGS", settings.to_owned())];
    let kept = Kind { name: "kept", queue: "kept", results: FOLDER.to_owned(), ..Kind::shop(2) };
    let mut kinds = vec![
        Kind::shop(3),
        kept.clone(),
        Kind { name: "trusting", queue: "trusting", environment: trusting, ..Kind::shop(1) },
        Kind { name: "warehouse", queue: "warehouse", application: "warehouse", ..Kind::shop(1) },
    ];
    if let Some(redis) = &redis {
        kinds.push(Kind { name: "cached", queue: "cached", results: redis.address(), ..kept });
    }
    let application = Application::at(broker.fresh_vhost(), kinds)?;
    let fired = application.folder.join("fired");
    let schedule = format!(
        "scheduled_workers:\n- {{ celery: shop.tasks.note, args: [\"{}\", of a schedule], queue: celery, second: \"*\" }}\n",
        fired.display()
    );
    for file in ["resize.sh", "frames.py"] {
        application.copy(&format!("tests/celery/scenarios/{file}"));
    }
    application.configure(&More { kinds: KINDS, workers: WORKERS, sections: &schedule });
    application.start(&["--scheduler"]);
    Some(Shared { application, redis })
}

fn run(kind: &str, file: &str) {
    if let Some(shared) = shared() {
        shared.application.scenarios(kind, file);
    }
}

#[test]
fn tasks_with_results_over_rpc() {
    run("shop", "tasks.py");
}

#[test]
fn canvases_with_results_in_a_folder() {
    run("kept", "canvas.py");
}

#[test]
fn canvases_with_results_in_redis() {
    if shared().is_some_and(|shared| shared.redis.is_some()) {
        run("cached", "canvas.py");
    }
}

#[test]
fn pickle_allowed_and_refused() {
    run("trusting", "content_types.py");
}

#[test]
fn a_django_project() {
    run("warehouse", "django_project.py");
}

#[test]
fn kinds_that_know_nothing_of_celery() {
    if Workers::of_this_run() == Workers::Ours {
        run("shop", "any_kind.py");
    }
}

#[test]
fn a_schedule_sends_tasks() {
    if Workers::of_this_run() == Workers::Ours {
        run("shop", "schedules.py");
    }
}
