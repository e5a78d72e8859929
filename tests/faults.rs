//! What goes wrong, done to the real program on a real RabbitMQ and a real file, and what may come of it: nothing is
//! lost, and what is done twice is done twice because of a kill that left no choice.

mod support;

#[path = "faults/alarm.rs"]
mod alarm;
#[path = "faults/crash.rs"]
mod crash;
#[path = "faults/cut.rs"]
mod cut;
#[path = "faults/file.rs"]
mod file;
#[path = "faults/hostile.rs"]
mod hostile;
#[path = "faults/limits.rs"]
mod limits;
#[path = "faults/storm.rs"]
mod storm;

use std::{collections::BTreeMap, time::Duration};

use support::{
    Demo, Place,
    log::{Log, Master, Stopwatch, until},
};

/// On every transport, both at once.
fn on_each(session: impl Fn(&Demo) + Sync) {
    let session = &session;
    std::thread::scope(|scope| {
        for place in Place::all() {
            scope.spawn(move || session(&Demo::new(&place)));
        }
    });
}

/// How often each payload `{"n":…}` was done.
fn times_done(demo: &Demo) -> BTreeMap<u64, u32> {
    let mut times = BTreeMap::new();
    for number in numbers_done(demo) {
        *times.entry(number).or_default() += 1;
    }
    times
}

/// The numbers of the payloads that were done, in order.
fn numbers_done(demo: &Demo) -> Vec<u64> {
    let number = |line: String| {
        let payload: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not ours: {line}"));
        payload["n"].as_u64().unwrap_or_else(|| panic!("without a number: {line}"))
    };
    demo.done().into_iter().map(number).collect()
}

/// Holds if these numbers were done, each once.
fn once_each(demo: &Demo, numbers: impl IntoIterator<Item = u64>) {
    let wanted: BTreeMap<u64, u32> = numbers.into_iter().map(|number| (number, 1)).collect();
    let done = times_done(demo);
    let wrong: Vec<_> = wanted.keys().chain(done.keys()).filter(|n| done.get(n) != wanted.get(n)).take(10).collect();
    assert!(wrong.is_empty(), "not done once each, or not to be done: {wrong:?} of {} done", done.len());
}

/// Waits until the log has this text at least so often, in whatever order its lines come.
fn told(log: &Log, text: &str, times: usize) {
    until(&format!("\"{text}\" was not told {times} times"), || log.text().matches(text).count() >= times);
}

/// An orderly end within `limit`; its exit code.
fn stopped(master: Master, limit: Duration) -> i32 {
    let watch = Stopwatch::start();
    master.signal(nix::sys::signal::Signal::SIGTERM);
    let (code, _) = master.wait();
    let took = watch.elapsed();
    assert!(took <= limit, "the end took {took:?}, at most {limit:?} were allowed");
    code
}

/// The virtual host of an address.
fn vhost(demo: &Demo) -> &str {
    demo.uri.rsplit('/').next().expect("an address has one")
}

/// Chance with a memory (xorshift64*): the same seed throws the same numbers.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % limit
    }
}

/// Lets time pass, where the time itself is what is done to the program: the pace of a storm, a random moment. What
/// is waited for is waited for by [`until`] and [`Master::expect`].
fn pass(time: Duration) {
    let (_sender, nothing) = std::sync::mpsc::channel::<()>();
    let _ = nothing.recv_timeout(time);
}
