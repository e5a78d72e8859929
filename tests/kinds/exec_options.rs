//! The options that a program is executed with: user, group, umask, nice, limits, environment, and the place of its payload. With
//! real processes.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Demo, Place, demo::Ran};
use serde_json::{Value, json};

/// A demo whose queue `foo` is worked by a program with these settings.
fn demo(kind: &str) -> Demo {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", &format!("workers: {{ foo: kind }}\nkinds:\n  kind: {{ {kind} }}\n"));
    demo
}

/// A process for one task with these settings, which runs this script.
fn sh(settings: &str, script: &str) -> Demo {
    demo(&format!("command: [sh, -c, {}, program], mode: once{settings}", Value::from(script)))
}

fn drained(demo: &Demo) -> Ran {
    demo.submit("foo", r#"{"n":1}"#);
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    run
}

fn letter(demo: &Demo) -> Value {
    let letters = demo.dead_letters("foo");
    assert_eq!(letters.len(), 1, "{letters:?}");
    demo.json(&["failed", "show", "foo", letters[0]["id"].as_str().expect("an id"), "--json"])
}

fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        crate::support::left_out("it takes root to become another user");
    }
    is_root
}

#[test]
fn another_user_with_its_groups_and_its_home() {
    if !is_root() {
        return;
    }
    let nobody = nix::unistd::User::from_name("nobody").expect("users").expect("nobody is everywhere");
    let script = "echo is $(id -u) $(id -g) $(id -G) $HOME $USER";
    let run = drained(&sh(", user: nobody", script));
    let (user, group) = (nobody.uid, nobody.gid);
    let line = format!("is {user} {group} {group} {} nobody\n", nobody.dir.display());
    assert!(run.stdout.contains(&line), "{line}{}", run.stdout);
    // A group alone, and by number; root's own groups are gone.
    let run = drained(&sh(", group: 1", script));
    assert!(run.stdout.contains("is 0 1 1 "), "{}", run.stdout);
    let run = drained(&sh(", user: 1, group: nogroup", "echo is $(id -un) $(id -gn)"));
    assert!(run.stdout.contains("is daemon nogroup\n"), "{}", run.stdout);
}

#[test]
fn a_number_needs_no_entry() {
    if !is_root() {
        return;
    }
    let script = "echo is $(id -u) $(id -g) $(id -G) $HOME";
    let run = drained(&sh(", user: 65511", script));
    assert!(run.stdout.contains("is 65511 65511 65511 /\n"), "{}", run.stdout);
    let run = drained(&sh(", user: '65511', group: 65512", script));
    assert!(run.stdout.contains("is 65511 65512 65512 /\n"), "{}", run.stdout);
}

#[test]
fn another_user_opens_its_output_and_its_payload() {
    if !is_root() {
        return;
    }
    for user in ["nobody", "65511"] {
        let demo = sh(&format!(", user: {user}"), "echo one > /dev/stdout; echo two > /dev/stderr; echo t=$TMPDIR.");
        demo.submit("foo", "1");
        // A folder that is the master's alone, as libpam-tmpdir makes them.
        let run = |demo: &Demo| {
            let mut command = demo.command(&["workers", "--halt-when-empty"]);
            let output = command.env("TMPDIR", demo.folder.path()).output().expect("it runs");
            (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let (code, text) = run(&demo);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("\none\ntwo\nt=.\n"), "{text}");
        let demo = sh(&format!(", user: {user}, input: file"), "cat $1; echo .");
        demo.submit("foo", "{\"n\":1}");
        let (code, text) = run(&demo);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("{\"n\":1}.\n"), "{text}");
        assert!(demo.dead_letters("foo").is_empty());
    }
}

