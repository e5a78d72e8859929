//! Settings of a queue in the place of options and settings of Celery's worker.

use super::{
    application::{Application, Kind, Workers},
    support::log::until,
};

#[test]
fn deaths_are_tried_again_and_workers_renewed_as_the_queue_says() {
    if Workers::of_this_run() == Workers::Celerys {
        return;
    }
    let settings = ", retry: { max_attempts: 5, first: 100ms }, recycle: { max_tasks: 3 }".to_owned();
    let Some(application) = Application::new(vec![Kind { settings, ..Kind::shop(1) }]) else { return };
    let python = |lines: &str| application.python("shop", &format!("from shop import app, tasks\n{lines}"));
    let mut master = application.master(&[]);
    master.expect("Starting; queue=celery");
    let log = master.log();

    // As `reject_on_worker_lost`, but not for ever; it was acknowledged when it began, as Celery's tasks are.
    let file = application.folder.join("mended");
    let mending = std::thread::spawn({
        let (log, file) = (log.clone(), file.clone());
        move || {
            until("it has not died twice", || log.text().matches("died; restarting").count() >= 2);
            std::fs::write(file, "").expect("a file of ours");
        }
    });
    let path = file.display().to_string();
    assert_eq!(python(&format!("print(tasks.die_without.delay({path:?}).get(timeout=60))")), "mended");
    mending.join().expect("it has died twice");
    assert!(application.dead_letters("celery").is_empty());

    // As `--max-tasks-per-child`; the next one starts before the old one ends.
    assert_eq!(python("print([tasks.add.delay(n, 1).get(timeout=60) for n in range(4)])"), "[1, 2, 3, 4]");
    master.expect("is renewed: it has done its number of tasks");
    master.expect("Starting; queue=celery");
}
