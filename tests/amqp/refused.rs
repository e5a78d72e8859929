//! What a broker does not allow is named, with what may help.

use crate::support::{Demo, Place, broker};

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
