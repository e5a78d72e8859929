//! What stands on the page, and what probes are told.

use std::net::TcpListener;

use super::{Demo, Site, ends, started};
use crate::support::{Place, log::until};

const RETRY: &str = "retry: { max_attempts: 2, first: 100ms }";

#[test]
fn tasks_are_counted_by_what_became_of_them() {
    for place in Place::all() {
        let demo = Demo::new(&place);
        let settings = format!("{{ foo: {{ worker: demo_sleep_worker, {RETRY} }}, bar: demo_quiet_worker }}");
        let (master, site) = started(&demo, &settings);
        let numbers = site.numbers();
        // Every series is there from the first page on.
        assert_eq!(numbers[r#"asynctask_tasks_total{queue="foo",outcome="done"}"#], 0.0);
        assert_eq!(numbers[r#"asynctask_dead_letters_total{queue="bar",reason="crash"}"#], 0.0);
        let names: Vec<String> = numbers.into_keys().collect();

        demo.submit_all("foo", ["{}", r#"{"n":1}"#, r#"{"n":2,"sleep_ms":20}"#].map(str::to_owned));
        demo.submit("foo", r#"{"then":"error"}"#);
        demo.submit("foo", r#"{"then":"abort"}"#);
        demo.submit("foo", r#"{"then":"dead"}"#);
        let ended = |numbers: &std::collections::BTreeMap<String, f64>| {
            numbers[r#"asynctask_tasks_total{queue="foo",outcome="dead_lettered"}"#] == 3.0
                && numbers[r#"asynctask_tasks_total{queue="foo",outcome="done"}"#] == 3.0
        };
        until("the tasks are not counted", || ended(&site.numbers()));
        until("the dead letters are not seen", || {
            site.numbers().get(r#"asynctask_queue_depth{queue="foo",state="failed"}"#) == Some(&3.0)
        });
        let numbers = site.numbers();
        let expected = [
            (r#"asynctask_tasks_total{queue="foo",outcome="retried"}"#, 2.0),
            (r#"asynctask_retries_total{queue="foo",reason="error"}"#, 1.0),
            (r#"asynctask_retries_total{queue="foo",reason="crash"}"#, 1.0),
            (r#"asynctask_dead_letters_total{queue="foo",reason="error"}"#, 1.0),
            (r#"asynctask_dead_letters_total{queue="foo",reason="crash"}"#, 1.0),
            (r#"asynctask_dead_letters_total{queue="foo",reason="failed"}"#, 1.0),
            (r#"asynctask_worker_restarts_total{queue="foo",cause="crash"}"#, 2.0),
            (r#"asynctask_task_run_seconds_count{queue="foo"}"#, 8.0),
            (r#"asynctask_task_wait_seconds_count{queue="foo"}"#, 8.0),
            (r#"asynctask_task_wait_seconds_bucket{le="60.0",queue="foo"}"#, 8.0),
            (r#"asynctask_queue_depth{queue="foo",state="ready"}"#, 0.0),
            (r#"asynctask_queue_depth{queue="foo",state="delayed"}"#, 0.0),
            (r#"asynctask_tasks_held{queue="foo",place="in_hand"}"#, 0.0),
            (r#"asynctask_queue_state{queue="foo",state="running"}"#, 1.0),
            (r#"asynctask_queue_state{queue="foo",state="parked"}"#, 0.0),
            (r#"asynctask_queue_kind{queue="foo",kind="demo_sleep_worker"}"#, 1.0),
            ("asynctask_session_up", 1.0),
            ("asynctask_session_reconnects_total", 0.0),
            ("asynctask_log_lines_dropped_total", 0.0),
        ];
        for (name, value) in expected {
            assert_eq!(numbers.get(name), Some(&value), "{name} in {numbers:#?}");
        }
        assert!(numbers[r#"asynctask_task_run_seconds_sum{queue="foo"}"#] >= 0.02, "{numbers:#?}");
        assert!(numbers["process_resident_memory_bytes"] > 1e6 && numbers["process_open_fds"] > 3.0, "{numbers:#?}");
        assert!(numbers["process_start_time_seconds"] > 1.7e9 && numbers["process_cpu_seconds_total"] > 0.0);
        // No task made a series of its own.
        let depth = |name: &String| !name.contains("queue_depth");
        let after: Vec<String> = numbers.into_keys().filter(depth).collect();
        assert_eq!(names.into_iter().filter(depth).collect::<Vec<_>>(), after);
        ends(&demo, master);
    }
}

#[test]
fn slots_and_restarts_are_told() {
    let demo = Demo::new(&Place::sqlite());
    let settings = "{ foo: { worker: demo_sleep_worker, processes: 3, timeout: 300ms, recycle: { max_tasks: 1 } } }";
    let (master, site) = started(&demo, settings);
    let slots = |state: &str| site.numbers()[&format!(r#"asynctask_slots{{queue="foo",state="{state}"}}"#)];
    until("not all are idle", || slots("idle") == 3.0);
    demo.submit("foo", r#"{"then":"hang"}"#);
    let restarts =
        |cause: &str| site.numbers()[&format!(r#"asynctask_worker_restarts_total{{queue="foo",cause="{cause}"}}"#)];
    until("the time-out is not counted", || restarts("timeout") == 1.0);
    demo.submit("foo", "{}");
    until("the renewal is not counted", || restarts("recycle") >= 1.0);
    assert_eq!(demo.run(&["control", "restart", "foo"]).code, 0);
    until("the renewals are not counted", || restarts("renewal") == 3.0);
    assert_eq!(demo.run(&["control", "pause", "foo"]).code, 0);
    until("the pause is not seen", || site.numbers()[r#"asynctask_queue_state{queue="foo",state="paused"}"#] == 1.0);
    ends(&demo, master);
}

#[test]
fn the_page_is_served_as_what_it_is() {
    let demo = Demo::new(&Place::sqlite());
    let (master, site) = started(&demo, "{ foo: demo_quiet_worker }");
    let page = site.get_with("/metrics", "Accept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(
        page.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{}",
        page.head
    );
    assert!(
        page.body.contains("# TYPE asynctask_tasks counter") && page.body.contains("# UNIT asynctask_task_run_seconds")
    );
    let head = site.say(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("an answer");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.head.contains("content-length: "), "{}", head.head);
    assert_eq!((site.get("/livez").status, site.get("/livez").body.as_str()), (200, "alive\n"));
    assert_eq!((site.get("/readyz").status, site.get("/readyz").body.as_str()), (200, "healthy\n"));
    assert_eq!(site.get("/").status, 404);
    let post = site.say(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n").expect("an answer");
    assert_eq!(post.status, 405);
    assert!(post.head.contains("allow: get, head"), "{}", post.head);
    // What `health` finds is what the probe finds.
    assert_eq!(demo.run(&["control", "pause", "foo"]).code, 0);
    assert_eq!(demo.run(&["health"]).code, 0);
    until("a paused queue is no problem", || site.get("/readyz").status == 200);
    ends(&demo, master);
}

/// To look at a broker's queues again and again opens no connections, and says nothing in the broker's log.
#[test]
fn looking_is_quiet() {
    let Some(broker) = crate::support::broker::controlled() else { return };
    let uri = broker.fresh_vhost();
    let vhost = uri.rsplit('/').next().expect("a virtual host").to_owned();
    let demo = Demo::new(&Place::Amqp(uri));
    assert_eq!(demo.run(&["submit", "foo", "{}", "--delay", "1h"]).code, 0);
    let (master, site) = started(&demo, "{ foo: demo_quiet_worker, bar: demo_quiet_worker }");
    // The first look is for steps that others have made, too.
    until("the delayed task is not seen", || {
        site.numbers().get(r#"asynctask_queue_depth{queue="foo",state="delayed"}"#) == Some(&1.0)
    });
    let count = || broker.log().matches(&format!("in vhost '{vhost}'")).count();
    // What was logged before the mark is in the file when the mark is.
    let errors = |mark: &str| {
        broker.control(&["eval", &format!("logger:error(\"{mark}\").")]);
        until("the mark is not in the broker's log", || broker.log().contains(mark));
        count()
    };
    let connections = || broker.control(&["list_connections", "pid", "vhost", "--no-table-headers"]);
    let of_ours = || connections().lines().filter(|line| line.ends_with(&vhost)).map(str::to_owned).collect::<Vec<_>>();
    let (lines, before) = (errors("looked once"), of_ours());
    assert!(lines > 0, "the log is not that of this broker");
    for _ in 0..5 {
        let status = demo.json(&["status", "--json"]);
        assert_eq!(status["queues"]["foo"]["delayed"], 1, "{status}");
        assert_eq!(site.get("/readyz").status, 200);
        // A page is good for a second.
        let page = site.get("/metrics").body;
        until("no new page", || site.get("/metrics").body != page);
    }
    assert_eq!((errors("looked often"), of_ours()), (lines, before), "{}", broker.log());
    ends(&demo, master);
}

/// By hand what `promtool check metrics` looks at, and by that program where it is installed.
#[test]
fn the_classic_form_is_what_its_readers_expect() {
    for place in Place::all() {
        let demo = Demo::new(&place);
        let (master, site) = started(&demo, "{ foo: demo_sleep_worker, 'a.b-c:d': demo_quiet_worker }");
        demo.submit("foo", "{}");
        demo.submit("foo", r#"{"then":"dead"}"#);
        until("the tasks are not counted", || {
            let numbers = site.numbers();
            numbers[r#"asynctask_tasks_total{queue="foo",outcome="dead_lettered"}"#] == 1.0
                && numbers[r#"asynctask_tasks_total{queue="foo",outcome="done"}"#] == 1.0
        });
        let openmetrics = site.get_with("/metrics", "Accept: application/openmetrics-text\r\n");
        for head in ["", "Accept: */*\r\n", "Accept: text/plain;version=0.0.4\r\n"] {
            let page = site.get_with("/metrics", head);
            assert_eq!(page.status, 200, "{}", page.body);
            assert!(page.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", page.head);
            assert!(page.head.contains("vary: accept"), "{}", page.head);
            is_classic(&page.body);
            // No number has another name in the other form.
            let names = |text: &str| -> Vec<String> {
                let lines = text.lines().filter(|line| !line.starts_with('#'));
                lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
            };
            assert_eq!(names(&page.body), names(&openmetrics.body));
        }
        let page = site.get("/metrics").body;
        let promtool = std::process::Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn();
        match promtool {
            Ok(mut checked) => {
                let mut stdin = checked.stdin.take().expect("it is piped");
                std::io::Write::write_all(&mut stdin, page.as_bytes()).expect("it reads");
                drop(stdin);
                let output = checked.wait_with_output().expect("it ends");
                let said = [output.stdout, output.stderr].concat();
                assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
            }
            Err(_) => crate::support::left_out("promtool is not installed"),
        }
        ends(&demo, master);
    }
}

fn is_classic(page: &str) {
    let mut types = std::collections::BTreeMap::new();
    let mut helped = std::collections::BTreeSet::new();
    let mut series = std::collections::BTreeSet::new();
    let mut last = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a text");
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(helped.contains(name), "{line} without a help before it");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line} twice");
            // The linter's rule: these and no others end so.
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            name.clone_into(&mut last);
        } else {
            assert!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
            let (labelled, value) = line.rsplit_once(' ').expect("a name and a number");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(labelled.to_owned()), "{line} twice");
            let name = labelled.split('{').next().unwrap_or_default();
            let ends = if types[&last] == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
            assert!(ends.iter().any(|end| name == format!("{last}{end}")), "{line} stands under {last}");
        }
    }
    assert!(page.ends_with('\n') && types.len() > 10, "{page}");
}

#[test]
fn without_a_transport_it_lives_and_is_not_ready() {
    let mut demo = Demo::new(&Place::sqlite());
    // Nobody listens there.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    demo.uri = format!("amqp://guest:guest@{nobody}");
    demo.write("asynctask.yaml", "metrics: { listen: 127.0.0.1:0 }\nworkers: { foo: demo_quiet_worker }\n");
    let mut master = demo.start_configured(&[]);
    let site = Site::told(&master.expect("Metrics at http://"));
    master.expect("cannot reach");
    let numbers = site.numbers();
    assert_eq!(numbers["asynctask_session_up"], 0.0);
    assert!(!numbers.keys().any(|name| name.contains("queue_depth")), "{numbers:#?}");
    assert_eq!(site.get("/livez").status, 200);
    let ready = site.get("/readyz");
    assert_eq!((ready.status, ready.body.contains("the transport is not connected")), (503, true), "{}", ready.body);
    ends(&demo, master);
}

#[test]
fn an_address_that_is_taken_is_told_with_its_key() {
    let demo = Demo::new(&Place::sqlite());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its number");
    demo.write(
        "asynctask.yaml",
        &format!("metrics: {{ listen: '{address}' }}\nworkers: {{ foo: demo_quiet_worker }}\n"),
    );
    let ran = demo.run(&["workers"]);
    assert_eq!(ran.code, 69, "{}", ran.stderr);
    let expected = format!("error: metrics.listen: cannot listen at {address}: Address already in use");
    assert!(ran.stderr.starts_with(&expected) && ran.stderr.contains("\nhint: "), "{}", ran.stderr);
    // Nothing was started, and nothing is left.
    assert!(!ran.stdout.contains("Launching"), "{}", ran.stdout);
    assert!(!demo.files().iter().any(|name| name == "asynctask.sock" || name == "tasks.db"), "{:?}", demo.files());
}
