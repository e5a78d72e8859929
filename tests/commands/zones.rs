//! The time zone of schedules that name none: that of the system, or a mistake that is told before anything is done.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Command};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::{Demo, Place, demo::demo_program};

/// At three, wherever that is.
const AT_THREE: &str = "workers: {}\nscheduled_workers: [{ worker: demo_foo_worker, hour: 3, id: backup }]\n";

fn demo(settings: &str) -> Demo {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", settings);
    demo
}

/// Runs a command in this zone: its standard output and error, and its code.
fn ran(demo: &Demo, zone: &OsStr, arguments: &[&str]) -> (String, String, Option<i32>) {
    let output = demo.command(arguments).env("TZ", zone).output().expect("the demo starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

#[test]
fn the_systems_zone_is_taken_in_all_its_forms() {
    let demo = demo(AT_THREE);
    for (zone, offsets) in [
        ("Europe/Berlin", ["+01:00", "+02:00"]),
        (":Europe/Berlin", ["+01:00", "+02:00"]),
        ("/usr/share/zoneinfo/Europe/Berlin", ["+01:00", "+02:00"]),
        ("CET-1CEST,M3.5.0,M10.5.0/3", ["+01:00", "+02:00"]),
        ("<+03>-3", ["+03:00", "+03:00"]),
        ("UTC", ["+00:00", "+00:00"]),
        ("", ["+00:00", "+00:00"]),
    ] {
        let (stdout, stderr, code) = ran(&demo, zone.as_ref(), &["schedules", "--json"]);
        assert_eq!(code, Some(0), "{zone}: {stderr}");
        let shown: Value = serde_json::from_str(&stdout).expect("JSON");
        let next = shown["schedules"][0]["next"][0].as_str().expect("a moment");
        assert!(offsets.iter().any(|offset| next.ends_with(&format!("T03:00:00{offset}"))), "{zone}: {next}");
    }
}

#[test]
fn a_zone_that_is_none_is_an_error_where_a_schedule_depends_on_it() {
    let demo = demo(AT_THREE);
    let zones: [(&[u8], &str); 7] = [
        (b"Europe/Berln", "Europe/Berln"),
        (b"garbage", "garbage"),
        (b"UTC+25", "UTC+25"),
        (b"/usr/share/zoneinfo/Europe/Berln", "/usr/share/zoneinfo/Europe/Berln"),
        (b"/etc/passwd", "/etc/passwd"),
        (b"Etc/Unknown", "Etc/Unknown"),
        (b"\x1b[31mBerl\xff", "\\u{1b}[31mBerl\u{fffd}"),
    ];
    for (zone, said) in zones {
        let zone = OsStr::from_bytes(zone);
        let expected = format!("error: $TZ: \"{said}\" is not a known time zone\nhint: schedule \"backup\" goes by it");
        let needing: [&[&str]; 3] =
            [&["config", "check"], &["schedules"], &["workers", "--scheduler", "--halt-when-empty"]];
        for arguments in needing {
            let (stdout, stderr, code) = ran(&demo, zone, arguments);
            assert_eq!((code, stdout.as_str()), (Some(78), ""), "{zone:?} {arguments:?}: {stderr}");
            assert!(stderr.starts_with(&expected) && stderr.contains("'timezone'"), "{zone:?} {arguments:?}: {stderr}");
        }
        let (stdout, _, code) = ran(&demo, zone, &["config", "check", "--json"]);
        let problems: Value = serde_json::from_str(&stdout).expect("JSON");
        assert_eq!((code, &problems[0]["option"]), (Some(78), &"$TZ".into()), "{stdout}");
        // Nothing was started, and nothing made.
        assert_eq!(demo.files(), ["asynctask.yaml"]);
        // Whoever fires nothing needs no zone.
        let others: [&[&str]; 3] = [&["queues"], &["config", "show"], &["workers", "--halt-when-empty"]];
        for arguments in others {
            let (_, stderr, code) = ran(&demo, zone, arguments);
            assert_eq!(code, Some(0), "{zone:?} {arguments:?}: {stderr}");
        }
        for name in demo.files().iter().filter(|name| *name != "asynctask.yaml") {
            std::fs::remove_file(demo.folder.path().join(name)).expect("a file of ours");
        }
    }
}

#[test]
fn what_does_not_depend_on_the_systems_zone_is_right_in_any() {
    for (schedule, code) in [
        ("hour: 3, timezone: Europe/Berlin", 0),
        ("hour: 3, timezone: UTC", 0),
        ("cron: '0 3 * * *', timezone: UTC", 0),
        ("cron: '0 3 * * *'", 78),
        ("every: 90s", 0),
        ("every: 90s, start_date: '2030-01-01T00:00:00Z'", 0),
        ("every: 90s, start_date: '2030-01-01 00:00:00'", 78),
        ("every: 90s, start_date: '2030-01-01 00:00:00', timezone: UTC", 0),
    ] {
        let settings = format!("workers: {{}}\nscheduled_workers: [{{ worker: demo_foo_worker, {schedule} }}]\n");
        let (stdout, stderr, found) = ran(&demo(&settings), "garbage".as_ref(), &["config", "check"]);
        assert_eq!(found, Some(code), "{schedule}: {stdout}{stderr}");
    }
    let demo = demo("workers: { foo: demo_foo_worker }\n");
    let (_, stderr, code) = ran(&demo, "garbage".as_ref(), &["workers", "--scheduler", "--halt-when-empty"]);
    assert_eq!(code, Some(0), "{stderr}");
}

#[test]
fn a_reload_is_held_to_the_same() {
    let demo = demo(&AT_THREE.replace("hour: 3", "hour: 3, timezone: UTC"));
    let mut command = demo.command(&["workers", "--scheduler"]);
    command.env("TZ", "Europe/Berln");
    let mut master = demo.follow(command);
    master.expect("(UTC; next ");
    master.expect("Starting; queue=");
    demo.write("asynctask.yaml", AT_THREE);
    let reload = demo.run(&["control", "reload", "--wait"]);
    assert_eq!(reload.code, 78, "{reload:?}");
    assert!(reload.stderr.contains("$TZ: \"Europe/Berln\" is not a known time zone"), "{reload:?}");
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}

/// Behind a mount that hides the zones from this process alone.
#[test]
fn no_zone_data_at_all_is_said() {
    let demo = demo(AT_THREE);
    let hidden = |zone: Option<&str>| {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs none /usr/share/zoneinfo || exit 99; exec \"$0\" config check";
        command.args(["-m", "sh", "-c", script]).arg(demo_program()).current_dir(demo.folder.path());
        command.env_remove("TZ").env_remove("TZDIR").env_remove("ASYNCTASK_CONFIG");
        command.envs(zone.map(|zone| ("TZ", zone)));
        command.output()
    };
    match hidden(Some("UTC")) {
        Ok(output) if output.status.success() => {}
        other => return crate::support::left_out(&format!("nothing can be mounted here ({other:?})")),
    }
    let output = hidden(Some("Europe/Berlin")).expect("it has run before");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{stderr}");
    assert!(stderr.starts_with("error: $TZ: \"Europe/Berlin\" is not a known time zone\n"), "{stderr}");
    assert!(stderr.contains("no time zone data is installed here (tzdata)"), "{stderr}");
    let link = std::fs::read_link("/etc/localtime").unwrap_or_default();
    if link.starts_with("/usr/share/zoneinfo") {
        let output = hidden(None).expect("it has run before");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{stderr}");
        assert!(stderr.starts_with("error: /etc/localtime: it leads to no time zone data (/usr/"), "{stderr}");
    }
}

#[test]
fn zone_and_next_moment_stand_in_the_log_and_in_status() {
    let settings = "workers: {}
scheduled_workers:
  - { worker: demo_foo_worker, year: 2037, month: 7, timezone: Europe/Berlin }
  - { worker: demo_bar_worker, year: 2038, month: 1, day: 2, hour: 3 }
  - { worker: demo_baz_worker, year: 2000 }
";
    let demo = demo(settings);
    let mut command = demo.command(&["workers", "--scheduler"]);
    command.env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3");
    let mut master = demo.follow(command);
    for line in [
        r#"Scheduling "demo_foo_worker" for {"year":2037,"month":7,"timezone":"Europe/Berlin"} (Europe/Berlin; next 2037-07-01T00:00:00+02:00)"#,
        r#"Scheduling "demo_bar_worker" for {"year":2038,"month":1,"day":2,"hour":3} (CET-1CEST,M3.5.0,M10.5.0/3; next 2038-01-02T03:00:00+01:00)"#,
        r#"Scheduling "demo_baz_worker" for {"year":2000} (CET-1CEST,M3.5.0,M10.5.0/3; no moment to come)"#,
    ] {
        assert!(master.expect("Scheduling").ends_with(line), "{line}");
    }
    let status = || demo.json(&["status", "--json"])["scheduler"].clone();
    super::support::log::until("it does not hold the schedules", || status()["leading"] == true);
    let scheduler = status();
    assert_eq!(scheduler["next_at"], "2037-06-30T22:00:00Z", "{scheduler}");
    let next = serde_json::json!({
        "schedule": "scheduled_0_demo_foo_worker", "at": "2037-07-01T00:00:00+02:00", "zone": "Europe/Berlin",
    });
    assert_eq!(scheduler["next"], next);
    let plain = demo.run(&["status"]).stdout;
    let line = "schedules: next scheduled_0_demo_foo_worker at 2037-07-01T00:00:00+02:00 (Europe/Berlin)\n";
    assert!(plain.contains(line), "{plain}");
    master.signal(Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
}
