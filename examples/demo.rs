//! The demonstration kinds, one for each thing that can happen to a task.
//!
//! ```text
//! cargo run --example demo -- workers --set 'workers={foo: demo_foo_worker}'
//! ```

use std::{collections::BTreeMap, env, error::Error, fs::OpenOptions, io::Write, process::ExitCode, time::Duration};

use asynctask::{App, Context, Level, Outcome, Worker};
use nix::sys::signal::{Signal, raise};
use serde_json::{json, value::RawValue};

fn main() -> ExitCode {
    App::new("demo")
        .worker("demo_foo_worker", || Ok(FooWorker))
        .worker("demo_bar_worker", || Ok(BarWorker))
        .worker("demo_baz_worker", || Ok(BazWorker))
        .worker("demo_logging_worker", || Ok(LoggingWorker))
        .worker("demo_quiet_worker", || Ok(QuietWorker))
        .worker("demo_error_worker", || Ok(ErrorWorker))
        .worker("demo_fragile_worker", || Ok(FragileWorker))
        .worker("requeue_worker", || Ok(RequeueWorker))
        .worker("demo_file_worker", || Ok(FileWorker))
        .worker("demo_sleep_worker", || Ok(SleepWorker))
        .run()
}

/// Any JSON value, as its own text.
type Json = Box<RawValue>;

struct FooWorker;
impl Worker for FooWorker {
    type Payload = Json;

    fn process(&mut self, payload: Json, _: &Context) -> asynctask::TaskResult {
        println!("FOO processed: {}", compact(&payload));
        Ok(Outcome::Done)
    }
}

struct BarWorker;
impl Worker for BarWorker {
    type Payload = Json;

    fn process(&mut self, payload: Json, _: &Context) -> asynctask::TaskResult {
        println!("BAR processed: {}", compact(&payload));
        Ok(Outcome::Done)
    }
}

struct BazWorker;
impl Worker for BazWorker {
    type Payload = Json;

    fn process(&mut self, payload: Json, _: &Context) -> asynctask::TaskResult {
        println!("BAZ processed: {}", compact(&payload));
        Ok(Outcome::Done)
    }
}

/// Writes to the log.
struct LoggingWorker;
impl Worker for LoggingWorker {
    type Payload = Json;

    fn process(&mut self, payload: Json, context: &Context) -> asynctask::TaskResult {
        context.log(Level::Info, &format_args!("Logging Worker received: {}", compact(&payload)));
        Ok(Outcome::Done)
    }
}

/// Does nothing.
struct QuietWorker;
impl Worker for QuietWorker {
    type Payload = Json;

    fn process(&mut self, _: Json, _: &Context) -> asynctask::TaskResult {
        Ok(Outcome::Done)
    }
}

/// Fails if asked to.
struct ErrorWorker;
impl Worker for ErrorWorker {
    type Payload = Json;

    fn process(&mut self, payload: Json, _: &Context) -> asynctask::TaskResult {
        if Fields::of(&payload).is_set("error") {
            return Err("Oops!".into());
        }
        println!("ERROR processed: {}", compact(&payload));
        Ok(Outcome::Done)
    }
}

/// Dies if asked to, in the way that is hardest to notice.
struct FragileWorker;
impl Worker for FragileWorker {
    type Payload = Json;

    fn process(&mut self, payload: Json, _: &Context) -> asynctask::TaskResult {
        if Fields::of(&payload).is_set("die") {
            println!("FRAGILE DYING!");
            exit();
        }
        println!("FRAGILE processed: {}", compact(&payload));
        Ok(Outcome::Done)
    }
}

/// Puts a second task into its own queue.
struct RequeueWorker;
impl Worker for RequeueWorker {
    type Payload = Json;

    fn process(&mut self, payload: Json, context: &Context) -> asynctask::TaskResult {
        println!("REQUEUE processed: {}", compact(&payload));
        if Fields::of(&payload).number("foo") == Some(1.0) {
            context.requeue(&json!({"foo": 2}))?;
            println!("REQUEUE requeued");
        }
        Ok(Outcome::Done)
    }
}

/// Leaves a trace of what was really done.
struct FileWorker;
impl Worker for FileWorker {
    type Payload = Json;

    fn process(&mut self, payload: Json, _: &Context) -> asynctask::TaskResult {
        append(&payload)?;
        Ok(Outcome::Done)
    }
}

/// Takes its time, and ends as asked.
struct SleepWorker;
impl Worker for SleepWorker {
    type Payload = Json;

    fn process(&mut self, payload: Json, context: &Context) -> asynctask::TaskResult {
        let fields = Fields::of(&payload);
        sleep(Duration::from_secs_f64(fields.number("sleep_ms").unwrap_or(0.0).clamp(0.0, 1e9) / 1000.0));
        match fields.text("then").as_deref().unwrap_or("ok") {
            "ok" => {
                append(&payload)?;
                Ok(Outcome::Done)
            }
            "error" => Err("Oops!".into()),
            "retry_once" if context.attempt() > 1 => Ok(Outcome::Done),
            "retry" | "retry_once" => Ok(Outcome::Retry { after: Duration::from_millis(100) }),
            "dead" => Ok(Outcome::Dead("asked to".to_owned())),
            "panic" => panic!("asked to"),
            "exit" => exit(),
            "abort" => {
                println!("SLEEP DYING!");
                std::process::abort()
            }
            "segfault" => {
                println!("SLEEP DYING!");
                // The first is taken by the runtime's watch for stack overflows, which then steps aside.
                raise(Signal::SIGSEGV)?;
                raise(Signal::SIGSEGV)?;
                Err("survived two SIGSEGV".into())
            }
            "hang" => loop {
                std::thread::park();
            },
            other => Err(format!("\"then\" is \"{other}\", which is unknown").into()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "what is shown here is a task that ends its process")]
fn exit() -> ! {
    std::process::exit(0)
}

#[expect(clippy::disallowed_methods, reason = "what is shown here is a task that takes its time")]
fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Appends the payload to the file that the environment names: one line, one write, whole even among others.
fn append(payload: &RawValue) -> Result<(), Box<dyn Error + Send + Sync>> {
    let path = env::var_os("DEMO_FILE").ok_or("DEMO_FILE is not set")?;
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all((compact(payload) + "\n").as_bytes())?;
    Ok(())
}

/// The value's own text without the white space between its tokens. No number or key is spelled anew.
fn compact(value: &RawValue) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |next: &char| {
        if in_string {
            in_string = escaped || *next != '"';
            escaped = *next == '\\' && !escaped;
            return true;
        }
        in_string = *next == '"';
        !next.is_ascii_whitespace()
    };
    value.get().chars().filter(keep).collect()
}

/// The fields of a payload that is an object; any other has none.
struct Fields(BTreeMap<String, Json>);

impl Fields {
    fn of(payload: &RawValue) -> Self {
        Self(serde_json::from_str(payload.get()).unwrap_or_default())
    }

    fn is_set(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !matches!(value.get(), "false" | "null" | "0" | "\"\"" | "[]" | "{}"))
    }

    fn number(&self, name: &str) -> Option<f64> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }
}
