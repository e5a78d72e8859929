//! Clients with bad manners. Whatever they do, tasks are done and an honest client is answered.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use super::{Demo, Place, ends_with, started, status, told};
use crate::support::log::{Stopwatch, until};

/// An honest client is answered within that, on a busy machine.
const SOON: Duration = Duration::from_secs(8);

struct Party {
    demo: Demo,
    master: super::Master,
}

impl Party {
    fn new() -> Self {
        let demo = Demo::new(&Place::sqlite());
        let master = started(&demo, "workers: { foo: { worker: demo_sleep_worker, processes: 2 } }\n");
        Self { demo, master }
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.demo.folder.path().join("asynctask.sock")).expect("it listens")
    }

    /// The master goes on as if nobody were there.
    fn goes_on(self) {
        let Self { demo, master } = self;
        demo.submit_all("foo", super::payloads(50, 1));
        until("the tasks are not done", || demo.done().len() == 50);
        let watch = Stopwatch::start();
        assert_eq!(status(&demo)["queues"]["foo"]["done"], 50);
        assert!(watch.elapsed() < SOON, "an answer took {:?}", watch.elapsed());
        super::each_once(&demo, 50);
        told(&demo, &["stop"]);
        ends_with(master, 0);
    }
}

#[test]
fn a_hundred_who_say_nothing() {
    let party = Party::new();
    let silent: Vec<UnixStream> = (0..100).map(|_| party.connect()).collect();
    party.goes_on();
    drop(silent);
}

#[test]
fn half_a_request() {
    let party = Party::new();
    let half: Vec<UnixStream> = (0..40)
        .map(|_| {
            let mut client = party.connect();
            client.write_all(br#"{"command":"sta"#).expect("it takes that");
            client
        })
        .collect();
    party.goes_on();
    drop(half);
}

#[test]
fn ten_megabytes_of_garbage() {
    let party = Party::new();
    let garbage = vec![0xA5; 1 << 20];
    for _ in 0..4 {
        let mut client = party.connect();
        client.set_write_timeout(Some(SOON)).expect("a socket");
        // It is not listened to until the end.
        let written = (0..10).try_for_each(|_| client.write_all(&garbage));
        assert!(written.is_err(), "ten megabytes were taken as one command");
    }
    party.goes_on();
}

#[test]
fn lines_of_garbage_are_refused_one_by_one() {
    let party = Party::new();
    let mut client = party.connect();
    client.write_all(b"\0\xff\n{}\n[1]\n{\"command\":\"explode\"}\n").expect("it takes that");
    client.shutdown(std::net::Shutdown::Write).expect("a socket");
    let mut answers = String::new();
    client.read_to_string(&mut answers).expect("text");
    assert_eq!(answers.lines().count(), 4, "{answers}");
    assert!(answers.lines().all(|line| line.starts_with(r#"{"refused":{"message":"not a command"#)), "{answers}");
    party.goes_on();
}

#[test]
fn commands_without_end_and_answers_unread() {
    let party = Party::new();
    let clients: Vec<UnixStream> = (0..100)
        .map(|_| {
            let mut client = party.connect();
            client.set_nonblocking(true).expect("a socket");
            // Until it takes no more.
            while client.write(b"{\"command\":\"status\"}\n{\"command\":\"health\"}\n").is_ok() {}
            client
        })
        .collect();
    party.goes_on();
    drop(clients);
}
