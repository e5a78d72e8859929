//! What is shown of a job on a terminal: a row of a table, a page, a line of progress.

use crate::{
    cli::output::{escape_control, rfc3339, table},
    clock::Timestamp,
    exit_code::{Code, Error},
    jobs::{
        definition::Step,
        ledger::{StepState, StepView, Tasks, View, Wiped},
        record::{JobState, Record},
    },
    plural::counted,
    text::one_line,
};

/// Characters of an error in a table.
const ERROR: usize = 80;
/// Bytes of a result, memo or payload on a page.
const VALUE: usize = 2000;

/// A job as it is stored, read.
pub(super) fn view(record: &Record) -> Result<View, Error> {
    View::of(record).map_err(|error| {
        Error::new(Code::Internal, format!("job {} cannot be read: {error}", record.id))
            .hint("it may be of a later release than this program")
    })
}

pub(super) const COLUMNS: [&str; 9] = ["ID", "JOB", "STATE", "STEPS", "AT", "TASKS", "BEGAN AT", "ENDED AT", "ERROR"];

/// Its row in a list.
pub(super) fn row(view: &View) -> Vec<String> {
    let done = view.steps.iter().filter(|step| step.state == StepState::Done).count();
    let at: Vec<&str> = under_way(view).map(|step| step.name.as_str()).collect();
    vec![
        view.id.clone(),
        view.place(),
        state(view),
        format!("{done}/{}", view.steps.len()),
        if at.is_empty() { "-".to_owned() } else { at.join(",") },
        tasks(view.tasks),
        moment(view.began_at),
        moment(view.ended_at),
        view.error.as_deref().map_or_else(|| "-".to_owned(), short),
    ]
}

/// The beginning of an error, marked where something is left out.
fn short(error: &str) -> String {
    let line = one_line(error, ERROR);
    if error.trim_end().len() > ERROR { line + "…" } else { line }
}

/// Its state, with what else there is to know of it.
fn state(view: &View) -> String {
    let frozen = view.frozen.then_some("frozen");
    let wiped = match view.wiped {
        Wiped::No => None,
        Wiped::Yes => Some("wiped"),
        Wiped::UnderWay => Some("being wiped"),
        Wiped::Failed => Some("not wiped: that failed"),
    };
    [Some(view.state.as_str()), frozen, wiped].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The steps that something happens in; of a failed job those that failed.
fn under_way(view: &View) -> impl Iterator<Item = &StepView> {
    let has_failed = view.state == JobState::Failed;
    view.steps.iter().filter(move |step| match step.state {
        StepState::Waiting | StepState::Running => true,
        StepState::Failed => has_failed,
        StepState::Planned | StepState::Done | StepState::Cancelled | StepState::Skipped => false,
    })
}

fn tasks(Tasks { done, failed, known }: Tasks) -> String {
    match failed {
        0 => format!("{done}/{known}"),
        failed => format!("{done}/{known}, {failed} failed"),
    }
}

fn moment(moment: Option<Timestamp>) -> String {
    moment.map_or_else(|| "-".to_owned(), rfc3339)
}

/// What is happening, in a line.
pub(super) fn progress(view: &View) -> String {
    let steps: Vec<String> = under_way(view).map(|step| format!("step {} {}", step.name, tasks(step.tasks))).collect();
    let state = state(view);
    escape_control(&if steps.is_empty() {
        format!("it is {state}")
    } else {
        format!("it is {state}: {}", steps.join("; "))
    })
}

/// Whether the settings have masters work a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worked {
    Here,
    /// It is `null` in them.
    Elsewhere,
    /// They do not name it.
    Unnamed,
}

/// All of it but the definition. `worked`: what the settings say of a queue.
pub(super) fn page(view: &View, worked: &dyn Fn(&str) -> Worked) -> String {
    let mut out = String::new();
    let mut fact = |name: &str, value: &str| out.push_str(&fact_line("", name, value));
    fact("job", &view.id);
    fact("pipeline", &view.pipeline);
    if let Some(key) = &view.key {
        fact("key", key);
    }
    fact("state", &state(view));
    if view.priority != 0 {
        fact("priority", &view.priority.to_string());
    }
    fact("made_at", &rfc3339(view.made_at));
    for (name, at) in [("began_at", view.began_at), ("ended_at", view.ended_at)] {
        if let Some(at) = at {
            fact(name, &rfc3339(at));
        }
    }
    if let Some(error) = &view.error {
        fact("error", error);
    }
    fact("payload", &value(view.payload.as_str()));
    out.push('\n');
    let header = ["STEP", "STATE", "NEEDS", "TASKS", "BEGAN AT", "ENDED AT"];
    out.push_str(&table(&header, (0..view.steps.len()).map(|place| step_row(view, place)).collect()));
    for (place, step) in view.steps.iter().enumerate() {
        let told = step_facts(view, place, worked);
        if !told.is_empty() {
            out.push_str(&escape_control(&format!("\nstep {}\n", step.name)));
            for (name, told) in told {
                out.push_str(&fact_line("    ", name, &told));
            }
        }
    }
    out
}

