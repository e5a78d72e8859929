//! Each folder of `examples/` is a complete small project: it is copied, given a task, and worked until it is empty.

use std::process::Command;

use super::{has, repository};
use crate::support::{Demo, Place, demo::Ran, in_order};

/// A copy of an example's folder.
fn project(name: &str) -> Demo {
    let demo = Demo::new(&Place::sqlite());
    for entry in std::fs::read_dir(repository("examples").join(name)).expect("the example").flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), demo.folder.path().join(entry.file_name())).expect("a copy");
        }
    }
    demo
}

fn work(demo: &Demo) -> Ran {
    let run = demo.run(&["workers", "--halt-when-empty"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    run
}

#[test]
fn python() {
    let demo = project("python");
    demo.submit("thumbnails", r#"{"file": "sample.ppm", "width": 8}"#);
    demo.submit("thumbnails", r#"{"file": "nothing.ppm"}"#);
    demo.submit("thumbnails", "null");
    let run = work(&demo);
    in_order(&run, &["sample.ppm is now sample.thumb.ppm", "DEBUG:thumbnail:Processing complete"]);
    in_order(&run, &["INFO:announce:sample.thumb.ppm is there", "DEBUG:announce:Processing complete"]);
    let small = std::fs::read(demo.folder.path().join("sample.thumb.ppm")).expect("the thumbnail");
    assert!(small.starts_with(b"P6\n8 4\n255\n") && small.len() == 11 + 8 * 4 * 3, "{}", small.len());
    let letters = demo.dead_letters("thumbnails");
    assert_eq!(letters.len(), 2, "{letters:?}");
    assert_eq!((&letters[0]["reason"], &letters[0]["error"]), (&"failed".into(), &"nothing.ppm: no such file".into()));
    assert_eq!(letters[1]["reason"], "malformed");
}

#[test]
fn the_python_modules_own_tests() {
    let mut tests = Command::new("python3");
    tests.args(["-m", "unittest"]).current_dir(repository("examples/python")).env("PYTHONDONTWRITEBYTECODE", "1");
    let run = tests.output().expect("python3");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn node() {
    if !has("node") {
        return;
    }
    let demo = project("node");
    demo.submit("words", r#"{"text": "to be or not to be"}"#);
    demo.submit("words", "{}");
    let run = work(&demo);
    in_order(&run, &["6 words, 4 different ones", "DEBUG:WordCounter:Processing complete"]);
    let letters = demo.dead_letters("words");
    assert_eq!((letters.len(), &letters[0]["reason"]), (1, &"failed".into()), "{letters:?}");
    assert!(run.stdout.contains("INFO:WordCounter:Terminating"), "{}", run.stdout);
}

#[test]
fn shell() {
    let demo = project("shell");
    let id = demo.submit("checksums", r#"{"n":1}"#);
    let run = work(&demo);
    // sha256 of the payload as it came.
    let sum = "2bfd14f43d17fc7cea24e0917a8879b4b2f880b8baeec1b9d90fbaad655e71bd";
    let text = std::fs::read_to_string(demo.folder.path().join("checksums.txt")).expect("the sums");
    assert_eq!(text, format!("{sum} {id}\n"));
    in_order(&run, &["DEBUG:checksum:Processing complete"]);
    assert!(!demo.files().iter().any(|file| file.starts_with("checksum.") && file.as_str() != "checksum.sh"));
}
