//! What the tests of jobs have in common: a folder with a worker whose steps do what the payload of their job says, and what is seen
//! of jobs from outside.

use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

use super::support::{
    Demo, Place,
    demo::Ran,
    log::{Master, until},
};

/// The transports that keep jobs.
pub(super) fn places() -> Vec<Place> {
    Place::all()
}

/// A session on every transport that keeps jobs, all at once.
pub(super) fn on_each(session: impl Fn(&Demo) + Sync) {
    let session = &session;
    std::thread::scope(|scope| {
        for place in places() {
            scope.spawn(move || session(&Demo::new(&place)));
        }
    });
}

/// Settings for a worker of steps: `pipelines` is the text below that key, `queues` a queue of `steps.py` each, `more` further settings.
pub(super) fn configure(demo: &Demo, pipelines: &str, queues: &[&str], more: &str) {
    let indented = |text: &str| text.trim_matches('\n').lines().flat_map(|line| ["  ", line, "\n"]).collect::<String>();
    let workers: String = queues.iter().flat_map(|queue| ["  ", *queue, ": ", QUEUE, "\n"]).collect();
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python");
    demo.write("steps.py", include_str!("steps.py"));
    demo.write(
        "asynctask.yaml",
        &format!(
            "control: {{ socket: none }}\nsupervisor: {{ restart: {{ first: 50ms, longest: 100ms }}, start_timeout: 60s }}\npipelines:\n{}workers:\n{workers}{}\
             kinds:\n  steps: {{ command: [python3, steps.py], env: {{ PYTHONPATH: '{}', PYTHONDONTWRITEBYTECODE: '1' }} }}\n",
            indented(pipelines),
            if more.is_empty() { String::new() } else { format!("{}\n", more.trim_matches('\n')) },
            module.display()
        ),
    );
}

const QUEUE: &str =
    "{ worker: steps, retry: { max_attempts: 2, first: 100ms, jitter: 0% }, breaker: { failures: 100000 } }";

/// Starts a job; its id.
pub(super) fn started(demo: &Demo, arguments: &[&str]) -> String {
    let run = demo.run(&[&["jobs", "start"], arguments].concat());
    assert_eq!(run.code, 0, "{run:?}");
    run.stdout.trim().to_owned()
}

pub(super) fn shown(demo: &Demo, job: &str) -> Value {
    demo.json(&["jobs", "show", job, "--json"])
}

/// Works until there is nothing left to do.
pub(super) fn drained(demo: &Demo) -> Ran {
    demo.run(&["workers", "--halt-when-empty"])
}

/// A command about jobs that is carried out; what it says.
pub(super) fn ordered(demo: &Demo, arguments: &[&str]) -> String {
    let run = demo.run(&[&["jobs"], arguments].concat());
    assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
    run.stdout
}

/// Waits until the job is in this state.
pub(super) fn until_state(demo: &Demo, job: &str, state: &str) -> Value {
    until(&format!("job {job} is not {state}"), || shown(demo, job)["state"] == state);
    shown(demo, job)
}

/// A master whose log is printed if the test fails.
pub(super) fn master(demo: &Demo, options: &[&str]) -> Master {
    demo.follow({
        let mut command = demo.command(&["workers"]);
        command.args(options);
        command
    })
}

/// The states of a job and its steps, `STATE step:STATE …`.
pub(super) fn states(job: &Value) -> String {
    let order = job["definition"]["steps"].as_array().expect("a list").iter();
    let steps = order.map(|step| {
        let name = step["name"].as_str().expect("a name");
        format!(" {name}:{}", job["steps"][name]["state"].as_str().expect("a state"))
    });
    job["state"].as_str().expect("a state").to_owned() + &steps.collect::<String>()
}

/// The numbers of tasks of a step: done, failed, known.
pub(super) fn tasks(job: &Value, step: &str) -> [u64; 3] {
    ["done", "failed", "known"].map(|name| job["steps"][step]["tasks"][name].as_u64().expect("a number"))
}

/// A line of `began.txt` or `done.txt`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Did {
    pub(super) job: String,
    pub(super) step: String,
    pub(super) number: String,
    pub(super) task: String,
}

fn lines(demo: &Demo, file: &str) -> Vec<Did> {
    let text = std::fs::read_to_string(demo.folder.path().join(file)).unwrap_or_default();
    let did = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [job, step, number, task] = words[..] else { panic!("a line that is none: {line}") };
        let [job, step, number, task] = [job, step, number, task].map(str::to_owned);
        Did { job, step, number, task }
    };
    // Its last line may be on its way.
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(did).collect()
}

/// Tasks that were begun, in order.
pub(super) fn began(demo: &Demo) -> Vec<Did> {
    lines(demo, "began.txt")
}

/// Tasks that came to their end, in order.
pub(super) fn done(demo: &Demo) -> Vec<Did> {
    lines(demo, "done.txt")
}

/// How often tasks of each step came to their end.
pub(super) fn counts(did: &[Did]) -> BTreeMap<&str, usize> {
    did.iter().fold(BTreeMap::new(), |mut counts, did| {
        *counts.entry(did.step.as_str()).or_default() += 1;
        counts
    })
}

/// Puts a file there that tasks wait for, or look for.
pub(super) fn touch(demo: &Demo, name: &str) {
    demo.write(name, "");
}

/// Holds if a command failed with this code, one `error:` line with each of these in it, and a hint, if one is wanted.
pub(super) fn refused(run: &Ran, code: i32, errors: &[&str], hint: Option<&str>) {
    assert_eq!(run.code, code, "{run:?}");
    let mut lines = run.stderr.lines();
    let error = lines.find_map(|line| line.strip_prefix("error: ")).unwrap_or_default();
    assert!(errors.iter().all(|text| error.contains(text)), "no {errors:?} in {run:?}");
    let told = lines.next().and_then(|line| line.strip_prefix("hint: ")).unwrap_or_default();
    assert!(hint.is_none_or(|hint| told.contains(hint)), "no hint {hint:?} in {run:?}");
}
