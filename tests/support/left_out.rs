//! What cannot be run on this machine.
#![allow(unreachable_pub)]

/// Says that a test, or a part of one, cannot be run here, and why. What a passed test says is not shown: with
/// `ASYNCTASK_LEFT_OUT=FILE` it is appended to that file, too, and with `ASYNCTASK_REQUIRE_ALL=1` it is a failure.
pub fn left_out(why: &str) {
    assert!(
        std::env::var_os("ASYNCTASK_REQUIRE_ALL").is_none(),
        "everything is required, and this cannot be run: {why}"
    );
    println!("left out: {why}");
    if let Some(file) = std::env::var_os("ASYNCTASK_LEFT_OUT") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(file);
        let line = format!("{why}\n");
        std::io::Write::write_all(&mut file.expect("the list of what is left out"), line.as_bytes()).expect("a line");
    }
}
