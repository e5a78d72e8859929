//! All of it in one command, with nothing installed: tasks go into a queue in a temporary file, worker processes do
//! them, one is tried again, one kills its worker, and the dead letter says what happened.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```

use std::{error::Error, ffi::OsString, process::ExitCode};

use asynctask::{App, Context, Outcome, client::blocking::Client};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
struct Resize {
    file: String,
    width: u32,
}

/// A worker kind is a function of a payload. This one does three different things, by the file's name.
#[expect(clippy::needless_pass_by_value, reason = "the shape of a worker's function")]
fn resize(request: Resize, context: &Context) -> asynctask::TaskResult {
    match request.file.as_str() {
        "flaky.png" if context.attempt() == 1 => Err("the disk was busy".into()),
        "bomb.png" => {
            println!("decoding {} …", request.file);
            // What a bug in a C library does: the process is gone, and cannot say so.
            std::process::abort()
        }
        file => {
            println!("resized {file} to {} pixels, attempt {}", request.width, context.attempt());
            Ok(Outcome::Done)
        }
    }
}

fn app() -> App {
    App::new("quickstart").worker_fn("resize", resize)
}

fn main() -> ExitCode {
    // With arguments this is a program with worker kinds like any other; the master starts its workers through it.
    if std::env::args_os().len() > 1 {
        return app().run();
    }
    match tour() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tour() -> Result<ExitCode, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let transport = format!("sqlite:{}", folder.path().join("quickstart.db").display());

    say("1. Three tasks go into the queue \"images\".");
    let client = Client::open(&transport)?;
    for file in ["cat.png", "flaky.png", "bomb.png"] {
        let id = client.submit("images", &Resize { file: file.to_owned(), width: 640 })?;
        println!("   {file} is task {id}");
    }
    drop(client);

    say("2. A master starts two worker processes and halts when nothing is left to do. Two attempts a task.");
    println!("   $ quickstart workers --halt-when-empty");
    let workers = "workers={images: {worker: resize, processes: 2, retry: {max_attempts: 2, first: 500ms}}}";
    let code = command(&transport, &["workers", "--halt-when-empty", "--set", workers]);
    println!("   (exit code 0: everything is done or accounted for)");

    say("3. bomb.png killed its worker twice. It is not lost, and not tried for ever: it is a dead letter.");
    println!("   $ quickstart failed list images");
    command(&transport, &["failed", "list", "images"]);

    say("4. The queue itself is empty.");
    println!("   $ quickstart queues");
    command(&transport, &["queues", "--set", workers]);
    Ok(code)
}

/// Runs a command of this very program.
fn command(transport: &str, arguments: &[&str]) -> ExitCode {
    let set = format!("transport={transport}");
    let all = ["quickstart"].iter().chain(arguments).copied().chain(["--set", &set]);
    app().run_with(all.map(OsString::from))
}

fn say(text: &str) {
    println!("\n{text}");
}
