//! Pipelines in the settings, and the schedules that begin jobs of them.

use std::{collections::BTreeSet, path::Path, time::Duration};

use asynctask::{
    config::{Sources, Target, load},
    jobs::definition::{Conflict, ForEach, Pipeline, Step, Tolerance},
};
use serde_json::Value;

use crate::{
    config::{Desk, fed_back},
    support::{Demo, Place},
};

const WORKERS: &str = "workers: {a: demo_foo_worker, b: demo_foo_worker, off: null, early: {worker: demo_foo_worker, acks: early}, \
                       drop: {worker: demo_foo_worker, unique: {key: k, conflict: drop}}}\n";

/// What is wrong with a pipeline whose settings are these lines; `line:column path: what`, the lines from 1.
fn wrong(lines: &str) -> Vec<String> {
    let text = format!("pipelines:\n p:\n{lines}\n{WORKERS}");
    let told = Desk::new().file("a.yaml", text).lines();
    told.into_iter().map(|line| line.replace(" pipelines.p", " ")).collect()
}

/// The steps of a pipeline whose settings are these.
fn steps(steps: &str) -> Vec<Step> {
    let text = format!("pipelines:\n p:\n  steps: {steps}\n{WORKERS}");
    Desk::new().file("a.yaml", text).load().pipelines.remove(0).steps
}

#[test]
fn a_pipeline_is_its_steps_and_defaults() {
    let text =
        format!("{WORKERS}pipelines: {{nightly: {{steps: [{{name: dump, queue: a}}, {{name: load, queue: off}}]}}}}");
    let config = Desk::new().file("a.yaml", text).load();
    let steps = vec![Step::new("dump", "a", vec![]), Step::new("load", "off", vec![0])];
    assert_eq!(config.pipelines, [Pipeline::new("nightly", steps)]);
    let one = &config.pipelines[0];
    assert_eq!((one.wipe_failed_after, one.remember), (Some(Duration::from_hours(96)), Duration::from_hours(720)));
    assert!(Desk::new().load().pipelines.is_empty());
    for none in ["pipelines: {}", "pipelines: null", "asynctask_pipelines: {p: null}"] {
        assert!(
            Desk::new().file("a.yaml", format!("transport: amqp://h\n{none}")).load().pipelines.is_empty(),
            "{none}"
        );
    }
}

#[test]
fn what_a_step_needs_stands_above_it() {
    let of = |text: &str| steps(text).iter().map(|step| step.needs.clone()).collect::<Vec<_>>();
    let each = "[{name: s, queue: a}, {name: t, queue: a}, {name: u, queue: a, needs: s}, \
                {name: v, queue: a, needs: []}, {name: w, queue: a, needs: [u, s]}, {name: x, queue: a, needs: null}]";
    assert_eq!(of(each), [vec![], vec![0], vec![0], vec![], vec![0, 2], vec![4]]);
    assert_eq!(
        wrong(
            "  steps:\n  - {name: load, queue: a, needs: [dump, lod, 5]}\n  - {name: dump, queue: a, needs: dump}\n  \
             - {name: three, queue: a, needs: [lod, load, load]}\n  - {name: four, queue: a, needs: 7}\n  - {name: \
             load, queue: a}"
        ),
        [
            "4:36 .steps[0].needs[0]: step \"dump\" is not above this one",
            "4:42 .steps[0].needs[1]: unknown step \"lod\"",
            "4:47 .steps[0].needs[2]: expected text, not 5",
            "5:35 .steps[1].needs: a step cannot need itself",
            "6:37 .steps[2].needs[0]: unknown step \"lod\"",
            "6:48 .steps[2].needs[2]: step \"load\" is needed already",
            "7:35 .steps[3].needs: expected a step above, or a list of some, not 7",
            "8:5 .steps[4]: a second step with the name \"load\", as in line 4",
        ]
    );
    let told = Desk::new()
        .file(
            "a.yaml",
            "workers: {a: demo_foo_worker}\npipelines: {p: {steps: [{name: load, queue: a, needs: lod}, {name: x, \
                         queue: a, needs: [lod]}]}}",
        )
        .problems()
        .to_string();
    assert!(
        told.contains("hint: no step is above this one\n") && told.contains("hint: did you mean \"load\"?"),
        "{told}"
    );
}

