//! What a broker does not allow is named, with what may help.

use crate::support::{Demo, Place, broker, log::until};

/// A user of its own with these permissions in the virtual host of the demo; the address for it.
fn user(uri: &str, name: &str, configure: &str) -> String {
    let broker = broker::controlled().expect("it was there a moment ago");
    let vhost = uri.rsplit('/').next().expect("a name");
    broker.control(&[
        "eval",
        &format!(
            "begin rabbit_auth_backend_internal:add_user(<<\"{name}\">>, <<\"pw\">>, <<\"tests\">>), \
             rabbit_auth_backend_internal:set_permissions(<<\"{name}\">>, <<\"{vhost}\">>, <<\"{configure}\">>, <<\".*\">>, \
             <<\".*\">>, <<\"tests\">>) end."
        ),
    ]);
    uri.replace("guest:guest", &format!("{name}:pw"))
}

#[test]
fn a_missing_permission_is_named_with_its_queue() {
    let Some(broker) = broker::controlled() else { return };
    let uri = broker.fresh_vhost();
    let demo = Demo::new(&Place::Amqp(user(&uri, "noconf", "^$")));
    for command in
        [&["submit", "foo", "1"][..], &["workers", "--halt-when-empty", "--set", "workers.foo=demo_file_worker"]]
    {
        let ran = demo.run(command);
        let told = [ran.stderr.as_str(), ran.stdout.as_str()].concat();
        assert_ne!(ran.code, 0, "{told}");
        for part in ["user \"noconf\" lacks the", "permission for queue \"foo", "virtual host \"t"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("refused the connection") && !told.contains("check user, password"), "{told}");
    }
    let ran = demo.run(&["submit", "foo", "1"]);
    assert!(ran.stderr.contains("hint: ") && ran.stderr.contains("declare: passive"), "{}", ran.stderr);
}

#[test]
fn a_limit_and_an_absent_virtual_host_are_named() {
    let Some(broker) = broker::controlled() else { return };
    let uri = broker.fresh_vhost();
    let vhost = uri.rsplit('/').next().expect("a name");
    let demo = Demo::new(&Place::Amqp(format!("{uri}-nope")));
    let ran = demo.run(&["submit", "foo", "1"]);
    assert_eq!(ran.code, 69, "{}", ran.stderr);
    assert!(ran.stderr.contains("not found") && ran.stderr.contains("add_vhost"), "{}", ran.stderr);
    broker.control(&["set_vhost_limits", "-p", vhost, r#"{"max-connections": 0}"#]);
    let demo = Demo::new(&Place::Amqp(uri));
    let ran = demo.run(&["submit", "foo", "1"]);
    assert_eq!(ran.code, 69, "{}", ran.stderr);
    assert!(ran.stderr.contains("connection limit") && ran.stderr.contains("two connections"), "{}", ran.stderr);
}

/// A command that looks at what queues are like finds ours to be ours without an error in the broker's log.
#[test]
fn commands_ask_for_our_own_queues_without_an_error() {
    let Some(broker) = broker::controlled() else { return };
    let uri = broker.fresh_vhost();
    let vhost = uri.rsplit('/').next().expect("a virtual host").to_owned();
    let demo = Demo::new(&Place::Amqp(uri));
    assert_eq!(demo.run(&["submit", "foo", "{}", "--delay", "1h"]).code, 0);
    demo.submit("bar", r#"{"then":"error"}"#);
    let workers = r#"{"bar": {"worker": "demo_sleep_worker", "retry": {"max_attempts": 1}}}"#;
    assert_eq!(demo.workers(workers, &["--halt-when-empty"]).code, 0);
    for command in [
        &["failed", "list", "bar"][..],
        &["queues", "purge", "foo", "--yes"],
        &["queues", "delete", "foo", "--yes"],
        &["failed", "retry", "bar", "--all"],
    ] {
        let ran = demo.run(command);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    // What was logged before the mark is in the file when the mark is.
    let mark = format!("all commands ran in {vhost}");
    broker.control(&["eval", &format!("logger:error(\"{mark}\").")]);
    until("the mark is not in the broker's log", || broker.log().contains(&mark));
    let of_ours = format!("in vhost '{vhost}'");
    let log = broker.log();
    let differing: Vec<_> =
        log.lines().filter(|line| line.contains(&of_ours) && line.contains("inequivalent arg")).collect();
    assert_eq!(differing, [""; 0]);
}