#[test]
fn another_user_dies_with_the_master_and_can_be_killed() {
    if !is_root() {
        return;
    }
    // By that variable its processes are found.
    let demo = sh(", user: nobody, pass_env: [DEMO_FILE]", "echo begun; exec sleep 100000");
    demo.submit("foo", "{}");
    let mut master = demo.start_configured(&[]);
    master.expect("begun");
    master.signal(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(master.wait().0, -9);
    // The death signal, which a change of user clears, was set after it.
    demo.nobody_is_left();
    let run = demo.run(&["workers", "--halt-when-empty", "--set", "workers.foo={worker: kind, timeout: 300ms}"]);
    assert_eq!((run.code, &letter(&demo)["reason"]), (0, &json!("timeout")), "{}", run.stdout);
    demo.nobody_is_left();
}

#[test]
fn a_long_lived_kind_too() {
    let script = "import os, json, socket, resource\n\
        s = socket.socket(fileno=3)\n\
        say = lambda **frame: s.sendall(json.dumps(frame).encode() + b'\\n')\n\
        say(ready={'protocol': 1})\n\
        for line in s.makefile('rb'):\n\
        \x20   frame = json.loads(line)\n\
        \x20   if 'halt' in frame: say(bye={}); break\n\
        \x20   os.umask(mask := os.umask(0))\n\
        \x20   print('TERMS', oct(mask), os.nice(0), resource.getrlimit(resource.RLIMIT_NOFILE)[0], flush=True)\n\
        \x20   say(done={'id': frame['task']['id']})\n";
    let settings = "umask: 027, nice: 7, limits: { files: 99 }";
    let run = drained(&demo(&format!("command: [python3, -c, {}], {settings}", Value::from(script))));
    assert!(run.stdout.contains("TERMS 0o27 7 99\n"), "{}", run.stdout);
}

#[test]
fn too_much_processor_time_is_a_crash_that_says_so() {
    let demo = sh(", limits: { cpu: 1s }", "while :; do :; done");
    let run = drained(&demo);
    let letter = letter(&demo);
    assert_eq!((&letter["reason"], &letter["exit"]["signal"]), (&json!("crash"), &json!("SIGXCPU")), "{}", run.stdout);
    // Kernels count this in more than one way: only that it was not a moment.
    assert!(letter["cpu_seconds"].as_f64().is_some_and(|seconds| seconds > 0.2), "{letter}");
}

#[test]
fn too_much_memory_is_not_given() {
    let demo = demo("command: [python3, -c, \"x = bytearray(1 << 30)\"], mode: once, limits: { memory: 512MiB }");
    drained(&demo);
    let letter = letter(&demo);
    assert_eq!((&letter["reason"], &letter["error"]), (&json!("error"), &json!("MemoryError")), "{letter}");
}

#[test]
fn a_cleared_environment_holds_what_was_asked_for() {
    let demo = sh(", clear_env: true, pass_env: [PASSED, ABSENT], env: { GIVEN: given }", "env | sort");
    demo.submit("foo", "{}");
    let mut command = demo.command(&["workers", "--halt-when-empty"]);
    let output = command.env("PASSED", "passed").env("SECRET", "secret").output().expect("the demo starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(not_ours(&stdout), ["GIVEN", "PASSED", "PATH"], "{stdout}");
    assert!(stdout.contains("\nASYNCTASK_TASK_ID=") && stdout.contains("\nPASSED=passed\n"), "{stdout}");
}

/// Of the variables that a script printed the names of those that are neither ours nor the shell's own.
fn not_ours(stdout: &str) -> Vec<&str> {
    let is_name = |name: &&str| name.chars().all(|sign| sign.is_ascii_uppercase() || sign == '_');
    let names = stdout.lines().filter_map(|line| Some(line.split_once('=')?.0)).filter(is_name);
    let others = names.filter(|name| !name.starts_with("ASYNCTASK_") && *name != "PYTHONUNBUFFERED");
    others.filter(|name| !["PWD", "_", "OLDPWD", "SHLVL"].contains(name)).collect()
}

#[test]
fn another_users_program_does_not_get_the_masters_environment() {
    if !is_root() {
        return;
    }
    let printed = |settings: &str| {
        let demo = sh(&format!(", user: {settings}"), "env | sort");
        demo.submit("foo", "{}");
        let mut command = demo.command(&["workers", "--halt-when-empty"]);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("SECRET", "secret").env("LOG_LEVEL", "INFO");
        command.env("SHELL", "/bin/master").env("HOME", "/master").env("USER", "master").env("TZ", "Europe/Berlin");
        let output = command.env("LANG", "C.UTF-8").env("LC_TIME", "C").output().expect("the demo starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = printed("nobody, env: { GIVEN: given }");
    let names = ["GIVEN", "HOME", "LANG", "LC_TIME", "LOGNAME", "PATH", "TZ", "USER"];
    assert_eq!(not_ours(&text), names, "{text}");
    assert!(text.contains("\nUSER=nobody\n") && text.contains("\nTZ=Europe/Berlin\n"), "{text}");
    // The master's own user by its name is no exception; this one may log in.
    let text = printed("root");
    let names = ["HOME", "LANG", "LC_TIME", "LOGNAME", "PATH", "SHELL", "TZ", "USER"];
    assert_eq!(not_ours(&text), names, "{text}");
    let root = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(0)).expect("users").expect("root is everywhere");
    assert!(text.contains(&format!("\nSHELL={}\n", root.shell.display())), "{text}");
    // What is passed on instead; a number has no shell.
    let text = printed("65511, pass_env: [SECRET]");
    assert_eq!(not_ours(&text), ["HOME", "LOGNAME", "PATH", "SECRET", "USER"], "{text}");
    // As it was asked for.
    let text = printed("nobody, clear_env: false");
    for line in ["SECRET=secret", "LANG=C.UTF-8", "USER=nobody", "LOGNAME=nobody"] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
}

#[test]
fn a_kind_gains_no_privileges_unless_it_asks_for_it() {
    let said = |settings: &str| drained(&sh(settings, "grep NoNewPrivs /proc/self/status")).stdout;
    let text = said("");
    assert!(text.contains("NoNewPrivs:\t1\n"), "{text}");
    let text = said(", no_new_privs: false");
    assert!(text.contains("NoNewPrivs:\t0\n"), "{text}");
    // Long-lived ones too.
    let demo = demo("command: [sh, -c, 'grep NoNewPrivs /proc/self/status']");
    let text = demo.run(&["workers", "--halt-when-empty"]).stdout;
    assert!(text.contains("NoNewPrivs:\t1\n"), "{text}");
    if !is_root() {
        return;
    }
    // A program that runs as its owner: what sudo and su are.
    let said = |settings: &str| {
        let demo = sh(&format!(", user: nobody{settings}"), "echo may read: $(./cat secret)");
        let program = demo.folder.path().join("cat");
        std::fs::copy("/bin/cat", &program).expect("cat is there");
        for (path, mode) in [(demo.folder.path(), 0o755), (&program, 0o4755), (&demo.write("secret", "root's"), 0o600)]
        {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        }
        drained(&demo).stdout
    };
    let text = said(", no_new_privs: false");
    if text.contains("may read: root's\n") {
        let text = said("");
        assert!(text.contains("may read:\n"), "{text}");
    } else {
        crate::support::left_out("setuid programs have no effect in the folder for temporary files");
    }
}

#[test]
fn the_score_of_a_kind_for_the_out_of_memory_killer_is_its_own() {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").expect("Linux has it");
    let higher = own.trim().parse::<i32>().expect("a number").saturating_add(7).min(1000);
    let said = |settings: &str| drained(&sh(settings, "echo score $(cat /proc/self/oom_score_adj)")).stdout;
    let (text, plain) = (said(&format!(", oom_score_adj: {higher}")), said(""));
    assert!(text.contains(&format!("score {higher}\n")), "{text}");
    assert!(plain.contains(&format!("score {own}")), "{plain}");
    // With more files open than the program may have.
    let text = said(&format!(", oom_score_adj: {higher}, limits: {{ files: 8 }}"));
    assert!(text.contains(&format!("score {higher}\n")), "{text}");
    if is_root() {
        let text = said(&format!(", user: nobody, oom_score_adj: {higher}"));
        assert!(text.contains(&format!("score {higher}\n")), "{text}");
    }
    // A lower one is not everybody's: also not that of a root without the capability, as in a container.
    let demo = sh(", oom_score_adj: -1000", "echo never");
    demo.submit("foo", "1");
    let drop = "[ $(id -u) = 0 ] && set -- --bounding-set=-sys_resource \"$0\" \"$@\" || set -- \"$0\" \"$@\"";
    let script = format!("{drop}; exec setpriv \"$@\"");
    let program = crate::support::demo::demo_program().to_str().expect("a path of ours");
    let words = ["-c", &script, program, "workers", "--halt-when-empty"];
    let output = demo.command_of(std::path::Path::new("sh"), &words).output().expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let why =
        "oom_score_adj: -1000: Permission denied (os error 13); one below the master's own takes CAP_SYS_RESOURCE";
    assert!(output.status.code() == Some(1) && text.contains(why) && !text.contains("never"), "{text}");
    assert!(demo.dead_letters("foo").is_empty(), "{text}");
}

#[test]
fn a_payload_file_that_cannot_be_written_is_named() {
    let demo = sh(", input: file", "cat $1");
    demo.submit("foo", "1");
    let away = demo.folder.path().join("away");
    let mut command = demo.command(&["workers"]);
    command.env("TMPDIR", &away);
    let mut master = demo.follow(command);
    let line = master.expect("could not be started: ");
    let what = format!("cannot write the payload file in {} (input: file): No such file or directory", away.display());
    assert!(line.contains(&what), "{line}");
    master.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(master.wait().0, 0);
    assert!(demo.dead_letters("foo").is_empty(), "it was not begun");
}

#[test]
fn a_payload_in_a_file_is_the_last_argument_and_gone_afterwards() {
    let script = "echo file $1 $(stat -c %a \"$1\") $(cat \"$1\"); wc -c; echo $# arguments";
    let run = drained(&sh(", input: file", script));
    let line = run.stdout.lines().find(|line| line.starts_with("file ")).expect("the script says it");
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words[2..], ["600", r#"{"n":1}"#], "{line}");
    assert!(run.stdout.contains("\n0\n1 arguments\n"), "nothing on stdin: {}", run.stdout);
    assert!(!std::path::Path::new(words[1]).exists(), "{} is left", words[1]);
    if is_root() {
        let run = drained(&sh(", input: file, user: nobody", "echo $(stat -c %U \"$1\") has $(cat \"$1\")"));
        assert!(run.stdout.contains("nobody has {\"n\":1}\n"), "{}", run.stdout);
    }
}

#[test]
fn payload_files_of_a_killed_master_are_removed_by_the_next_and_others_stay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let users: &[&str] = if is_root() { &["", ", user: nobody, pass_env: [DEMO_FILE]"] } else { &[""] };
    for user in users {
        let place = if user.is_empty() { folder.path().to_owned() } else { std::path::PathBuf::from("/tmp") };
        let begun = |demo: &Demo| {
            let mut command = demo.command(&["workers"]);
            command.env("TMPDIR", folder.path());
            let mut master = demo.follow(command);
            let line = master.expect("begun ");
            let file = std::path::PathBuf::from(line.trim_start_matches("begun "));
            assert!(file.starts_with(&place) && file.exists(), "{line}");
            (master, file)
        };
        let demo = || {
            let demo = sh(&format!("{user}, input: file"), "echo begun $1; exec sleep 100000");
            demo.submit("foo", "1");
            demo
        };
        let (demo, other) = (demo(), demo());
        let (other_master, others) = begun(&other);
        let (master, left) = begun(&demo);
        master.signal(nix::sys::signal::Signal::SIGKILL);
        master.wait();
        demo.nobody_is_left();
        assert!(left.exists(), "nobody could have removed it");
        // Its task comes again, with a file of its own. Another test's master may be faster where the place is everybody's.
        let (master, new) = begun(&demo);
        crate::support::log::until("it is left", || !left.exists());
        if user.is_empty() {
            let log = master.log();
            let line = "INFO:AsyncTaskWorkerTask:1 payload file was removed that a killed master left\n";
            crate::support::log::until("nobody says so", || log.text().contains(line));
        }
        assert!(others.exists() && new.exists(), "of masters that live");
        for master in [master, other_master] {
            master.signal(nix::sys::signal::Signal::SIGQUIT);
            master.wait();
        }
        for file in [left, others, new] {
            let folder = file.parent().expect("it has a folder");
            assert!(!folder.exists() && folder != place, "{} is left", folder.display());
        }
    }
}

#[test]
fn another_user_may_remove_and_rename_its_payload() {
    if !is_root() {
        return;
    }
    for script in ["rm \"$1\"", "mv \"$1\" \"$1.done\"; test -s \"$1.done\"", "touch \"$1.lock\""] {
        let demo = sh(", user: nobody, input: file", &format!("set -e; {script}; echo in $(dirname \"$1\")"));
        let run = drained(&demo);
        assert!(demo.dead_letters("foo").is_empty(), "{}", run.stdout);
        let line = run.stdout.lines().find_map(|line| line.strip_prefix("in ")).expect("the script says it");
        assert!(!std::path::Path::new(line).exists(), "{line} is left");
    }
}

#[test]
fn mistakes_have_their_place() {
    let wrong = |settings: &str| {
        let demo = demo(&format!("command: [x], {settings}"));
        let run = demo.run(&["config", "check", "--json"]);
        assert_eq!(run.code, 78, "{settings}: {run:?}");
        let problems: Value = serde_json::from_str(&run.stdout).expect("an array");
        assert_eq!((problems.as_array().map(Vec::len), &problems[0]["line"]), (Some(1), &json!(3)), "{problems}");
        let text = |key: &str| problems[0][key].as_str().expect("text").to_owned();
        (text("path"), text("message"))
    };
    let said = |settings: &str, path: &str, message: &str| {
        assert_eq!(wrong(settings), (format!("kinds.kind.{path}"), message.to_owned()));
    };
    said("user: no-such-user", "user", "there is no user \"no-such-user\" on this system");
    said("user: 4294967295", "user", "there is no user 4294967295 on this system");
    said("group: [a]", "group", "expected a group's name or number, not a list");
    said("group: no-such-group", "group", "there is no group \"no-such-group\" on this system");
    said("umask: 9", "umask", "expected three or four octal digits such as 027, not 9");
    said("umask: \"1777\"", "umask", "expected three or four octal digits such as 027, not \"1777\"");
    said("nice: 20", "nice", "expected a whole number from -20 to 19, not 20");
    said("oom_score_adj: -1001", "oom_score_adj", "expected a whole number from -1000 to 1000, not -1001");
    said("oom_score_adj: low", "oom_score_adj", "expected a whole number from -1000 to 1000, not \"low\"");
    said("no_new_privs: 0", "no_new_privs", "expected true or false, not 0");
    said("limits: { memroy: 1 }", "limits.memroy", "unknown key");
    said("limits: { cpu: 0 }", "limits.cpu", "expected a duration of more than 0, not 0");
    said("pass_env: [A]", "pass_env", "all variables are passed on");
    said(
        "clear_env: true, pass_env: [A=b]",
        "pass_env[0]",
        "expected the name of an environment variable, not \"A=b\"",
    );
    said("input: file", "input", "is for kinds with mode: once; others get their payloads in frames");
    said("mode: once, input: fd", "input", "expected stdin or file, not \"fd\"");
}

#[test]
fn the_terms_are_shown() {
    let demo = demo("command: [x], mode: once, input: file, umask: 0o027, limits: { memory: 1KiB, cpu: 1m }");
    let kind = &demo.json(&["config", "show", "--json"])["kinds"]["kind"];
    assert_eq!((&kind["umask"], &kind["input"], &kind["user"]), (&json!("027"), &json!("file"), &Value::Null));
    assert_eq!(kind["limits"], json!({ "memory": 1024, "cpu": 60, "files": null }));
    assert_eq!((&kind["clear_env"], &kind["pass_env"]), (&json!(false), &Value::Null));
    assert_eq!((&kind["no_new_privs"], &kind["oom_score_adj"]), (&json!(true), &Value::Null));
    let demo = self::demo("command: [x], user: root, no_new_privs: false, oom_score_adj: -5");
    let kind = &demo.json(&["config", "show", "--json"])["kinds"]["kind"];
    assert_eq!((&kind["no_new_privs"], &kind["oom_score_adj"]), (&json!(false), &json!(-5)));
    assert_eq!((&kind["clear_env"], &kind["pass_env"][0]), (&json!(true), &json!("LANG")), "{kind}");
    // What is shown means the same when it is read.
    let shown = demo.run(&["config", "show"]).stdout;
    demo.write("asynctask.yaml", &shown);
    assert_eq!(&demo.json(&["config", "show", "--json"])["kinds"]["kind"], kind);
}

/// The demo's command after these of a shell.
fn after(shell: &str, demo: &Demo, arguments: &[&str]) -> (Option<i32>, String) {
    let script = format!("{shell}; exec \"$0\" \"$@\"");
    let program = crate::support::demo::demo_program().to_str().expect("a path of ours");
    let words: Vec<&str> = ["-c", &script, program].into_iter().chain(arguments.iter().copied()).collect();
    let output = demo.command_of(std::path::Path::new("sh"), &words).output().expect("sh runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn more_workers_than_the_soft_limit_of_files_work_and_have_that_limit() {
    let demo = demo("command: [sh, -c, 'ulimit -S -n'], mode: once");
    demo.submit("foo", "1");
    demo.submit_all("many", (0..40).map(|n| format!("{{\"n\":{n}}}")));
    let many = ["--set", "workers.many={worker: demo_file_worker, processes: 30}"];
    let (code, text) = after("ulimit -S -n 50", &demo, &[&["workers", "--halt-when-empty"], &many[..]].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\n50\n") && !text.contains("could not"), "{text}");
    assert_eq!(demo.done().len(), 40, "{text}");
}

#[test]
fn a_limit_of_file_size_is_an_error_and_no_death_and_workers_have_its_signal() {
    let demo = demo("command: [grep, SigIgn, /proc/self/status], mode: once");
    demo.submit("foo", "1");
    let (code, text) = after("ulimit -f 20000", &demo, &["workers", "--halt-when-empty"]);
    assert_eq!(code, Some(0), "{text}");
    let ignored = text.split("SigIgn:").nth(1).expect("of the worker").split_whitespace().next().expect("a number");
    let ignored = u64::from_str_radix(ignored, 16).expect("hexadecimal");
    assert_eq!(ignored & (1 << (libc::SIGXFSZ - 1)), 0, "{text}");
    // 200 blocks of 512 bytes; the file of the queue is larger soon.
    let payload = format!("{{\"pad\":\"{}\"}}", "x".repeat(100_000));
    let (code, text) = after("ulimit -f 200", &demo, &["submit", "foo", &payload]);
    assert_eq!(code, Some(69), "{text}");
    assert!(text.starts_with("error: ") && text.contains("tasks.db: "), "{text}");
}
