//! Celery's own programs before, beside and after a master: what is sent by or held by the one is done by the other.

use std::{
    path::PathBuf,
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::{
    application::{Application, FOLDER, Kind, More, Workers},
    support::log::until,
};

/// Seconds until a task is due that was sent to the master and that Celery's worker is to do: longer than that takes to start.
const SOON: u32 = 12;

/// A program of Celery's that goes on.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// `celery -A shop` with these arguments.
    fn start(application: &Application, arguments: &[&str]) -> Self {
        let log = application.folder.join(format!("{}.log", arguments[0]));
        let output = std::fs::File::create(&log).expect("a file of ours");
        let mut command = application.producer("shop", &[&["-m", "celery", "-A", "shop"], arguments].concat());
        command.current_dir(&application.folder).stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a file of ours")).stderr(output);
        Self { child: command.spawn().expect("Celery is installed"), log }
    }

    fn worker(application: &Application) -> Self {
        let program = Self::start(application, &["worker", "-c", "1", "-l", "INFO", "-n", "celery@shop"]);
        program.says(" ready.");
        program
    }

    fn says(&self, text: &str) {
        let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
        until(&format!("it does not say {text:?}: {}", self.log.display()), || log().contains(text));
    }

    /// A warm shutdown.
    fn end(mut self) {
        kill(self.pid(), Signal::SIGTERM).expect("it lives");
        self.child.wait().expect("it is our child");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Of a worker's processes none outlives a QUIT.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(self.pid(), Signal::SIGQUIT);
            let _ = self.child.wait();
        }
    }
}

fn application(settings: &Value) -> Option<Application> {
    if Workers::of_this_run() == Workers::Celerys {
        return None;
    }
    let environment = vec![("SHOP_SETTINGS", settings.to_string())];
    let application = Application::new(vec![Kind { results: FOLDER.to_owned(), environment, ..Kind::shop(1) }])?;
    application.configure(&More { sections: "celery: { control: work }\n", ..More::default() });
    Some(application)
}

fn depth(application: &Application, what: &str) -> u64 {
    let depths: Value = serde_json::from_str(&application.run(&["queues", "--json"])).expect("JSON");
    depths["celery"][what].as_u64().unwrap_or(u64::MAX)
}

/// What a program of Celery's that ends has printed.
fn celery(application: &Application, arguments: &[&str]) -> String {
    let mut command = application.producer("shop", &[&["-m", "celery", "-A", "shop"], arguments].concat());
    let output = command.output().expect("Celery is installed");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}{}", application.logs());
    out.trim_end().to_owned()
}

#[test]
fn a_worker_of_celery_hands_over_to_a_master_and_takes_over_again() {
    let Some(application) = application(&json!({})) else { return };
    let python = |lines: &str| application.python("shop", &format!("from shop import app, tasks\n{lines}"));
    let before = Program::worker(&application);
    python("tasks.note.apply_async(('later', 'later'), countdown=3600)");
    before.says("received");

    let mut master = application.master(&[]);
    master.expect("Starting; queue=celery");
    // Both take from the queue.
    python(
        "seen = set()\n\
         for _ in range(30):\n    \
             if len(seen) == 2: break\n    \
             seen |= {told.get(timeout=30)['hostname'].split('@')[0] for told in [tasks.told.delay() for _ in range(20)]}\n\
         assert seen == {'asynctask', 'celery'}, seen",
    );
    before.end();
    // What it held in memory.
    until("the task is not delayed here", || {
        depth(&application, "delayed") == 1 && depth(&application, "in_hand") == 0
    });

    let mended = application.folder.join("mended");
    let died = python(&format!("print(tasks.die_without.delay({:?}).id)", mended.display().to_string()));
    until("it is no dead letter", || depth(&application, "failed") == 1);
    let soon = application.folder.join("soon");
    let due = python(&format!(
        "import time\nprint(time.time() + {SOON})\ntasks.note.apply_async(({:?}, 'soon'), countdown={SOON})",
        soon.display().to_string()
    ));
    until("the task is not delayed", || depth(&application, "delayed") == 2);
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);

    let after = Program::worker(&application);
    std::fs::write(&mended, "").expect("a file of ours");
    application.run(&["failed", "retry", "celery", &died]);
    python(&format!(
        "import time\nwhile app.AsyncResult('{died}').state != 'SUCCESS':\n    time.sleep(0.05)\n\
         assert app.AsyncResult('{died}').result == 'mended'"
    ));
    let done = || std::fs::read_to_string(&soon).unwrap_or_default();
    until("the delayed task is not done", || done().ends_with("soon\n"));
    let began = done().split_once(' ').and_then(|(began, _)| began.parse::<f64>().ok()).expect("a moment");
    assert!(began >= due.parse().expect("a moment"), "it began at {began}, and was due at {due}");
    after.end();
}

#[test]
fn beat_and_commands_that_speak_with_no_worker() {
    let each_second = json!({"task": "shop.tasks.note", "schedule": 1.0, "args": ["ticks", "tick"]});
    let settings = json!({"beat_schedule": {"each second": each_second}, "task_track_started": true});
    let Some(application) = application(&settings) else { return };
    let python = |lines: &str| application.python("shop", &format!("import time\nfrom shop import tasks\n{lines}"));
    let mut master = application.master(&[]);
    master.expect("Starting; queue=celery");
    until("the node is not up", || master.log().text().contains("Celery node"));

    let beat = Program::start(&application, &["beat", "--pidfile=", "-s", "beat"]);
    let ticks = || std::fs::read_to_string(application.folder.join("ticks")).unwrap_or_default();
    until("beat's tasks are not done", || ticks().lines().count() >= 3);
    beat.end();

    let id = celery(&application, &["call", "shop.tasks.add", "-a", "[20, 22]"]);
    assert_eq!(celery(&application, &["result", &id]), "42");
    // A task that has begun says so; one that expires while it waits in its queue goes without a word.
    python(
        "nap = tasks.nap.delay(4)\n\
         while nap.state != 'STARTED':\n    time.sleep(0.05)\n\
         assert nap.info['hostname'].startswith('asynctask@'), nap.info\n\
         expired = tasks.note.apply_async(('expired', 'it ran'), expires=1)\n\
         assert nap.get(timeout=30) == 4\n\
         assert tasks.add.delay(1, 2).get(timeout=30) == 3\n\
         assert expired.state == 'PENDING', expired.state",
    );
    assert_eq!(application.dead_letters("celery"), Vec::<Value>::new());
    assert!(!application.folder.join("expired").exists());

    python("from shop import app\napp.control.shutdown()");
    assert_eq!(master.wait().0, 0);
    python("[tasks.add.delay(1, 2) for _ in range(3)]");
    let purged = celery(&application, &["purge", "-f"]);
    assert!(purged.contains("Purged 3 messages from 1 known task queue"), "{purged}");
    assert_eq!(depth(&application, "ready"), 0);
}