#[test]
fn the_queues_of_a_pipeline_are_configured_and_lose_no_end() {
    let told = wrong(
        "  on_failure: c\n  steps:\n  - {name: s, queue: early, each: drop, wipe: x}\n  - {name: t, queue: a, each: off, wipe: \
         asynctask.ledger.x}\n  - {name: u, queue: early}",
    );
    assert_eq!(
        told,
        [
            "3:15 .on_failure: unknown queue \"c\"",
            "5:22 .steps[0].queue: queue \"early\" has acks: early, which can lose a task: its job would wait for ever",
            "5:35 .steps[0].each: queue \"drop\" has unique.conflict: drop, which removes tasks: their jobs would wait for ever",
            "5:47 .steps[0].wipe: unknown queue \"x\"",
            "6:42 .steps[1].wipe: unknown queue \"asynctask.ledger.x\"",
            "7:22 .steps[2].queue: queue \"early\" has acks: early, which can lose a task: its job would wait for ever",
        ]
    );
    // The summary of a failed job is a task of no job.
    assert!(wrong("  on_failure: early\n  steps: [{name: s, queue: b, each: nope}]").len() == 1);
    let near = Desk::new().file("a.yaml", "workers: {load: null}\npipelines: {p: {steps: [{name: s, queue: laod}]}}");
    assert!(near.problems().to_string().contains("hint: did you mean \"load\"? configured are: load"));
    let ours =
        Desk::new().file("a.yaml", "workers: {asynctask.x: demo_foo_worker, asynctask.y: null, asynctask: null}");
    assert_eq!(
        ours.lines(),
        ["asynctask.x", "asynctask.y"].map(|name| {
            let column = if name == "asynctask.x" { 11 } else { 41 };
            format!("1:{column} workers.\"{name}\": the names of this program's own queues begin with asynctask.")
        })
    );
}

