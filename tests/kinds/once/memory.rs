//! Out of memory in a control group that is limited: what is said of it, whatever stands between the master and the victim.

use std::{fs, io, path::PathBuf};

use serde_json::json;

use super::{demo, letter};
use crate::support::Place;

/// Bytes that the group may have: a master and an interpreter have room in it.
const LIMIT: u64 = 150 << 20;

/// A control group of its own with a limit on memory, below the one of this process.
struct Group(PathBuf);

impl Group {
    fn new() -> io::Result<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let own = groups.lines().find_map(|line| line.split_once(":memory:")).map(|(_, group)| group.to_owned());
        let (parent, limit) = match own {
            Some(group) => (format!("/sys/fs/cgroup/memory{group}"), "memory.limit_in_bytes"),
            None => ("/sys/fs/cgroup".to_owned(), "memory.max"),
        };
        let group = Self(PathBuf::from(parent).join(format!("asynctask-test-{}", std::process::id())));
        fs::create_dir(&group.0)?;
        fs::write(group.0.join(limit), LIMIT.to_string())?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever is left in it, after a test that failed, keeps it there.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_kill_for_want_of_memory_is_not_denied_because_of_a_wrapper() {
    let group = match Group::new() {
        Ok(group) => group,
        Err(error) => {
            return crate::support::left_out(&format!("no control group with a limit can be made here ({error})"));
        }
    };
    let eat = "python3 -c \"len(b'x' * 500000000)\"";
    for (mode, script, end, oom) in [
        ("once", format!("exec {eat}"), json!({ "signal": "SIGKILL", "core_dumped": false }), json!(true)),
        ("once", format!("{eat}; exit $?"), json!({ "code": 137 }), json!(true)),
        ("once", format!("{eat} || exit 3"), json!({ "code": 3 }), json!(null)),
        ("once", "kill -KILL $$".to_owned(), json!({ "signal": "SIGKILL", "core_dumped": false }), json!(false)),
        ("once", "exit 137".to_owned(), json!({ "code": 137 }), json!(false)),
        ("frames", "python3 worker.py eats; exit $?".to_owned(), json!({ "code": 137 }), json!(true)),
        ("frames", "python3 worker.py eats || exit 3".to_owned(), json!({ "code": 3 }), json!(null)),
    ] {
        let files = [("work.sh", script.as_str()), ("worker.py", include_str!("../../support/worker.py"))];
        let demo = demo(&Place::sqlite(), "processes: 1", "command: [sh, work.sh]", &files);
        let path = demo.folder.path().join("asynctask.yaml");
        let yaml = fs::read_to_string(&path).unwrap().replace("mode: once", &format!("mode: {mode}"));
        fs::write(&path, yaml).unwrap();
        demo.submit("foo", "{}");
        let procs = group.0.join("cgroup.procs");
        let program = crate::support::demo::demo_program();
        let into = r#"echo $$ > "$1" && shift && exec "$@""#;
        let arguments =
            ["-c", into, "sh", procs.to_str().unwrap(), program.to_str().unwrap(), "workers", "--halt-when-empty"];
        let output = demo.command_of("sh".as_ref(), &arguments).output().unwrap();
        let letter = letter(&demo);
        let log = String::from_utf8_lossy(&output.stdout);
        assert_eq!((&letter["exit"], &letter["oom"]), (&end, &oom), "{mode}: {script}\n{letter}\n{log}");
    }
}