/// `name: value`, the further lines of the value indented.
fn fact_line(indent: &str, name: &str, value: &str) -> String {
    let value = escape_control(value).trim_end().replace('\n', &format!("\n{indent}    "));
    format!("{indent}{name}: {value}\n")
}

fn step_row(view: &View, place: usize) -> Vec<String> {
    let step = &view.steps[place];
    let needs = view.definition.steps.get(place).map(|step| step.needs.as_slice()).unwrap_or_default();
    let needs: Vec<&str> = needs.iter().filter_map(|need| Some(view.steps.get(*need)?.name.as_str())).collect();
    vec![
        step.name.clone(),
        step.state.as_str().to_owned(),
        if needs.is_empty() { "-".to_owned() } else { needs.join(",") },
        tasks(step.tasks),
        moment(step.began_at),
        moment(step.ended_at),
    ]
}

/// What there is to know of a step beside its row: why it failed or waits, what it gave.
fn step_facts(view: &View, place: usize, worked: &dyn Fn(&str) -> Worked) -> Vec<(&'static str, String)> {
    let (step, defined) = (&view.steps[place], view.definition.steps.get(place));
    let mut facts = Vec::new();
    let is_under_way = matches!(step.state, StepState::Waiting | StepState::Running);
    if let Some(defined) = defined.filter(|_| is_under_way) {
        let mut queues = vec![&defined.queue, &defined.each];
        queues.dedup();
        for queue in queues {
            let why = match worked(queue) {
                Worked::Here => continue,
                Worked::Elsewhere => "which is `null` in these settings: others work it",
                Worked::Unnamed => "which no `workers` of these settings name: perhaps nobody works it",
            };
            facts.push(("waits for", format!("queue {queue}, {why}")));
        }
    }
    if let Some(retrying) = &step.retrying {
        facts.push(("retrying", format!("again at {}: {}", rfc3339(retrying.again_at), retrying.error)));
    }
    if let Some(snoozed) = &step.snoozed {
        facts.push(("snoozed", format!("again at {}", rfc3339(snoozed.again_at))));
    }
    if let Some(error) = &step.error {
        // "error" stands before it already.
        let reason = step.reason.as_deref().filter(|reason| *reason != "error");
        let reason = reason.map_or_else(String::new, |reason| format!("{reason}: "));
        facts.push(("error", format!("{reason}{error}")));
    }
    if !step.dead_letters.is_empty() {
        let queue = defined.and_then(|defined| queue_of_all(defined, step.tasks.known));
        let mut lines = vec![counted(step.tasks.failed, "task") + " failed"];
        for dead in &step.dead_letters {
            let what = match (&dead.id, queue) {
                (Some(id), Some(queue)) => format!("asynctask failed show {queue} {id}"),
                (Some(id), None) => format!("{id}: asynctask failed list --job {}", view.id),
                (None, _) => "removed".to_owned(),
            };
            lines.push(format!("{}: {} ({what})", dead.reason, dead.error));
        }
        facts.push(("dead letters", lines.join("\n")));
    }
    for (name, json) in [("memo", &step.memo), ("result", &step.result)] {
        if let Some(json) = json {
            facts.push((name, value(json.as_str())));
        }
    }
    facts
}

/// The queue of all tasks of a step, if it is one: which of two a page of items, or an item, lies in is not known of it here.
fn queue_of_all(defined: &Step, known: u64) -> Option<&str> {
    let is_only_first = known == 1 && defined.for_each.is_none();
    (defined.queue == defined.each || is_only_first).then_some(defined.queue.as_str())
}

