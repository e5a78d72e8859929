//! The `asynctask` command: worker kinds that are programs, and the built-in one.

use std::process::ExitCode;

fn main() -> ExitCode {
    asynctask::App::new("asynctask").run()
}
