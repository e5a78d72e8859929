//! Settings as people write them: right, wrong, and nonsense.

use std::{fs, path::Path, time::Duration};

use asynctask::{
    celery::{CeleryQueue, DeclareAs, Protocol},
    config::{
        Celery, CeleryControl, CeleryEvents, CeleryFailures, Config, Misfire, Mode, Origin, Problem, Problems,
        Schedule, Sources, Target, load,
    },
    task::Accepts,
    transport::Uri,
    unique::Conflict,
};
use serde_json::Value;

/// A folder with files, and sources that read them.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
    pub(crate) sources: Sources,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources {
            rust_kinds: ["demo_foo_worker", "demo_bar_worker"].map(str::to_owned).to_vec(),
            cwd: folder.path().to_owned(),
            application: "demo".to_owned(),
            ..Sources::default()
        };
        Self { folder, sources }
    }

    pub(crate) fn file(mut self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.sources.files.push(name.into());
        self
    }

    pub(crate) fn set(mut self, option: &str) -> Self {
        self.sources.set.push(option.to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.env.insert(name.into(), value.into());
        self
    }

    pub(crate) fn load(&self) -> Config {
        load(&self.sources).unwrap_or_else(|problems| panic!("{problems}"))
    }

    pub(crate) fn problems(&self) -> Problems {
        load(&self.sources).expect_err("nothing was found to be wrong")
    }

    /// `line:column path: what`
    pub(crate) fn lines(&self) -> Vec<String> {
        let place = |problem: &Problem| match &problem.origin {
            Origin::File { position: Some(at), .. } => format!("{}:{}", at.line, at.column),
            origin => origin.to_string(),
        };
        self.problems()
            .0
            .iter()
            .map(|problem| format!("{} {}: {}", place(problem), problem.path, problem.what))
            .collect()
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn one(text: &str) -> String {
    let lines = Desk::new().file("a.yaml", text).lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.into_iter().next().unwrap()
}

#[test]
fn nothing_is_a_configuration() {
    let desk = Desk::new();
    let config = desk.load();
    assert!(config.queues.is_empty() && config.files.is_empty());
    assert_eq!(config.transport, Uri::Sqlite(desk.path().join("asynctask.db")));
    assert_eq!(config.application, "demo");
    for empty in ["", "\n", "# nothing\n", "---\n", "~\n", "{}", "\u{feff}{}"] {
        Desk::new().file("a.yaml", empty).load();
    }
}

#[test]
fn metrics_are_served_at_an_address_of_numbers() {
    let listen = |text: &str| Desk::new().file("a.yaml", text).load().metrics_listen.map(|at| at.to_string());
    assert_eq!(listen("metrics: { listen: 127.0.0.1:9464 }"), Some("127.0.0.1:9464".to_owned()));
    assert_eq!(listen("metrics: { listen: '[::1]:0' }"), Some("[::1]:0".to_owned()));
    assert_eq!(listen("metrics: {}"), None);
    for bad in ["localhost:9464", "127.0.0.1", "':9464'", "127.0.0.1:99999"] {
        let what = one(&format!("metrics: {{ listen: {bad} }}"));
        assert!(what.starts_with("1:20 metrics.listen: expected an address of numbers with its port"), "{what}");
    }
    assert!(one("metrics: { listen: 9464 }").starts_with("1:20 metrics.listen: expected text"));
    assert!(one("metrics: { lisen: 127.0.0.1:9464 }").starts_with("1:12 metrics.lisen: unknown key"));
    let shown = Desk::new().file("a.yaml", "metrics: { listen: 127.0.0.1:9464 }").load().to_json();
    assert_eq!(shown["metrics"]["listen"], "127.0.0.1:9464");
}

#[test]
fn five_mistakes_are_told_at_once_each_with_its_place() {
    let desk = Desk::new().file(
        "a.yaml",
        "application: images
workers:
  foo:
    worker: demo_fo_worker
    procesess: 2
    timeout: soon
  9/lives: demo_bar_worker
scheduled_workers:
  - worker: demo_bar_worker
    second: banana
",
    );
    assert_eq!(
        desk.lines(),
        [
            "4:13 workers.foo.worker: unknown worker kind \"demo_fo_worker\"",
            "5:5 workers.foo.procesess: unknown key",
            "6:14 workers.foo.timeout: expected a duration such as 500ms, 30s, 10m or 1h30m, at most 10 years, \
             not \"soon\"",
            "7:3 workers.\"9/lives\": \"9/lives\" is not a properly-formatted queue name",
            "10:13 scheduled_workers[0].second: Unrecognized expression \"banana\" for field \"second\"",
        ]
    );
    let text = desk.problems().to_string();
    assert!(
        text.contains("error: a.yaml:5:5: workers.foo.procesess: unknown key\n 5 |     procesess: 2\n   |     ^\n")
    );
    assert!(text.contains("hint: did you mean \"processes\"?"), "{text}");
    assert!(
        text.contains("did you mean \"demo_foo_worker\"? known kinds: ctl_executor, demo_bar_worker, demo_foo_worker")
    );
    assert_eq!(desk.problems().to_json()[1]["column"], 5);
}

#[test]
fn duplicates() {
    let again = "workers:\n  foo: demo_foo_worker\n  bar: demo_bar_worker\n  foo: demo_bar_worker\nworkers: {}\n";
    assert_eq!(
        Desk::new().file("a.yaml", again).lines(),
        ["4:3 workers.foo: duplicate key", "5:1 workers: duplicate key"]
    );
    assert_eq!(
        one("workers: {}\nasynctask_workers: {}\n"),
        "2:1 asynctask_workers: duplicate key",
        "two spellings of one key"
    );
    assert_eq!(
        one("workers:\n  foo: {worker: demo_foo_worker, retry: {first: 1s, \"first\": 2s}}\n"),
        "2:53 workers.foo.retry.first: duplicate key"
    );
}

#[test]
fn the_seeds_names_and_texts() {
    let desk = Desk::new().set(r#"asynctask_workers={"foo": "demo_foo_worker", "bar": null}"#);
    let config = desk.load();
    assert_eq!(config.queues.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), ["foo"]);
    assert_eq!(config.disabled, ["bar"]);
    let all = "asynctask_transport: null\nasynctask_workers_poll_interval: 500\n\
               asynctask_workers_check_child_interval: 1000\nasynctask_scheduled_workers:\n\
               - {worker: demo_bar_worker, second: '*/5'}\n";
    let config = Desk::new().file("a.yaml", all).load();
    assert_eq!(config.schedules[0].fields, r#"{"second":"*/5"}"#);
    assert_eq!(config.schedules[0].queue, "scheduled_0_demo_bar_worker");
    assert_eq!(config.queues[0].name, "scheduled_0_demo_bar_worker");
    assert_eq!(
        one("scheduled_workers: [{second: 1}]"),
        "1:21 scheduled_workers[0]: Must specify one of 'worker' or 'ctl'"
    );
    assert_eq!(
        one("scheduled_workers:\n- {second: 1, ctl: x, worker: demo_bar_worker}"),
        "2:3 scheduled_workers[0]: Must specify one of 'worker' or 'ctl'"
    );
    assert_eq!(
        one("scheduled_workers: [{worker: demo_bar_worker, second: null}]"),
        "1:21 scheduled_workers[0]: Must specify some property of the schedule"
    );
    assert_eq!(
        one("workers_poll_interval: 0"),
        "1:24 workers_poll_interval: expected a whole number of at least 1, not 0"
    );
    assert!(
        one("workers: {BAD NAME: demo_foo_worker}").ends_with("\"BAD NAME\" is not a properly-formatted queue name")
    );
}

#[test]
fn options_are_named_instead_of_files() {
    let desk = Desk::new()
        .set("workers.\"a.b\".worker=nope")
        .set("workers.\"a.b\".processes=0")
        .set("workers.foo=[")
        .set("transport=amqps:u:hunter2@h")
        .set("nonsense")
        .set("wokers={}");
    assert_eq!(
        desk.lines(),
        [
            "--set workers.\"a.b\".worker workers.\"a.b\".worker: unknown worker kind \"nope\"",
            "--set workers.\"a.b\".processes workers.\"a.b\".processes: expected a whole number of at least 1, not 0",
            "--set workers.foo workers.foo: is not YAML: while parsing a node, did not find expected node content",
            "--set transport transport: is not the address of a transport: it should begin with amqp:// or amqps://",
            "--set nonsense : there is no = in it",
            "--set wokers wokers: unknown key",
        ]
    );
    let text = desk.problems().to_string();
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("hint: did you mean \"workers\"?"), "{text}");
}

#[test]
fn options_override_files_key_by_key() {
    let desk = Desk::new()
        .file("a.yaml", "workers: {foo: demo_foo_worker, a.b: {worker: demo_foo_worker, processes: 3, timeout: 1m}}")
        .set("workers.foo.processes=2")
        .set("workers.\"a.b\".processes=4")
        .set("asynctask_workers={\"bar\": \"demo_bar_worker\"}")
        .set("transport=sqlite:x.db");
    let config = desk.load();
    let processes: Vec<_> = config.queues.iter().map(|queue| (queue.name.as_str(), queue.processes)).collect();
    assert_eq!(processes, [("foo", 2), ("a.b", 4), ("bar", 1)]);
    assert_eq!(config.queues[1].timeout, Some(Duration::from_mins(1)));
    assert_eq!(config.transport, Uri::Sqlite(desk.path().join("x.db")));
}

#[test]
fn files_merge_map_by_map() {
    let config = Desk::new()
        .file(
            "base/a.yaml",
            "transport: sqlite:a.db\nworkers:\n  foo: {worker: demo_foo_worker, retry: {max_attempts: 3, first: 1s}}\n  \
             bar: demo_bar_worker\nscheduled_workers: [{worker: demo_foo_worker, hour: 1}]\n",
        )
        .file(
            "b.yaml",
            "asynctask_workers:\n  foo: {retry: {first: 5s}}\n  bar: null\nscheduled_workers:\n\
             - {worker: demo_bar_worker, hour: 2, misfire: run_once}\n",
        )
        .load();
    assert_eq!(config.queues[0].retry.max_attempts, 3);
    assert_eq!(config.queues[0].retry.backoff.first, Duration::from_secs(5));
    assert_eq!(config.disabled, ["bar"]);
    assert_eq!(config.schedules.len(), 2);
    assert_eq!(config.schedules[1].misfire, Misfire::RunOnce);
    assert!(config.folder.ends_with("base"));
    assert_eq!(config.transport, Uri::Sqlite(config.folder.join("a.db")));
}

#[test]
fn the_environment_fills_scalars_and_adds_no_keys() {
    let text = "workers: {foo: {worker: demo_foo_worker, processes: '${N}', timeout: \"${T}s\"}}\n\
                transport: amqp://u:${PW}@h\nkinds: {x: {command: [run, '$${N}'], env: {A: \"${PW}\"}}}\n";
    let desk = Desk::new().file("a.yaml", text).env("N", "3").env("T", "9").env("PW", "a: b}, c\nd: [");
    let config = desk.load();
    assert_eq!(config.queues[0].processes, 3);
    assert_eq!(config.queues[0].timeout, Some(Duration::from_secs(9)));
    assert_eq!(config.kinds["x"].env["A"], "a: b}, c\nd: [");
    assert_eq!(config.kinds["x"].argv, ["run", "${N}"]);
    assert_eq!(
        one("workers: {foo: {worker: demo_foo_worker, processes: '${N}'}}"),
        "1:53 workers.foo.processes: the environment variable N is not set"
    );
    let secret = Desk::new()
        .file(
            "a.yaml",
            "workers:\n  foo:\n    worker: ${S}\n    processes: \"${S}\"\n    acks: ${S}\n    timeout: ${S}\n    \
                         dead_letter: {queue: 'a ${S}'}\ntransport: ${S}\nscheduled_workers:\n- worker: demo_foo_worker\n  \
                         second: ${S}\n",
        )
        .env("S", "hunter2");
    let text = secret.problems().to_string();
    assert_eq!(secret.problems().0.len(), 7, "{text}");
    assert!(!text.contains("hunter2") && text.contains("not \"${S}\""), "{text}");
}

#[test]
fn defaults_and_messages_for_what_the_environment_lacks() {
    let text = "transport: ${BROKER:-amqp://u:hunter2@h}\nx-unused: ['${ALSO:-fine}']\nworkers:\n  foo:\n    \
                worker: ${KIND-demo_foo_worker}\n    processes: ${N:-3}\n    timeout: \"${T:-${U:-7}}s\"\n    \
                unwrap: ${UNWRAP:-false}\n";
    let config = Desk::new().file("a.yaml", text).env("N", "").load();
    let foo = &config.queues[0];
    assert_eq!((foo.kind.as_str(), foo.processes, foo.unwrap), ("demo_foo_worker", 3, false));
    assert_eq!(foo.timeout, Some(Duration::from_secs(7)));
    assert_eq!(Desk::new().file("a.yaml", text).env("N", "8").load().queues[0].processes, 8);
    assert_eq!(
        one("workers:\n  foo: ${KIND:?the kind of worker}\n"),
        "2:8 workers.foo: the environment variable KIND is not set: the kind of worker"
    );
    assert_eq!(
        Desk::new().set("application=${APP?}").lines(),
        ["--set application application: the environment variable APP is not set"]
    );
    let wrong = "transport: amqp://h\nworkers: {foo: {worker: \"${KIND:-amqp://user-of-some-length:hunter2@h}\"}}\n";
    let problems = Desk::new().file("a.yaml", wrong).problems().to_string();
    assert!(problems.contains("user-of-some-length:***@h") && !problems.contains("hunter2"), "{problems}");
}

#[test]
fn keys_for_shared_anchors_are_left_alone() {
    let text = "x-base: &base {worker: demo_foo_worker, retry: &often {max_attempts: 9}}\nx-: [1, {a: b}]\n\
                workers:\n  foo: *base\n  bar: {<<: *base, processes: 2}\n  \
                baz: {worker: demo_bar_worker, retry: *often}\n";
    let desk = Desk::new().file("a.yaml", text).file("b.yaml", "x-base: other\n").set("x-y.z=1");
    let config = desk.load();
    let attempts: Vec<_> = config.queues.iter().map(|queue| queue.retry.max_attempts).collect();
    assert_eq!((attempts, config.queues[1].processes), (vec![9; 3], 2));
    assert_eq!(one("x_base: 1"), "1:1 x_base: unknown key");
    assert_eq!(one("workers: {foo: {worker: demo_foo_worker, x-a: 1}}"), "1:42 workers.foo.x-a: unknown key");
    assert_eq!(one("x-a: 1\nx-a: 2"), "2:1 x-a: duplicate key");
    assert_eq!(
        one("x-a: &a {oops: 1}\nworkers: {foo: {<<: *a, worker: demo_foo_worker}}"),
        "1:10 workers.foo.oops: unknown key"
    );
}

#[test]
fn secrets_are_shown_nowhere() {
    let text = "transport: amqp://u:hunter2@h/v\n\
                kinds: {x: {command: [run], env: {TOKEN: hunter3}, modee: once}}\nworkers: {q: x}\n";
    let problems = Desk::new().file("a.yaml", text).problems();
    assert!(problems.to_string().contains("TOKEN: ***"), "{problems}");
    let valid = Desk::new().file("a.yaml", text.replace(", modee: once", "")).load().to_json().to_string();
    for text in [problems.to_string(), problems.to_json().to_string(), valid] {
        assert!(!text.contains("hunter"), "{text}");
    }
    for env in [
        "[TOKEN=hunter2]",
        "{A: hunter2, A: hunter3}",
        "{A: {B: [hunter2]}}",
        "hunter2",
        "{A: \"x\\x68unter2\"}, env: {B: hunter2}",
        "{A: hunter2",
        "!x hunter2",
    ] {
        let text = format!("kinds: {{x: {{oops: 1, command: [a], env: {env}}}}}\n");
        let problems = Desk::new().file("a.yaml", text).problems().to_string();
        assert!(!problems.contains("unter"), "{problems}");
    }
    let wrong = "{transport: amqp://u:hunter2@h/v, wokers: {}}";
    let text = Desk::new().file("a.yaml", wrong).problems().to_string();
    assert!(text.contains("u:***@h/v, wokers"), "{text}");
}

#[test]
fn an_address_is_looked_at_before_it_is_used() {
    for (address, told) in [
        ("amqp://u:p@ss#hunter2@h", "characters such as @ # / ? % in user and password"),
        ("amqp://u:hunt/er2@h", "%40 %23 %2F %3F %25"),
        ("amqp://u:hunter2%@h", "%40 %23 %2F %3F %25"),
        ("amqp://u:hunter2", "USER:PASSWORD@HOST:PORT"),
        ("amqp://h/v?hearbeat=5", "did you mean \"heartbeat\"?"),
        ("amqp://h/v?heartbeat=5&heartbeat=5", "given twice"),
        ("amqp://h/v?heartbeat=soon", "not \"soon\""),
        ("amqps://h/v?verify=verify_none", "anybody could be the broker"),
        ("amqps://h/v?cacertfile=gone.pem", "gone.pem: no such file"),
        ("amqp://h/v?cacertfile=gone.pem", "is for amqps://"),
        ("sqlite:a.db?mode=ro", "takes no parameters"),
        ("localmem:x?y", "takes no parameters"),
        ("amqp://a/v,amqp://b/w", "different virtual hosts"),
        ("amqp://a/v,amqp://u:hunt#er2@b/v", "%40 %23 %2F %3F %25"),
    ] {
        let desk = Desk::new().file("a.yaml", format!("# one\ntransport: '{address}'\n"));
        let problems = desk.problems();
        let text = problems.to_string();
        assert!(text.starts_with("error: a.yaml:2:12: transport: is not the address of a transport: "), "{text}");
        assert!(text.contains(told) && problems.0.len() == 1, "{address}: {text}");
        let by_option = Desk::new().set(&format!("transport={address}")).problems().to_string();
        let by_list = Desk::new().file("a.yaml", format!("transport:\n- amqp://a/v\n- '{address}'\n")).problems();
        for text in [text, problems.to_json().to_string(), by_option, by_list.to_string()] {
            assert!(!text.contains("hunt") && !text.contains("er2"), "{text}");
        }
    }
}

#[test]
fn several_addresses_are_a_list() {
    let uri = |desk: Desk| desk.load().transport;
    let list = "transport:\n- amqp://u:hunter2@a/v\n- ${B}\n";
    let desk = Desk::new().file("a.yaml", list).env("B", "amqp://u:hunter3@b/v");
    let shown = desk.load().to_json().to_string();
    assert!(shown.contains("amqp://u:***@a/v, amqp://u:***@b/v"), "{shown}");
    assert_eq!(desk.load().withheld_variables, ["B"]);
    let wanted = uri(desk);
    for text in ["amqp://u:hunter2@a/v,amqp://u:hunter3@b/v", "amqp://u:hunter2@a/v ; amqp://u:hunter3@b/v"] {
        assert_eq!(uri(Desk::new().set(&format!("transport={text}"))), wanted);
        assert_eq!(uri(Desk::new().file("a.yaml", format!("transport: {text}\n"))), wanted);
    }
    assert_eq!(uri(Desk::new().set("transport=[amqp://u:hunter2@a/v, amqp://u:hunter3@b/v]")), wanted);
    assert_eq!(
        uri(Desk::new().set("transport=[amqp://u:hunter2@a/v]")),
        uri(Desk::new().set("transport=amqp://u:hunter2@a/v"))
    );
    // In another order it is another transport, which needs a restart.
    assert_ne!(uri(Desk::new().set("transport=amqp://u:hunter3@b/v,amqp://u:hunter2@a/v")), wanted);
    for wrong in ["[]", "[amqp://a/v, sqlite:b.db]", "[amqp://a/v, 5]", "[amqp://a/v, [amqp://b/v]]", "{a: b}", "5"] {
        let problems = Desk::new().file("a.yaml", format!("transport: {wrong}\n")).problems();
        assert_eq!(problems.0.len(), 1, "{wrong}: {problems}");
    }
}

#[test]
fn the_variables_of_the_transport_and_of_the_pages_secrets_are_known() {
    let of = |text: &str| {
        let desk = Desk::new().file("a.yaml", text).env("USER_", "u").env("PW", "hunter2").env("OTHER", "x");
        desk.env("ASYNCTASK_URL", "amqp://u:hunter2@h/v").load().withheld_variables
    };
    assert_eq!(of("transport: amqp://${USER_}:${PW}@h/v"), ["ASYNCTASK_URL", "PW", "USER_"]);
    assert_eq!(of("transport: amqp://u:hunter2@h/v"), ["ASYNCTASK_URL"]);
    assert!(of("transport: amqp://h\napplication: ${OTHER}").is_empty() && of("").is_empty());
    let hash = format!("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0${}${{USER_}}", "0".repeat(43));
    let page = format!("dashboard:\n  users: {{ anna: {{ password: \"{hash}\" }} }}\n");
    let page = page
        + "  proxy: { from: 127.0.0.1, \
                user_header: X-User, secret_header: X-Secret, secret: \"${OTHER:-0123456789abcdef}0123456789abcdef\" }\n";
    assert_eq!(of(&page), ["OTHER", "USER_"]);
}

#[test]
fn which_file_is_read() {
    let mut desk = Desk::new().file("asynctask.yaml", "application: default").file("other.yaml", "application: other");
    desk.sources.files.clear();
    assert_eq!(desk.load().application, "default");
    let desk = desk.env("ASYNCTASK_CONFIG", "other.yaml");
    assert_eq!(desk.load().application, "other");
    let desk = desk.env("ASYNCTASK_CONFIG", "gone.yaml");
    assert_eq!(desk.problems().to_string(), "error: $ASYNCTASK_CONFIG: gone.yaml: no such file");
    let mut desk = desk;
    desk.sources.files = vec!["asynctask.yaml".into(), "gone.yaml".into(), ".".into()];
    let text = desk.problems().to_string();
    assert!(text.starts_with("error: gone.yaml: no such file\nerror: .: cannot be read: "), "{text}");
}

#[test]
fn kinds_are_programs() {
    let desk = Desk::new()
        .file("etc/a.yaml", "kinds:\n  a: {command: [./bin/run, 1, -x]}\n  b: {command: [run], mode: once, cwd: sub}\n")
        .file("b.yaml", "kinds: {c: {command: [run], mode: once, accepts: json, env: {V: 1.10}}}")
        .set("kinds.d={command: [x/y]}");
    let config = desk.load();
    let folder = desk.path();
    assert_eq!(config.kinds["a"].argv, [folder.join("etc/bin/run").to_str().unwrap(), "1", "-x"]);
    assert_eq!(config.kinds["a"].folder, folder.join("etc"));
    assert_eq!((config.kinds["a"].mode, config.kinds["a"].accepts), (Mode::Frames, Accepts::Json));
    assert_eq!(config.kinds["b"].folder, folder.join("etc/sub"));
    assert_eq!((config.kinds["b"].mode, config.kinds["b"].accepts), (Mode::Once, Accepts::Bytes));
    assert_eq!(config.kinds["c"].accepts, Accepts::Json);
    assert_eq!(config.kinds["c"].env["V"], "1.10", "as it was written");
    assert_eq!(config.kinds["d"].argv, [folder.join("x/y").to_str().unwrap()]);
    assert_eq!(
        one("kinds: {demo_foo_worker: {command: [x]}}"),
        "1:9 kinds.demo_foo_worker: \"demo_foo_worker\" is a kind of this program already"
    );
    assert_eq!(one("kinds: {x: {mode: once}}"), "1:9 kinds.x: has no command");
    assert_eq!(one("kinds: {x: {command: run fast}}"), "1:22 kinds.x.command: expected a list, not \"run fast\"");
    assert_eq!(one("kinds: {x: {command: []}}"), "1:22 kinds.x.command: names no program");
}

#[test]
fn keys_of_tasks() {
    let foo = |unique: &str| format!("workers: {{foo: {{worker: demo_foo_worker, unique: {unique}}}}}");
    let read = |unique: &str| {
        let config = Desk::new().file("a.yaml", foo(unique)).load();
        config.queues[0].unique.clone().expect("it was set")
    };
    let unique = read("'export:{payload.job}'");
    assert_eq!((unique.key.to_string().as_str(), unique.conflict), ("export:{payload.job}", Conflict::Snooze));
    assert_eq!(unique.after, Duration::from_secs(5));
    let unique = read("{key: all, conflict: snooze, after: 1m}");
    assert_eq!((unique.key.to_string().as_str(), unique.after), ("all", Duration::from_mins(1)));
    assert_eq!(read("{key: all, conflict: dead-letter}").conflict, Conflict::DeadLetter);
    for (unique, problem) in [
        ("'x{payload.}'", "1:50 workers.foo.unique: {payload.} has an empty name between its dots, at character 3"),
        (
            "'{job}'",
            "1:50 workers.foo.unique: there is no {job}; it may be {payload.FIELD}, {payload} or {queue}, at character 2",
        ),
        ("{key: '{payload'}", "1:56 workers.foo.unique.key: a { that is not closed; {{ stands for a {, at character 1"),
        ("{conflict: drop}", "1:42 workers.foo.unique: has no key"),
        (
            "{key: a, conflict: wait}",
            "1:69 workers.foo.unique.conflict: expected snooze or drop or dead-letter, not \"wait\"",
        ),
        ("{key: a, after: 10ms}", "1:66 workers.foo.unique.after: expected a duration of at least 100ms, not \"10ms\""),
        (
            "{key: a, conflict: drop, after: 1s}",
            "1:75 workers.foo.unique.after: is for conflict: snooze; nothing comes again",
        ),
        ("{payload.job}", "1:42 workers.foo.unique: has no key"),
        ("7", "1:50 workers.foo.unique: expected a map, not 7"),
        ("''", "1:50 workers.foo.unique: expected text, not \"\""),
    ] {
        let text = Desk::new().file("a.yaml", foo(unique)).problems().0[0].clone();
        let position = match &text.origin {
            Origin::File { position: Some(at), .. } => format!("{}:{}", at.line, at.column),
            other => panic!("{other:?}"),
        };
        assert_eq!(format!("{position} {}: {}", text.path, text.what), problem);
    }
}

#[test]
fn queues_stay_out_of_each_others_way() {
    let worked = |names: &str| {
        let queues: Vec<_> = names.split(' ').map(|name| format!("  {name}: demo_foo_worker\n")).collect();
        one(&format!("workers:\n{}", queues.concat()))
    };
    assert_eq!(worked("foo foo_failed"), "3:3 workers.foo_failed: is the dead-letter queue of \"foo\"");
    assert_eq!(worked("foo.retry.1000 foo"), "2:3 workers.\"foo.retry.1000\": is a delay queue of \"foo\"");
    assert_eq!(
        one("workers:\n  a: {worker: demo_foo_worker, dead_letter: {queue: b}}\n  b: demo_foo_worker\n"),
        "3:3 workers.b: is the dead-letter queue of \"a\""
    );
    Desk::new().file("a.yaml", "workers: {foo.retry.x: demo_foo_worker, foo: demo_foo_worker}").load();
}

#[test]
fn queues_of_others_have_any_name_on_a_broker() {
    let names = ["a/b", " ", "ü@#+*", "say \"hi\\", "-x", "_a", &"x".repeat(240)];
    let worker = |name: &str| format!("  {}: demo_foo_worker\n", Value::from(name));
    let workers: String = names.map(worker).concat();
    let config = Desk::new().file("a.yaml", format!("transport: amqp://h\nworkers:\n{workers}")).load();
    assert_eq!(config.queues.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), names);
    let dead: Vec<_> = config.queues.iter().map(|queue| queue.dead_letter.name.as_str()).collect();
    assert_eq!(dead, names.map(|name| format!("{name}_failed")));
    fed_back(&config.to_yaml().unwrap(), &Desk::new().sources);
    let set = Desk::new()
        .set("transport=amqp://h")
        .set(r#"workers."say \"hi\\".worker=demo_foo_worker"#)
        .set(r#"workers."a/b.c".worker=demo_foo_worker"#)
        .load();
    assert_eq!(set.queues.iter().map(|queue| queue.name.as_str()).collect::<Vec<_>>(), ["say \"hi\\", "a/b.c"]);
    // Where there are no others, there are names of ours alone.
    let strict = Desk::new().file("a.yaml", format!("workers:\n{workers}")).lines();
    assert_eq!(strict.len(), names.len());
    assert_eq!(strict[0], "2:3 workers.\"a/b\": \"a/b\" is not a properly-formatted queue name");
    let wrong = |name: &str| one(&format!("transport: amqp://h\nworkers:\n{}", worker(name)));
    assert!(wrong("a\nb").ends_with("\"a\\nb\" is not a properly-formatted queue name"));
    assert!(wrong("").ends_with("is not a properly-formatted queue name"));
    assert!(wrong("amq./x").ends_with("is not a properly-formatted queue name"));
    assert!(wrong(&"x".repeat(256)).ends_with("is not a properly-formatted queue name"));
    assert!(wrong(&"x".repeat(241)).ends_with("the name is longer than 240 bytes"));
    assert_eq!(
        one("transport: amqp://h\nworkers: {foo: {worker: demo_foo_worker, dead_letter: {queue: a/b}}}"),
        "2:63 workers.foo.dead_letter.queue: \"a/b\" is not a properly-formatted queue name"
    );
}

#[test]
fn every_rule_of_a_queue() {
    let wrong = |text: &str| {
        let line = one(&format!("workers:\n  q:\n    worker: demo_foo_worker\n    {text}\n"));
        line.split_once("workers.q").unwrap().1.to_owned()
    };
    assert_eq!(wrong("rate_max_calls: 5"), ".rate_max_calls: is given without rate_period");
    assert_eq!(wrong("rate_period: 5"), ".rate_period: is given without rate_max_calls");
    assert_eq!(wrong("processes: many"), ".processes: expected a whole number, not \"many\"");
    assert_eq!(wrong("processes: 1e9"), ".processes: expected a whole number, not 1e9");
    assert_eq!(
        wrong("processes: 99999999999999999999999"),
        ".processes: expected a whole number of at most 10000, not 99999999999999999999999"
    );
    assert_eq!(wrong("acks: never"), ".acks: expected late or early, not \"never\"");
    assert_eq!(wrong("timeout: 0"), ".timeout: expected a duration of more than 0, not 0");
    assert_eq!(wrong("unwrap: 'no'"), ".unwrap: expected true or false, not \"no\"");
    assert_eq!(wrong("retry: 5"), ".retry: expected a map, not 5");
    assert_eq!(wrong("retry: {first: 1m, longest: 1s}"), ".retry.longest: \"longest\" is shorter than \"first\"");
    assert_eq!(wrong("retry: {jitter: 110%}"), ".retry.jitter: expected a percentage from 0% to 100%, not \"110%\"");
    assert_eq!(
        wrong("dead_letter: {queue: 'a b'}"),
        ".dead_letter.queue: \"a b\" is not a properly-formatted queue name"
    );
    assert_eq!(
        wrong("recycle: {max_memory: much}"),
        ".recycle.max_memory: expected a size such as 512MiB, 2GiB or a number of bytes, not \"much\""
    );
    assert!(wrong("breaker: {failures: 0}").ends_with("at least 1, not 0"));
    assert_eq!(one("workers: {q: {processes: 1}}"), "1:11 workers.q: has no worker");
    assert_eq!(one("workers: {q: 5}"), "1:14 workers.q: expected a worker kind, or a map with one, not 5");
    assert_eq!(one("workers: [q]"), "1:10 workers: expected a map, not a list");
    assert!(
        one("transport: amqp://h\nworkers: {q: {worker: demo_foo_worker, dead_letter: {keep: 50d}}}")
            .contains("49 days")
    );
}

#[test]
fn schedules_have_stable_names() {
    let text = "scheduled_workers:
- {ctl: backup --all, hour: 3}
- {ctl: backup --all, hour: 4}
- {ctl: clean, hour: 3, minute: 0, id: cleaning}
- {worker: demo_foo_worker, second: 5}
- {worker: demo_foo_worker, second: 6}
";
    let config = Desk::new().file("a.yaml", text).load();
    let ids: Vec<_> = config.schedules.iter().map(|schedule| schedule.id.as_str()).collect();
    let queues: Vec<_> = config.schedules.iter().map(|schedule| schedule.queue.as_str()).collect();
    assert_eq!(queues[0], queues[1], "the name does not depend on the time");
    assert_eq!(queues[0].len(), "scheduled_0_ctl_".len() + 8);
    assert_eq!(queues[0], "scheduled_0_ctl_7c42d834", "names that lie on brokers never change");
    assert_eq!(queues[2..], ["scheduled_0_ctl_cleaning", "scheduled_0_demo_foo_worker", "scheduled_0_demo_foo_worker"]);
    assert_eq!(ids[0], queues[0]);
    assert!(ids[1].starts_with(&format!("{}-", ids[0])), "{ids:?}");
    assert_eq!(ids[2], "cleaning");
    assert_eq!(config.schedules[2].fields, r#"{"hour":3,"minute":0}"#);
    assert_eq!(config.schedules[0].target, Target::Ctl("backup --all".into()));
    let names: Vec<_> = config.queues.iter().map(|queue| (queue.name.as_str(), queue.kind.as_str())).collect();
    assert_eq!(names.len(), 3);
    assert_eq!(names[2], ("scheduled_0_demo_foo_worker", "demo_foo_worker"));
    assert_eq!(names[0].1, "ctl_executor");

    let twice = "scheduled_workers:\n- {ctl: a, hour: 3, id: x}\n- {ctl: b, hour: 3, id: x}\n";
    assert_eq!(one(twice), "3:3 scheduled_workers[1]: a second schedule with the id \"x\", as in line 2");
    assert_eq!(
        one("scheduled_workers: [{ctl: \"a 'b\", hour: 3}]"),
        "1:27 scheduled_workers[0].ctl: is not a command line: a ' is not closed"
    );
    assert_eq!(
        one("scheduled_workers: [{ctl: a, day: 31, month: 2}]"),
        "1:35 scheduled_workers[0].day: never comes together with the other fields: there is no such day"
    );
    let leap = "scheduled_workers: [{ctl: a, day: 29, month: 2, day_of_week: mon}]";
    assert_eq!(Desk::new().file("a.yaml", leap).load().schedules.len(), 1, "every 28 years");
    let configured = "workers: {scheduled_0_demo_foo_worker: {worker: demo_foo_worker, processes: 3}}\n\
                      scheduled_workers: [{worker: demo_foo_worker, second: 5}]\n";
    let config = Desk::new().file("a.yaml", configured).load();
    assert_eq!((config.queues.len(), config.queues[0].processes), (1, 3), "settings of its own");
}

#[test]
fn queues_with_messages_of_celerys() {
    let desk = |workers: &str| Desk::new().file("a.yaml", format!("transport: amqp://localhost\nworkers:\n{workers}"));
    let plain = desk("  a: demo_foo_worker\n  b: { worker: demo_foo_worker, protocol: asynctask }").load();
    assert!(plain.queues.iter().all(|queue| queue.protocol == Protocol::Asynctask));
    assert_eq!(plain.celery, None);
    let config = desk(
        "  a: { worker: demo_foo_worker, protocol: celery }\n  b: { worker: demo_foo_worker, protocol: celery, \
         declare_as: quorum, exchange: x }\n  c: { worker: demo_foo_worker, protocol: celery, max_priority: 255 }",
    )
    .load();
    let of = |index: usize| config.queues[index].protocol.celery().unwrap();
    assert_eq!(*of(0), CeleryQueue::of("a"));
    assert_eq!(*of(1), CeleryQueue { declare_as: DeclareAs::Quorum, exchange: "x".to_owned(), max_priority: None });
    assert_eq!(of(2).max_priority, Some(255));
    assert_eq!(config.celery, Some(Celery::default()), "with a queue of Celery's");
    assert_eq!(config.queues[1].setup().protocol, config.queues[1].protocol);
    let shown = config.to_json();
    assert_eq!(shown.pointer("/workers/b/declare_as").unwrap(), "quorum");
    assert_eq!(shown.pointer("/workers/a/exchange").unwrap(), "a");
    assert_eq!(shown.pointer("/celery/node").unwrap(), "asynctask@%h");
    let refused = desk(
        "  a: { worker: demo_foo_worker, declare_as: quorum, exchange: x, max_priority: 1 }\n  b: { worker: \
         demo_foo_worker, protocol: celerly }\n  c: { worker: demo_foo_worker, protocol: celery, max_priority: 0, \
         exchange: '' }\n  d: { worker: demo_foo_worker, protocol: celery, declare_as: quorum, max_priority: 9 }",
    );
    let told = [
        "3:33 workers.a.declare_as: is for queues with protocol: celery",
        "3:53 workers.a.exchange: is for queues with protocol: celery",
        "3:66 workers.a.max_priority: is for queues with protocol: celery",
        "4:43 workers.b.protocol: expected asynctask or celery, not \"celerly\"",
        "5:65 workers.c.max_priority: expected a whole number of at least 1, not 0",
        "5:78 workers.c.exchange: expected text, not \"\"",
        "6:71 workers.d.max_priority: quorum queues are not declared with priorities",
    ];
    assert_eq!(refused.lines(), told);
    let elsewhere = Desk::new().file("a.yaml", "workers: { a: { worker: demo_foo_worker, protocol: celery } }");
    assert_eq!(elsewhere.lines(), ["1:52 workers.a.protocol: Celery's messages come by RabbitMQ alone"]);
}

#[test]
fn a_node_has_a_name_for_celerys_tools() {
    let with = |section: &str| {
        Desk::new().file("a.yaml", format!("transport: amqp://localhost\nworkers: {{}}\ncelery: {section}"))
    };
    let celery = with("{ node: 'w%%1@%n-%d', events: off, control: work, failures: drop }").load().celery.unwrap();
    assert_eq!(celery.node_name("a.b.example"), "w%1@a-b.example");
    assert_eq!(celery.node_name("a"), "w%1@a-");
    let written = (celery.events, celery.control, celery.failures);
    assert_eq!(written, (CeleryEvents::Off, CeleryControl::Work, CeleryFailures::Drop));
    let odd = Celery { node: "%x%@%h%".to_owned(), ..Celery::default() };
    assert_eq!(odd.node_name("h"), "%x%@h%");
    for name in ["''", "a", "'@h'", "a@", "'a b@h'", "a@b@c", "'ä@h'", &"a".repeat(201), "7", "[a@b]"] {
        let told = with(&format!("{{ node: {name} }}")).lines();
        assert!(told.len() == 1 && told[0].contains("celery.node"), "{name}: {told:?}");
    }
    assert_eq!(with("{ nodes: a@b, events: never }").lines().len(), 2);
    for (typed, meant) in [("true", "on"), ("false", "off")] {
        let told = with(&format!("{{ events: {typed} }}")).problems().to_string();
        let problem = format!("celery.events: expected auto or on or off, not {typed}");
        assert!(told.contains(&problem) && told.ends_with(&format!("hint: celery.events: {meant}")), "{told}");
    }
}

#[test]
fn schedules_send_tasks_of_celerys() {
    let desk = |rest: &str| {
        Desk::new().file(
            "a.yaml",
            format!(
                "transport: amqp://localhost\nworkers: {{ plain: demo_foo_worker, orders: {{ worker: demo_foo_worker, \
                 protocol: celery, declare_as: quorum }} }}\nscheduled_workers:\n{rest}"
            ),
        )
    };
    let config = desk(
        "  - { celery: shop.clean, minute: 1 }\n  - { celery: shop.clean, args: [1.10, ä], kwargs: { k: 1e400 }, \
         queue: orders, minute: 1 }\n  - { celery: \"shop clean\", minute: 1, id: own, misfire: run_once }",
    )
    .load();
    let ids: Vec<_> = config.schedules.iter().map(|schedule| schedule.id.as_str()).collect();
    assert!(ids[0] == "celery_shop.clean" && ids[1].starts_with("celery_shop.clean-") && ids[2] == "own", "{ids:?}");
    let task = |index: usize| match &config.schedules[index].target {
        Target::Celery(task) => (**task).clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(task(1).payload(), r#"{"task":"shop.clean","args":[1.10,"ä"],"kwargs":{"k":1e400}}"#);
    assert_eq!(task(1).protocol, config.queues[1].protocol, "declared as its queue is");
    assert_eq!(task(0).protocol, Protocol::Celery(Box::new(CeleryQueue::of("celery"))));
    assert_eq!((config.queues.len(), config.schedules[0].queue.as_str()), (2, "celery"), "it is not worked here");
    let shown = config.to_json_text().unwrap();
    assert!(shown.contains(r#""args":[1.10,"ä"]"#), "{shown}");
    let refused = desk(
        "  - { celery: a, worker: demo_foo_worker, payload: {}, minute: 1 }\n  - { celery: a, queue: plain, minute: 1 }\n  \
         - { celery: a, args: {}, minute: 1 }\n  - { worker: demo_foo_worker, args: [], minute: 1 }\n  - { celery: a, \
         queue: orders_failed, minute: 1 }\n  - { celery: \"a\\t\", id: b, minute: 1 }",
    );
    let told = refused.lines();
    for (told, text) in told.iter().zip([
        "'celery' and 'worker' exclude each other",
        "'celery' and 'payload' exclude each other",
        "the messages of queue \"plain\" are not Celery's",
        "args is no list",
        "is for a task of Celery's, with 'celery'",
        "is the dead-letter queue of \"orders\"",
        "the name of a task has 1 to 255 bytes",
    ]) {
        assert!(told.contains(text), "{text}: {told}");
    }
    assert_eq!(told.len(), 7, "{told:?}");
    let elsewhere = Desk::new().file("a.yaml", "scheduled_workers: [{ celery: a, minute: 1 }]");
    assert_eq!(elsewhere.lines(), ["1:31 scheduled_workers[0].celery: Celery's messages go by RabbitMQ alone"]);
}

#[test]
fn schedules_for_queues_with_payloads_by_interval_and_crontab() {
    let text = r#"
workers: {mail: demo_foo_worker, elsewhere: null}
scheduled_workers:
- {queue: mail, every: 90s}
- {queue: mail, every: 90s, payload: {to: [a, 1.10, 1e400, 0x1F, -0.0, null, yes, true, "1"], n: 12345678901234567890123456789012345678901234567890}}
- {queue: mail, cron: "0 3 * * mon-fri", timezone: Europe/Berlin, payload: null}
- {queue: elsewhere, every: 1d, payload: "${TEXT}", misfire: run_once, id: by-hand}
- {worker: demo_bar_worker, cron: "@daily", payload: [1, 2]}
- {worker: demo_bar_worker, every: 60, start_date: 2026-01-01}
"#;
    let config = Desk::new().file("a.yaml", text).env("TEXT", "ü\"}\n").load();
    let text = |schedule: &Schedule| schedule.payload.as_ref().map(|payload| payload.text.clone());
    let told: Vec<_> = config
        .schedules
        .iter()
        .map(|schedule| (schedule.queue.as_str(), text(schedule), schedule.fields.as_str()))
        .collect();
    let numbers =
        r#"{"to":["a",1.10,1e400,31,-0.0,null,"yes",true,"1"],"n":12345678901234567890123456789012345678901234567890}"#;
    assert_eq!(
        told,
        [
            ("mail", None, r#"{"every":"90s"}"#),
            ("mail", Some(numbers.to_owned()), r#"{"every":"90s"}"#),
            ("mail", Some("null".to_owned()), r#"{"cron":"0 3 * * mon-fri","timezone":"Europe/Berlin"}"#),
            ("elsewhere", Some(r#""ü\"}\n""#.to_owned()), r#"{"every":"1d"}"#),
            ("scheduled_0_demo_bar_worker", Some("[1,2]".to_owned()), r#"{"cron":"@daily"}"#),
            ("scheduled_0_demo_bar_worker", None, r#"{"every":60,"start_date":"2026-01-01"}"#),
        ]
    );
    let ids: Vec<_> = config.schedules.iter().map(|schedule| schedule.id.as_str()).collect();
    assert_eq!(ids[0], "mail");
    assert!(ids[1].starts_with("mail-") && ids[2].starts_with("mail-") && ids[1] != ids[2], "{ids:?}");
    assert_eq!(ids[3], "by-hand");
    assert!(ids[4].starts_with("scheduled_0_demo_bar_worker-"), "{ids:?}");
    assert_eq!(ids[5], "scheduled_0_demo_bar_worker");
    assert_eq!(config.schedules[0].target, Target::Queue("mail".into()));
    assert_eq!(config.schedules[0].announcement(), r#"Scheduling "mail" for {"every":"90s"}"#);
    let queues: Vec<_> = config.queues.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(queues, ["mail", "scheduled_0_demo_bar_worker"], "no queue of their own");

    let same = Desk::new().set("scheduled_workers=[{worker: demo_foo_worker, hour: 1, payload: 1.10}]").load();
    assert_eq!(text(&same.schedules[0]).as_deref(), Some("1.10"), "in an option, too");
    let wrong = |schedule: &str| {
        let line = one(&format!("workers: {{mail: demo_foo_worker}}\nscheduled_workers:\n- {{{schedule}}}\n"));
        line.split_once(" scheduled_workers[0]").unwrap().1.to_owned()
    };
    assert_eq!(wrong("queue: mai, hour: 1"), ".queue: unknown queue \"mai\"");
    assert_eq!(
        wrong("queue: mail, worker: demo_foo_worker, hour: 1"),
        ".queue: 'queue' stands alone, without 'worker' and 'ctl'"
    );
    assert_eq!(wrong("ctl: x, hour: 1, payload: 1"), ".payload: a command line has no payload");
    assert_eq!(wrong("queue: mail, hour: 1, payload: [.inf]"), ".payload: JSON has no number inf; put it in quotes");
    assert_eq!(wrong("queue: mail"), ": Must specify some property of the schedule");
    assert_eq!(wrong("queue: mail, every: 1s, hour: 1"), ".every: 'every' and 'hour' exclude each other");
    assert_eq!(wrong("queue: mail, cron: '@daily', second: 1"), ".cron: 'cron' and 'second' exclude each other");
    assert_eq!(wrong("queue: mail, cron: '@daily', every: 1s"), ".every: 'every' and 'cron' exclude each other");
    assert_eq!(wrong("queue: mail, every: 500ms"), ".every: expected a duration of at least 1s, not \"500ms\"");
    assert_eq!(
        wrong("queue: mail, cron: 0 0 3 * * *"),
        ".cron: \"0 0 3 * * *\" has 6 fields, not five: minute hour day month weekday"
    );
    assert_eq!(
        wrong("queue: mail, every: 1s, timezone: Mars/North"),
        ".timezone: \"Mars/North\" is not a known time zone"
    );
    let near =
        Desk::new().file("a.yaml", "workers: {mail: demo_foo_worker}\nscheduled_workers: [{queue: mial, hour: 1}]");
    assert!(near.problems().to_string().contains("did you mean \"mail\"? configured are: mail"), "{}", near.problems());
}

#[test]
fn merge_keys_and_anchors() {
    let text = "workers:
  foo: &base
    worker: demo_foo_worker
    processes: 3
    retry: {max_attempts: 5}
  bar:
    <<: *base
    worker: demo_bar_worker
  baz: {<<: [{processes: 7}, *base]}
";
    let config = Desk::new().file("a.yaml", text).load();
    assert_eq!(config.queues[1].kind, "demo_bar_worker");
    assert_eq!((config.queues[1].processes, config.queues[1].retry.max_attempts), (3, 5));
    assert_eq!((config.queues[2].processes, config.queues[2].kind.as_str()), (7, "demo_foo_worker"));
    assert_eq!(one("<<: 5"), "1:1 : << takes a map, or a list of maps");
    let place = one("workers:\n  bar:\n    <<: {worker: demo_bar_worker, oops: 1}\n");
    assert_eq!(place, "3:35 workers.bar.oops: unknown key");
}

#[test]
fn nonsense_is_refused_and_never_panics() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (this, last) in ('b'..='k').zip('a'..) {
        let ten = format!("*{last},").repeat(10);
        bomb.extend([this.to_string().as_str(), ": &", &this.to_string(), " [", &ten, "]\n"]);
    }
    let nonsense: Vec<Vec<u8>> = vec![
        vec![0xff, 0xfe, 0, 1],
        (0..=255).collect(),
        vec![0; 1000],
        "x".repeat((1 << 20) + 1).into(),
        "[".repeat(900_000).into(),
        "{a: ".repeat(200_000).into(),
        "- ".repeat(400_000).into(),
        "a:\n ".repeat(1000).into(),
        bomb.into(),
        "a: &a {b: *a}".into(),
        "? {a: b}\n: c".into(),
        "workers: !evil {}".into(),
        "just text".into(),
        "a: b\n---\nc: d".into(),
        "workers: {foo: [}".into(),
        "\tworkers: {}".into(),
        "a: b: c".into(),
        keys(60_000).into(),
    ];
    for text in nonsense {
        let start = String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned();
        let desk = Desk::new().file("a.yaml", text);
        let problems = desk.problems();
        assert!(!problems.0.is_empty() && problems.0.len() <= 100 && problems.to_string().len() < 100_000, "{start}");
    }
    assert!(Desk::new().file("a.yaml", keys(500)).problems().to_string().ends_with("400 more problems are not shown"));
    assert_eq!(one("workers:\n  foo: [1,\nx"), "3:1 : is not YAML: invalid indentation");
    let braces = Desk::new().file("a.yaml", "workers: {foo: ${KIND}}").problems().to_string();
    assert!(braces.contains("hint: within { } and [ ], a value with ${NAME} is put in quotes"), "{braces}");
}

/// What is shown, fed back, is shown the same; and it means the same.
pub(crate) fn fed_back(shown: &str, sources: &Sources) -> Config {
    let desk = Desk::new().file("shown.yaml", shown);
    let again = Sources { files: vec![desk.path().join("shown.yaml")], set: Vec::new(), ..sources.clone() };
    let config = load(&again).unwrap_or_else(|problems| panic!("{problems}\n{shown}"));
    let told = if shown.starts_with('{') { config.to_json_text() } else { config.to_yaml() };
    assert_eq!(told.unwrap(), shown.trim_start_matches('\n'));
    config
}

#[test]
fn what_is_shown_is_a_configuration() {
    let odd = r#"
transport: sqlite:/somewhere/${NAME}.db
x-base: &base {worker: odd, unique: {key: "{payload.a}", conflict: drop}, rate_max_calls: 3, rate_period: 1.5}
workers:
  foo: *base
  "no": {<<: *base, timeout: 1h30m, recycle: {max_memory: 1.5GB}, dead_letter: {keep: forever}}
  "1.10": {<<: *base, retry: {first: 100ms, jitter: 33%}}
  off: null
kinds:
  odd: {command: [run, '$${NAME}', '$$${x', "yes", '1', "a\nb: c", ' # '], env: {A: b}, umask: '007', clear_env: true}
  file: {command: [./run], mode: once, input: file, accepts: json, cwd: ..}
scheduled_workers:
- {ctl: backup 'a b', second: 1}
- {ctl: backup 'a b', second: 2, minute: 7}
- {ctl: 'copy amqp://u:hunter2@h/ x', hour: 1}
- {ctl: clean, hour: 2, id: by_hand, misfire: run_once}
- {worker: odd, minute: "*/7", hour: 3, day: last, timezone: Europe/Berlin, start_date: 2026-01-01}
- {worker: odd, every: 90s}
- {worker: odd, every: 90, payload: {b: 1.10, a: [1e400, "$${x}", {"$${k": "amqp://u:hunter2@h"}], n: "\u0085\0\u2028é😀\t"}}
- {queue: foo, cron: "0 3 * * mon-fri", payload: payload-1.}
- {queue: "1.10", every: 1d, payload: null}
- {queue: off, every: 1d, payload: "[1]"}
"#;
    let desk = Desk::new().file("odd.yaml", odd).env("NAME", "a${b}c");
    let config = desk.load();
    for shown in [config.to_yaml().unwrap(), config.to_json_text().unwrap()] {
        assert!(!shown.contains("hunter2"), "{shown}");
        let again = fed_back(&shown, &desk.sources);
        let mut sorted = config.queues.clone();
        sorted.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!((&again.queues, &again.disabled), (&sorted, &config.disabled));
        assert_eq!((&again.transport, &again.application), (&config.transport, &config.application));
        let known = |config: &Config| -> Vec<_> {
            let schedules = config.schedules.iter();
            schedules.map(|one| (one.id.clone(), one.queue.clone(), one.when.clone(), one.misfire)).collect()
        };
        assert_eq!(known(&again), known(&config));
        let payloads = |config: &Config| -> Vec<_> {
            config.schedules.iter().map(|one| one.payload.as_ref().map(|payload| payload.text.clone())).collect()
        };
        let masked: Vec<_> =
            payloads(&config).into_iter().map(|text| text.map(|text| text.replace("hunter2", "***"))).collect();
        assert_eq!(payloads(&again), masked);
        assert_eq!(again.kinds["odd"].argv, ["run", "${NAME}", "$${x", "yes", "1", "a\nb: c", " # "]);
        assert_eq!(
            (again.kinds["odd"].options.clone(), &again.kinds["file"]),
            (config.kinds["odd"].options.clone(), &config.kinds["file"])
        );
    }
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let sources = Sources { files: vec![config.join("reference.yaml")], cwd: config, ..Sources::default() };
    let reference = load(&sources).unwrap();
    for shown in [reference.to_yaml().unwrap(), reference.to_json_text().unwrap()] {
        assert!(shown.contains("amqp://guest:***@localhost"), "{shown}");
        assert!(fed_back(&shown, &sources).transport.is_masked());
    }
    fed_back(&Desk::new().load().to_yaml().unwrap(), &Sources::default());
}

fn keys(count: usize) -> String {
    (0..count).map(|n| format!("k{n}: 1\n")).collect::<Vec<_>>().concat()
}

fn leaves(path: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| leaves(&format!("{path}.{key}"), value, found));
        }
        _ => found.push((path.to_owned(), value.clone())),
    }
}

#[test]
fn the_reference_sets_every_key_off_its_default() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let sources = |files: &[&str], set: &[&str]| Sources {
        files: files.iter().map(|file| config.join(file)).collect(),
        set: set.iter().map(|option| (*option).to_owned()).collect(),
        application: "asynctask".into(),
        cwd: config.clone(),
        ..Sources::default()
    };
    load(&sources(&["example.yaml"], &[])).unwrap_or_else(|problems| panic!("{problems}"));
    let reference = load(&sources(&["reference.yaml"], &[])).unwrap_or_else(|problems| panic!("{problems}")).to_json();
    let default = load(&sources(
        &[],
        &[
            "kinds={thumbnail: {command: [x]}, resize: {command: [x]}}",
            "workers={resized: thumbnail, thumbnails: thumbnail}",
            "scheduled_workers=[{worker: thumbnail, second: 1}, {ctl: other, second: 2}]",
        ],
    ))
    .unwrap_or_else(|problems| panic!("{problems}"))
    .to_json();
    let mut settings = Vec::new();
    leaves("", &default, &mut settings);
    // Its default follows the mode, which is off its default too.
    assert_eq!(reference["kinds"]["thumbnail"]["accepts"], "json");
    // What is not a setting, or is set by being there at all.
    let fixed = [
        ".x-derived.queues.thumbnails.names.queue",
        ".x-derived.queues.resized",
        ".x-derived.queues.scheduled",
        ".x-derived.schedules",
        ".kinds.resize",
        ".kinds.thumbnail.accepts",
        // In a file of their own.
        ".pipelines",
        ".workers.resized",
        ".workers.scheduled",
    ];
    for (path, value) in settings {
        if !fixed.iter().any(|fixed| path.starts_with(fixed)) {
            let pointer = path.replace('.', "/");
            assert_ne!(reference.pointer(&pointer), Some(&value), "{path} is at its default in reference.yaml");
        }
    }
}