/// The beginning of a long value.
fn value(json: &str) -> String {
    if json.len() <= VALUE {
        json.to_owned()
    } else {
        format!("{}… ({} bytes; --json has all)", &json[..json.floor_char_boundary(VALUE)], json.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        jobs::{
            definition::Pipeline,
            ledger::{DeadTask, Retrying},
        },
        json_text::JsonText,
    };

    fn step(name: &str, state: StepState, tasks: Tasks) -> StepView {
        StepView {
            name: name.to_owned(),
            state,
            round: None,
            tasks,
            began_at: Some(Timestamp(1000)),
            ended_at: None,
            result: None,
            memo: None,
            error: None,
            reason: None,
            dead_letters: Vec::new(),
            retrying: None,
            snoozed: None,
        }
    }

    fn registry() -> View {
        let counted = |done, failed, known| Tasks { done, failed, known };
        let collect = StepView {
            result: JsonText::parse("{\"n\": 7}").ok(),
            ..step("collect", StepState::Done, counted(1, 0, 1))
        };
        let flatten = StepView {
            error: Some("no such\u{1b}[2J file".to_owned()),
            reason: Some("error".to_owned()),
            dead_letters: vec![DeadTask {
                id: Some("t-9".to_owned()),
                index: 9,
                reason: "error".to_owned(),
                error: "no such file".to_owned(),
            }],
            ..step("flatten", StepState::Running, counted(10, 1, 40))
        };
        let retrying = Some(Retrying { error: "refused".to_owned(), again_at: Timestamp(61_000) });
        let export = StepView { retrying, ..step("export", StepState::Waiting, counted(0, 0, 1)) };
        let mut steps = vec![
            Step::new("collect", "crawl", vec![]),
            Step::new("flatten", "list_files", vec![0]),
            Step::new("export", "export", vec![0]),
        ];
        steps[1].each = "flatten_file".to_owned();
        View {
            id: "3f2a".to_owned(),
            pipeline: "registry".to_owned(),
            key: Some("chile".to_owned()),
            state: JobState::Running,
            frozen: true,
            wiped: Wiped::No,
            priority: 0,
            steps: vec![collect, flatten, export],
            tasks: counted(11, 1, 42),
            made_at: Timestamp(0),
            began_at: Some(Timestamp(1000)),
            ended_at: None,
            heard_at: Timestamp(1000),
            error: None,
            payload: JsonText::parse("{\"publication\":\"chile\"}").unwrap(),
            definition: Pipeline::new("registry", steps),
        }
    }

    #[test]
    fn a_page_says_what_each_step_does_and_why_it_does_not() {
        let shown = page(&registry(), &|queue| match queue {
            "flatten_file" => Worked::Unnamed,
            "export" => Worked::Elsewhere,
            _ => Worked::Here,
        });
        let expected = "\
job: 3f2a
pipeline: registry
key: chile
state: running, frozen
made_at: 1970-01-01T00:00:00Z
began_at: 1970-01-01T00:00:01Z
payload: {\"publication\":\"chile\"}

 STEP     STATE    NEEDS    TASKS            BEGAN AT              ENDED AT
 collect  done     -        1/1              1970-01-01T00:00:01Z  -
 flatten  running  collect  10/40, 1 failed  1970-01-01T00:00:01Z  -
 export   waiting  collect  0/1              1970-01-01T00:00:01Z  -

step collect
    result: {\"n\": 7}

step flatten
    waits for: queue flatten_file, which no `workers` of these settings name: perhaps nobody works it
    error: no such\\u{1b}[2J file
    dead letters: 1 task failed
        error: no such file (t-9: asynctask failed list --job 3f2a)

step export
    waits for: queue export, which is `null` in these settings: others work it
    retrying: again at 1970-01-01T00:01:01Z: refused
";
        assert_eq!(shown, expected, "{shown}");
    }

    #[test]
    fn a_row_and_a_line_say_where_a_job_is() {
        let view = registry();
        let cells = ["3f2a", "registry/chile", "running, frozen", "1/3", "flatten,export", "11/42, 1 failed"];
        assert_eq!(row(&view)[..6], cells);
        let line = progress(&view);
        assert_eq!(line, "it is running, frozen: step flatten 10/40, 1 failed; step export 0/1");
        let view = View { state: JobState::Failed, wiped: Wiped::Failed, frozen: false, steps: Vec::new(), ..view };
        assert_eq!(progress(&view), "it is failed, not wiped: that failed");
    }

    #[test]
    fn a_long_value_has_its_beginning_and_its_size() {
        let long = format!("\"{}\"", "é".repeat(VALUE));
        let shown = value(&long);
        assert!(shown.len() < VALUE + 60 && shown.contains("… (4002 bytes; --json has all)"), "{shown}");
    }
}
