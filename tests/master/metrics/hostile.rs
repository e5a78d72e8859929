//! Clients with bad manners. Whatever they do, tasks are done and an honest client is answered.

use std::{io::Write, net::TcpStream};

use super::{Demo, Site, ends, started};
use crate::support::{
    Place,
    http::{SOON, read},
    log::{Master, Stopwatch, until},
};

struct Party {
    demo: Demo,
    master: Master,
    site: Site,
}

impl Party {
    fn new() -> Self {
        let demo = Demo::new(&Place::sqlite());
        let (master, site) = started(&demo, "{ foo: { worker: demo_sleep_worker, processes: 2 } }");
        Self { demo, master, site }
    }

    /// The master goes on as if nobody were there.
    fn goes_on(self) {
        let Self { demo, master, site } = self;
        demo.submit_all("foo", (0..50).map(|number| format!(r#"{{"n":{number}}}"#)));
        until("the tasks are not done", || demo.done().len() == 50);
        let watch = Stopwatch::start();
        assert_eq!(site.get("/livez").status, 200);
        assert!(watch.elapsed() < SOON, "an answer took {:?}", watch.elapsed());
        until("the tasks are not counted", || {
            site.numbers()[r#"asynctask_tasks_total{queue="foo",outcome="done"}"#] == 50.0
        });
        ends(&demo, master);
    }
}

#[test]
fn a_hundred_who_say_nothing_and_a_hundred_who_say_half() {
    let party = Party::new();
    let silent: Vec<TcpStream> = (0..100).map(|_| party.site.connect()).collect();
    let slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut client = party.site.connect();
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-").expect("it takes that");
            client
        })
        .collect();
    party.goes_on();
    drop((silent, slow));
}

#[test]
fn a_head_of_ten_megabytes() {
    let party = Party::new();
    let line = vec![b'a'; 1 << 20];
    for _ in 0..4 {
        let mut client = party.site.connect();
        client.write_all(b"GET /metrics HTTP/1.1\r\nX-Long: ").expect("it takes that");
        // It is not listened to until the end.
        let written = (0..10).try_for_each(|_| client.write_all(&line));
        assert!(written.is_err(), "ten megabytes were taken as one head");
    }
    let many = (0..1000).fold(String::new(), |text, number| text + &format!("X-{number}: 1\r\n"));
    let answer = party.site.say(format!("GET /metrics HTTP/1.1\r\n{many}\r\n").as_bytes());
    assert!(answer.is_none_or(|answer| answer.status == 431), "a thousand headers were taken");
    party.goes_on();
}

#[test]
fn what_is_no_request() {
    let party = Party::new();
    let nonsense: [&[u8]; 5] = [
        b"\0\xff\n\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0x16, 3, 1, 2, 0, 1],
    ];
    for text in nonsense {
        let answer = party.site.say_and_close(text);
        assert!(answer.as_ref().is_none_or(|answer| answer.status >= 400), "{answer:?}");
    }
    for method in ["PUT", "DELETE", "CONNECT", "TRACE", "BREW"] {
        let answer = party.site.say(format!("{method} /metrics HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        assert!(
            answer.as_ref().is_none_or(|answer| answer.status == 405 || answer.status == 404),
            "{method}: {answer:?}"
        );
    }
    party.goes_on();
}

#[test]
fn one_who_has_said_all_is_answered_and_one_who_does_not_read_is_not_waited_for() {
    let party = Party::new();
    let answer = party.site.say_and_close(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("an answer");
    assert_eq!((answer.status, answer.body.as_str()), (200, "alive\n"));
    // The next request of a pipeline is not answered: one a connection.
    let two = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = party.site.say(two).expect("an answer");
    assert_eq!((answer.status, answer.body.matches("HTTP/1.1").count()), (200, 0), "{}", answer.body);
    let deaf: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut client = party.site.connect();
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it takes that");
            client
        })
        .collect();
    party.goes_on();
    drop(deaf);
}

#[test]
fn one_who_begins_and_stays_is_sent_away() {
    let party = Party::new();
    let mut slow = party.site.connect();
    slow.set_read_timeout(Some(SOON * 4)).expect("a socket");
    slow.write_all(b"GET /metrics HTTP/1.1\r\n").expect("it takes that");
    let watch = Stopwatch::start();
    assert!(read(&mut slow).is_none(), "half a request has an answer");
    assert!(watch.elapsed() < SOON * 3, "it was waited for {:?}", watch.elapsed());
    party.goes_on();
}
