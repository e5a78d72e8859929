//! `asynctask workers` under the name that people who come from elsewhere type.

use std::{env, process::ExitCode};

use asynctask::{App, WORKER};

fn main() -> ExitCode {
    let mut arguments: Vec<_> = env::args_os().collect();
    // The master starts its workers from its own binary, which may be this one.
    if arguments.get(1).is_none_or(|first| first != WORKER) {
        arguments.insert(arguments.len().min(1), "workers".into());
    }
    App::new("asynctask").run_with(arguments)
}
