use super::*;
use crate::task::Reason;

#[test]
fn memory_is_bounded_and_failures_are_kept_longest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.xml");
    let mut report = Report::begin(&path, "s").unwrap();
    let begun = fs::read_to_string(&path).unwrap();
    assert!(begun.contains(r#"tests="1" failures="0" errors="1""#) && begun.contains("has not ended"), "{begun}");
    for number in 0..CASES + 10 {
        report.ended("q", number.to_string(), Duration::ZERO, None, None);
    }
    let mut failure = Failure::new(Reason::Crash, "e".repeat(100_000), Timestamp(0));
    failure.output_tail = "o".repeat(100_000);
    for _ in 0..5_000 {
        report.ended("q", "x".to_owned(), Duration::ZERO, Some(Box::new(failure.clone())), None);
    }
    assert_eq!((report.cases.len(), report.failures, report.left_out), (CASES + 5_000, 5_000, 10));
    assert!(report.text < TEXT + 5_000 * 600 + 3 * PART, "{}", report.text);
    report.write(&End::Complete, &[]).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains(r#"<property name="left_out" value="10"/>"#));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_task_that_was_not_done_after_all_is_no_case() {
    let folder = tempfile::tempdir().unwrap();
    let mut report = Report::begin(&folder.path().join("report.xml"), "s").unwrap();
    for (queue, id) in [("q", "a"), ("q", "b"), ("r", "a")] {
        report.ended(queue, id.to_owned(), Duration::ZERO, None, None);
    }
    report.reopened("q", "a");
    let left: Vec<_> = report.cases.iter().map(|case| (case.queue, case.id.as_str())).collect();
    assert_eq!((left, report.left_out), (vec![(0, "b"), (1, "a")], 0));
}

#[test]
fn a_place_that_cannot_be_written_is_known_at_once() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Report::begin(folder.path(), "s").is_err());
    assert!(Report::begin(&folder.path().join("absent/report.xml"), "s").is_err());
    assert!(Report::begin(Path::new("/dev/null"), "s").is_err());
    let socket = folder.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(Report::begin(&socket, "s").is_err());
}

#[test]
fn no_two_cases_have_one_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.xml");
    let mut report = Report::begin(&path, "s").unwrap();
    // Two ids that only a character differs in that XML cannot have, one that has the form of ours, and a task that
    // is called as the run.
    for id in ["a", "a (2)", "a", "a", "\u{1}", "\u{2}", "b&"] {
        report.ended("q", id.to_owned(), Duration::ZERO, None, None);
    }
    report.ended("r", "a".to_owned(), Duration::ZERO, None, None);
    report.ended("asynctask", "run".to_owned(), Duration::ZERO, None, None);
    report.write(&End::Stopped("early".to_owned()), &[]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let name = |line: &str| {
        let line = line.strip_prefix("<testcase classname=\"")?;
        let (class, rest) = line.split_once("\" name=\"")?;
        Some(format!("{class}:{}", rest.split('"').next()?))
    };
    let names: Vec<String> = text.lines().filter_map(name).collect();
    assert_eq!(
        names,
        [
            "q:a",
            "q:a (2)",
            "q:a (3)",
            "q:a (4)",
            "q:\u{fffd}",
            "q:\u{fffd} (2)",
            "q:b&amp;",
            "r:a",
            "asynctask:run",
            "asynctask:run (2)"
        ]
    );
}

#[test]
fn what_a_link_leads_to_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("real.xml"), folder.path().join("link.xml"));
    fs::write(&path, "old").unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    Report::begin(&link, "s").unwrap().write(&End::Complete, &[]).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&path).unwrap().starts_with("<?xml"));
}