#[test]
fn the_queues_of_celerys_are_no_steps() {
    let text = "transport: amqp://h\nworkers: {a: {worker: demo_foo_worker, protocol: celery}, b: demo_foo_worker}\npipelines:\n  \
                p: {on_failure: a, steps: [{name: s, queue: a}, {name: t, queue: b}]}";
    assert_eq!(
        Desk::new().file("a.yaml", text).lines(),
        [
            "4:19 pipelines.p.on_failure: the messages of queue \"a\" are Celery's, which are of no job",
            "4:47 pipelines.p.steps[0].queue: the messages of queue \"a\" are Celery's, which are of no job",
        ]
    );
    let mut demo = Demo::new(&Place::sqlite());
    demo.uri = "amqp://h".to_owned();
    let args = ["--set", "pipelines={p: {steps: [{name: s, queue: q}]}}", "--set"];
    let run = demo.run(&[&["config", "check"], &args[..], &["workers.q=demo_foo_worker"]].concat());
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn every_rule_of_a_pipeline() {
    for (lines, told) in [
        ("  {}", "2:2 : has no steps"),
        ("  steps: []", "3:10 .steps: has no steps"),
        ("  steps: {a: b}", "3:10 .steps: expected a list, not a map"),
        ("  stepps: [x]\n  steps: [{name: s, queue: a}]", "3:3 .stepps: unknown key"),
        ("  steps: [a]", "3:11 .steps[0]: expected a map, not \"a\""),
        ("  steps: [{queue: a}]", "3:11 .steps[0]: has no name"),
        ("  steps: [{name: s}]", "3:11 .steps[0]: has no queue"),
        (
            "  steps: [{name: a.b, queue: a}]",
            "3:18 .steps[0].name: expected a name of 1 to 200 letters, digits and _ -, beginning with a letter or digit, not \
             \"a.b\"",
        ),
        ("  steps: [{name: s, queue: a, need: x}]", "3:31 .steps[0].need: unknown key"),
        ("  steps: [{name: s, queue: a, keep: true}]", "3:31 .steps[0].keep: is given without wipe"),
        ("  conflict: wait\n  steps: [{name: s, queue: a}]", "3:3 .conflict: is given without key"),
        (
            "  key: k\n  conflict: drop\n  steps: [{name: s, queue: a}]",
            "4:13 .conflict: expected refuse or wait, not \"drop\"",
        ),
        (
            "  key: '{payload.x'\n  steps: [{name: s, queue: a}]",
            "3:8 .key: a { that is not closed; {{ stands for a {, at character 1",
        ),
        (
            "  key: '{payload.x}{queue}'\n  steps: [{name: s, queue: a}]",
            "3:8 .key: there is no {queue} in the key of a pipeline",
        ),
        (
            "  max_running: 0\n  steps: [{name: s, queue: a}]",
            "3:16 .max_running: expected a whole number of at least 1, not 0",
        ),
        (
            "  timeout: 0.0001\n  steps: [{name: s, queue: a}]",
            "3:12 .timeout: expected a duration of at least 1ms, not 0.0001",
        ),
        (
            "  remember: forever\n  steps: [{name: s, queue: a}]",
            "3:13 .remember: expected a duration such as 500ms, 30s, 10m or 1h30m, at most 10 years, not \"forever\"",
        ),
    ] {
        assert_eq!(wrong(lines), [told], "{lines}");
    }
    assert!(wrong("  5").iter().all(|told| told == "3:3 : expected a map, not 5"));
    let name = Desk::new().file("a.yaml", format!("{WORKERS}pipelines: {{a/b: {{steps: [{{name: s, queue: a}}]}}}}"));
    assert_eq!(name.lines(), ["2:13 pipelines.\"a/b\": \"a/b\" is no name of a pipeline"]);
    let all = format!(
        "{WORKERS}pipelines:\n p: {{key: \"{{payload.a.0}}\", conflict: wait, max_running: 4, timeout: 90, on_failure: off, \
         wipe_failed_after: 0, remember: 1w, steps: [{{name: s, queue: a, wipe: b, keep: true}}]}}\n q: {{steps: [{{name: s, \
         queue: a}}], wipe_failed_after: forever}}"
    );
    let mut pipelines = Desk::new().file("a.yaml", all).load().pipelines;
    assert_eq!(pipelines.pop().unwrap().wipe_failed_after, None);
    let one = pipelines.remove(0);
    assert_eq!((one.key.as_deref(), one.conflict, one.max_running), (Some("{payload.a.0}"), Conflict::Wait, Some(4)));
    assert_eq!((one.timeout, one.on_failure.as_deref()), (Some(Duration::from_secs(90)), Some("off")));
    assert_eq!((one.wipe_failed_after, one.remember), (Some(Duration::ZERO), Duration::from_hours(168)));
    assert_eq!((one.steps[0].wipe.as_deref(), one.steps[0].keep), (Some("b"), true));
}

#[test]
fn a_step_begins_with_a_list_or_with_one_of_a_result() {
    let of = |for_each: &str, needs: &str| {
        let text = format!(
            "[{{name: s, queue: a}}, {{name: t, queue: a}}, {{name: u, queue: a, needs: {needs}, for_each: {for_each}}}]"
        );
        steps(&text).remove(2).for_each
    };
    let result = |step, path: &[&str]| {
        Some(ForEach::Result { step, path: path.iter().map(|name| (*name).to_owned()).collect() })
    };
    assert_eq!(of("\"{inputs.s.years.0}\"", "[s, t]"), result(0, &["years", "0"]));
    assert_eq!(of("\"{inputs.t}\"", "t"), result(1, &[]));
    assert_eq!(of("[]", "t"), Some(ForEach::List(vec![])));
    let Some(ForEach::List(list)) = of("[1.10, {a: [1e400, null]}, x, \"é\"]", "t") else { panic!("a list") };
    let list: Vec<&str> = list.iter().map(asynctask::json_text::JsonText::as_str).collect();
    assert_eq!(list, ["1.10", r#"{"a":[1e400,null]}"#, r#""x""#, r#""é""#]);
    for (for_each, told) in [
        ("\"{inputs.t.x}\"", "step \"t\" is not needed by this one"),
        ("\"{inputs.x.y}\"", "unknown step in \"{inputs.x.y}\""),
        ("\"{inputs.u}\"", "unknown step in \"{inputs.u}\""),
        ("{inputs.s.x}", "is a map without quotes around it"),
        ("[.inf]", "JSON has no number inf; put it in quotes"),
        ("\"{inputs}\"", "expected a list, or one in a result as in \"{inputs.STEP.FIELD}\", not \"{inputs}\""),
        (
            "\"{inputs.s..x}\"",
            "expected a list, or one in a result as in \"{inputs.STEP.FIELD}\", not \"{inputs.s..x}\"",
        ),
        (
            "\"{inputs.s}{inputs.s}\"",
            "expected a list, or one in a result as in \"{inputs.STEP.FIELD}\", not \"{inputs.s}{inputs.s}\"",
        ),
        ("5", "expected a list, or one in a result as in \"{inputs.STEP.FIELD}\", not 5"),
    ] {
        let lines = wrong(&format!(
            "  steps: [{{name: s, queue: a}}, {{name: t, queue: a}}, {{name: u, queue: a, needs: s, for_each: {for_each}}}]"
        ));
        assert!(lines.len() == 1 && lines[0].ends_with(&format!(": {told}")), "{for_each}: {lines:?}");
    }
}

#[test]
fn a_step_that_begins_with_a_list_gives_none() {
    let lines = wrong("  steps: [{name: s, queue: a, for_each: [1]}, {name: t, queue: a, for_each: \"{inputs.s.x}\"}]");
    assert!(lines.len() == 1 && lines[0].ends_with(": step \"s\" has for_each itself, and no result"), "{lines:?}");
}

#[test]
fn some_tasks_of_a_step_may_fail() {
    let of = |text: &str| steps(&format!("[{{name: s, queue: a, allow_failed: {text}}}]")).remove(0).allow_failed;
    assert_eq!(of("0"), Tolerance::Tasks(0));
    assert_eq!(of("12"), Tolerance::Tasks(12));
    assert_eq!(of("\"12\""), Tolerance::Tasks(12));
    assert_eq!(of("2.5%"), Tolerance::Percent(2.5));
    assert_eq!(of("100 %"), Tolerance::Percent(100.0));
    assert_eq!(of("all"), Tolerance::All);
    for bad in ["-1", "0.5", "101%", "-1%", "nan%", "'%'", "some", "[1]", "true"] {
        let lines = wrong(&format!("  steps: [{{name: s, queue: a, allow_failed: {bad}}}]"));
        let told = ".steps[0].allow_failed: expected a number of tasks, a percentage from 0% to 100%, or all, not";
        assert!(lines.len() == 1 && lines[0].contains(told), "{bad}: {lines:?}");
    }
}

#[test]
fn schedules_begin_jobs() {
    let desk = |schedules: &str| {
        let text =
            format!("{WORKERS}pipelines: {{p: {{steps: [{{name: s, queue: a}}]}}}}\nscheduled_workers:\n{schedules}");
        Desk::new().file("a.yaml", text)
    };
    let long = "x".repeat(180);
    let config = desk(
        "- {pipeline: p, every: 90s}\n- {pipeline: p, payload: {n: 1.10}, hour: 3}\n- {pipeline: p, hour: 4, id: own}",
    )
    .set(&format!("pipelines.{long}.steps=[{{name: s, queue: a}}]"))
    .load();
    let [plain, second, own] = &config.schedules[..] else { panic!("three") };
    assert_eq!(plain.target, Target::Pipeline("p".to_owned()));
    assert_eq!((plain.id.as_str(), plain.queue.as_str()), ("pipeline_p", "asynctask.ledger.demo"));
    assert!(second.id.starts_with("pipeline_p-") && own.id == "own", "{}", second.id);
    assert_eq!(second.payload.as_ref().unwrap().text, r#"{"n":1.10}"#);
    assert_eq!(plain.announcement(), r#"Scheduling "p" for {"every":"90s"}"#);
    assert_eq!(config.queues.len(), 4, "no queue of their own");
    let named = desk(&format!("- {{pipeline: {long}, hour: 3}}"))
        .set(&format!("pipelines.{long}.steps=[{{name: s, queue: a}}]"))
        .set("application=other")
        .load();
    assert_eq!(named.schedules[0].id.len(), "pipeline_".len() + 8, "too long for an id");
    assert_eq!(named.schedules[0].queue, "asynctask.ledger.other");
    assert_eq!(
        desk(
            "- {pipeline: q, hour: 3}\n- {pipeline: p, worker: demo_foo_worker, hour: 3}\n- {pipeline: p, ctl: x, hour: 3}\n\
             - {pipeline: p, queue: a, hour: 3}\n- {pipeline: p}\n- {pipeline: p, celery: x, hour: 1}"
        )
        .lines(),
        [
            "4:14 scheduled_workers[0].pipeline: unknown pipeline \"q\"",
            "5:4 scheduled_workers[1].pipeline: 'pipeline' and 'worker' exclude each other",
            "6:4 scheduled_workers[2].pipeline: 'pipeline' and 'ctl' exclude each other",
            "7:4 scheduled_workers[3].pipeline: 'pipeline' and 'queue' exclude each other",
            "8:3 scheduled_workers[4]: Must specify some property of the schedule",
            "9:4 scheduled_workers[5].pipeline: 'celery' and 'pipeline' exclude each other",
            "9:25 scheduled_workers[5].celery: Celery's messages go by RabbitMQ alone",
        ]
    );
    let keyed = |payload: &str| {
        let text = format!(
            "{WORKERS}pipelines: {{p: {{key: \"{{payload.x}}\", steps: [{{name: s, queue: a}}]}}}}\n\
             scheduled_workers: [{{pipeline: p, hour: 1{payload}}}]"
        );
        Desk::new().file("a.yaml", text)
    };
    assert_eq!(keyed(", payload: {x: 1}").load().schedules.len(), 1);
    let lacks = "the payload lacks what the key of pipeline \"p\" is made of: {payload.x}";
    assert_eq!(keyed("").lines(), [format!("3:32 scheduled_workers[0].pipeline: {lacks}")]);
    assert_eq!(keyed(", payload: [1]").lines(), [format!("3:53 scheduled_workers[0].payload: {lacks}")]);
    let unread = keyed(", payload: {x: .inf}").lines();
    assert_eq!(unread, ["3:53 scheduled_workers[0].payload: JSON has no number inf; put it in quotes"]);
    let near = Desk::new().file(
        "a.yaml",
        "workers: {a: null}\npipelines: {nightly: {steps: [{name: s, queue: a}]}}\n\
                                           scheduled_workers: [{pipeline: nigtly, hour: 1}]",
    );
    assert!(near.problems().to_string().contains("hint: did you mean \"nightly\"?"), "{}", near.problems());
    let none = Desk::new().file("a.yaml", "scheduled_workers: [{pipeline: nigtly, hour: 1}]");
    assert!(none.problems().to_string().contains("hint: no pipeline is configured under pipelines"));
}

#[test]
fn pipelines_are_merged_key_by_key_and_their_steps_as_a_whole() {
    let base = format!(
        "{WORKERS}pipelines: {{p: {{timeout: 1m, steps: [{{name: s, queue: a}}]}}, q: {{steps: [{{name: s, queue: a}}]}}}}"
    );
    let config = Desk::new()
        .file("a.yaml", base)
        .file("b.yaml", "pipelines: {p: {steps: [{name: t, queue: b}]}, q: null}")
        .set("pipelines.p.max_running=${MOST}")
        .env("MOST", "3")
        .load();
    let [one] = &config.pipelines[..] else { panic!("{:?}", config.pipelines) };
    assert_eq!((one.timeout, one.max_running), (Some(Duration::from_mins(1)), Some(3)));
    assert_eq!(one.steps, [Step::new("t", "b", vec![])]);
}

#[test]
fn what_is_shown_of_pipelines_means_the_same() {
    let text = format!(
        "{WORKERS}pipelines:
  z: {{key: \"$${{{{{{payload.x}}\", steps: [{{name: s, queue: a}}], wipe_failed_after: forever, timeout: 1500ms}}
  b:
    steps:
    - {{name: s, queue: a, wipe: b, keep: true, allow_failed: 2.5%}}
    - {{name: l, queue: a, for_each: [1.10, 1e400, \"$${{x}}\", {{\"a\": \"amqp://u:hunter2@h\"}}, \"\\u0085\\0é😀\\t\\\"\\\\\"], needs: []}}
    - {{name: r, queue: a, for_each: \"{{inputs.s.years}}\", needs: [l, s], allow_failed: all}}
    - {{name: e, queue: b, for_each: [], each: a, allow_failed: 7}}
scheduled_workers: [{{pipeline: b, payload: payload-1., hour: 3}}]
"
    );
    let desk = Desk::new().file("a.yaml", text);
    let config = desk.load();
    assert_eq!(config.pipelines[0].key.as_deref(), Some("${{{payload.x}"));
    let mut expected = config.pipelines.clone();
    expected.reverse();
    let masked = |pipelines: &[Pipeline]| serde_json::to_string(pipelines).unwrap().replace("hunter2", "***");
    for shown in [config.to_yaml().unwrap(), config.to_json_text().unwrap()] {
        assert!(!shown.contains("hunter2"), "{shown}");
        let again = fed_back(&shown, &desk.sources);
        assert_eq!(masked(&again.pipelines), masked(&expected));
        assert_eq!(again.schedules[0].target, config.schedules[0].target);
        assert_eq!(again.schedules[0].id, config.schedules[0].id);
    }
}

#[test]
fn the_reference_sets_every_key_of_pipelines_off_its_default() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let sources = Sources { files: vec![config.join("pipelines.yaml")], cwd: config, ..Sources::default() };
    let reference = load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    let shown = reference.to_json();
    let default = {
        let text = "workers: {a: null}\npipelines: {p: {key: k, steps: [{name: s, queue: a}, {name: t, queue: a}]}}";
        Desk::new().file("a.yaml", text).load().to_json()
    };
    let (set, unset) = (&shown["pipelines"]["registry"], &default["pipelines"]["p"]);
    for (key, value) in unset.as_object().unwrap().iter().filter(|(key, _)| *key != "steps") {
        assert_ne!(&set[key], value, "{key} is at its default in pipelines.yaml");
    }
    let steps = |pipeline: &Value| pipeline["steps"].as_array().unwrap().clone();
    for (key, value) in steps(unset)[1].as_object().unwrap() {
        let written: Vec<Value> = steps(set).into_iter().map(|step| step[key].clone()).collect();
        let is_set = match key.as_str() {
            // By default they say what others do.
            "each" => steps(set).iter().any(|step| step["each"] != step["queue"]),
            "needs" => written.iter().any(|needs| needs.as_array().unwrap().len() > 1),
            _ => written.iter().any(|one| one != value),
        };
        assert!(is_set, "{key} is at its default in every step of pipelines.yaml");
    }
    let used: BTreeSet<&str> = reference.pipelines[0].queues().into_iter().collect();
    assert!(used.contains("notices"), "{used:?}");
    let demo = Demo::new(&Place::sqlite());
    let check = demo.run(&["config", "check", "-c", sources.files[0].to_str().unwrap()]);
    assert_eq!(
        (check.code, check.stdout.as_str()),
        (0, "the configuration is right: 8 queues, 1 schedule, 1 pipeline\n")
    );
}

#[test]
fn a_schedule_of_a_pipeline_is_shown() {
    let demo = Demo::new(&Place::sqlite());
    let settings = [
        "--set",
        "workers.q=demo_foo_worker",
        "--set",
        "pipelines={p: {steps: [{name: s, queue: q}]}}",
        "--set",
        "scheduled_workers=[{pipeline: p, cron: '@daily', timezone: UTC}]",
    ];
    let shown = demo.json(&[&["schedules", "--json"], &settings[..]].concat());
    assert_eq!(shown["schedules"][0]["pipeline"], "p", "{shown}");
    let table = demo.run(&[&["schedules"], &settings[..]].concat());
    assert!(table.stdout.contains("pipeline_p") && table.stdout.contains("pipeline p"), "{table:?}");
}
