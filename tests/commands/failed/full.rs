//! Dead letters that are not all taken back by their queue: what was stored is removed, and what is said is true.

use std::{collections::BTreeSet, process::Stdio};

use super::store;
use crate::support::{Demo, Place, broker};

fn retry(demo: &Demo) -> super::Ran {
    demo.run(&["failed", "retry", "foo", "--all"])
}

#[test]
fn a_full_queue_takes_back_what_it_says_and_no_letter_is_in_both() {
    let Some(broker) = broker::shared().filter(|broker| broker.is_own()) else { return };
    // A quorum queue counts what is over its limit only between two windows: several are needed.
    for (classic, count) in [(true, 600), (false, 1_500)] {
        let demo = Demo::new(&Place::Amqp(broker.fresh_vhost()));
        if classic {
            crate::support::foreign::Foreign::connect(&demo.uri).declare("foo", &[]);
        }
        store::bury_many(&demo, "foo", count);
        let vhost = demo.uri.rsplit('/').next().expect("an address has one");
        let policy = r#"{"max-length":100,"overflow":"reject-publish"}"#;
        broker.control(&["set_policy", "-p", vhost, "limit", "^foo$", policy, "--apply-to", "queues"]);
        // Under load a letter may be buried twice, by one id: its copy was not confirmed in time.
        let letters = super::ids(&demo.run(&["failed", "export", "foo"]));
        let (count, different) = (letters.len(), letters.iter().collect::<BTreeSet<_>>().len());
        let run = retry(&demo);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.starts_with("error: queue \"foo\" did not take the task: it is full"), "{run:?}");
        let hint = run.stderr.lines().nth(1).expect("a hint");
        let told =
            hint.strip_prefix("hint: ").and_then(|hint| hint.split(' ').next()).and_then(|count| count.parse().ok());
        let back: usize = told.unwrap_or_else(|| panic!("no count: {run:?}"));
        assert!(back > 0 && hint.ends_with("were put back to work before; all others are where they were"), "{hint}");
        let depth = demo.depth("foo");
        assert_eq!((&depth["ready"], &depth["failed"]), (&back.into(), &(count - back).into()), "{depth}");
        broker.control(&["clear_policy", "-p", vhost, "limit"]);
        let run = retry(&demo);
        assert_eq!(run.stdout, format!("{} dead letters of queue foo retried\n", count - back), "{run:?}");
        let waiting = store::waiting(&demo, "foo");
        assert_eq!(waiting.len(), count);
        assert_eq!(waiting.iter().collect::<BTreeSet<_>>().len(), different, "none is put back twice");
    }
}

/// A file that another program writes to.
#[test]
fn a_lock_is_waited_for_and_nothing_is_moved_by_halves() {
    let demo = Demo::new(&Place::sqlite());
    store::bury_many(&demo, "foo", 20);
    let path = demo.uri.strip_prefix("sqlite:").expect("a file");
    let other = rusqlite::Connection::open(path).expect("the file is there");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock is free");
    for verb in [
        &["failed", "retry", "foo", "--all", "--wait", "3s"][..],
        &["failed", "purge", "foo", "--all", "--yes", "--wait", "3s"],
        &["queues", "purge", "foo", "--yes", "--wait", "3s"],
    ] {
        let run = demo.run(verb);
        assert_eq!((run.code, run.stdout.as_str()), (69, ""), "{run:?}");
        assert!(run.stderr.starts_with("waiting for ") && run.stderr.contains("keeps it locked"), "{run:?}");
        let told = run.stderr.contains("hint: no dead letter was") && run.stderr.contains("where they were");
        assert_eq!(told, verb[0] == "failed", "{run:?}");
    }
    let mut command = demo.command(&["failed", "retry", "foo", "--all"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the demo starts");
    other.execute_batch("ROLLBACK").expect("it is ours");
    let output = child.wait_with_output().expect("it is our child");
    assert!(output.status.success(), "{output:?}");
    assert_eq!((store::waiting(&demo, "foo").len(), &demo.depth("foo")["failed"]), (20, &0.into()));
}
