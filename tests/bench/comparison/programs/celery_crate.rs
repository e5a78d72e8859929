//! The `celery` crate as a worker, and as a producer that fills the queue: `celery-crate work`, `celery-crate fill COUNT BYTES`.
//! `tools.py` builds it outside of this project, which does not depend on that crate.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use celery::{Celery, CeleryBuilder, error::CeleryError, task::TaskResult};

static BEGAN: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

#[celery::task(name = "noop")]
fn noop(_payload: String) -> TaskResult<()> {
    let now = nanoseconds();
    BEGAN.fetch_min(now, Relaxed);
    ENDED.fetch_max(now, Relaxed);
    COUNT.fetch_add(1, Relaxed);
    Ok(())
}

/// The machine's monotonic clock, which the other contestants read, too.
fn nanoseconds() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set"))
}

/// Writes the record again and again, since this worker does not end by itself.
fn keep_record() {
    let path = format!("{}/{}.record", variable("ASYNCTASK_BENCH_RECORDS"), std::process::id());
    loop {
        // The count first: a task that ends meanwhile is in the moments and not yet in the count.
        let count = COUNT.load(Relaxed);
        let numbers = [BEGAN.load(Relaxed), ENDED.load(Relaxed), count];
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_ne_bytes).collect();
        std::fs::write(&path, bytes).expect("the record is written");
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn app() -> Result<Celery, CeleryError> {
    let builder = CeleryBuilder::new("compare", &variable("COMPARE_BROKER")).default_queue(&variable("COMPARE_QUEUE"));
    let app = builder.prefetch_count(64).acks_late(true).build().await?;
    app.register_task::<noop>().await?;
    Ok(app)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), CeleryError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["work"] => {
            BEGAN.store(u64::MAX, Relaxed);
            std::thread::spawn(keep_record);
            std::sync::Arc::new(app().await?).consume().await
        }
        ["fill", count, bytes] => {
            let (count, bytes): (usize, usize) = (count.parse().expect("a number"), bytes.parse().expect("a number"));
            let app = app().await?;
            let payload = "x".repeat(bytes - 2);
            for _ in 0..count {
                app.send_task(noop::new(payload.clone())).await?;
            }
            app.close().await
        }
        _ => panic!("celery-crate work|fill COUNT BYTES, not {words:?}"),
    }
}
