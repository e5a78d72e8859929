//! Clients that are slow, many, or never leave: each is let go in its time, and nobody else waits for them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use super::Page;
use crate::support::{
    Demo, Place,
    http::{Answer, Site, read},
    log::{Stopwatch, until},
};

const SETTINGS: &str = "workers: { foo: demo_sleep_worker }\n";
/// More than are served at once.
const CROWD: usize = 600;
/// Longer than any client may keep a connection without a request.
const LONG: Duration = Duration::from_secs(40);
/// An answer that comes by itself.
const AT_ONCE: Duration = Duration::from_secs(3);

fn demo() -> Demo {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", SETTINGS);
    demo
}

/// What a client hears that says this and then nothing, until it is let go; and how long it was kept.
fn kept(site: Site, text: &str) -> (Option<Answer>, Duration) {
    let watch = Stopwatch::start();
    let mut stream = site.connect();
    stream.set_read_timeout(Some(LONG)).expect("a socket");
    stream.write_all(text.as_bytes()).expect("it takes that");
    (read(&mut stream), watch.elapsed())
}

#[test]
fn who_says_too_little_is_let_go_in_time() {
    let demo = demo();
    let page = Page::open(&demo);
    let (host, cookie) = (page.site.0, page.cookie.clone().expect("a session"));
    let begun = format!("GET / HTTP/1.1\r\nHost: {host}\r\n");
    let whole = format!("{begun}Cookie: {cookie}\r\n\r\n");
    let half = format!(
        "POST /leave HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nCookie: {cookie}\r\nContent-Length: 100\r\n\r\nname="
    );
    thread::scope(|scope| {
        for (text, status) in [("", None), (&begun, None), (&whole, Some(200)), (&half, Some(303))] {
            let site = page.site;
            scope.spawn(move || {
                let (answer, time) = kept(site, text);
                assert_eq!(answer.map(|answer| answer.status), status, "{text:?}");
                assert!(time < LONG, "{text:?} was kept for {time:?}");
            });
        }
        let watch = Stopwatch::start();
        assert_eq!(page.get("/schedules").status, 200);
        assert!(watch.elapsed() < AT_ONCE, "others wait: {:?}", watch.elapsed());
    });
    page.end();
}

#[test]
fn a_body_that_does_not_come_ends_its_request() {
    let demo = demo();
    let hash = demo.feed(&["dashboard", "password"], "secret\n").stdout;
    demo.write(
        "asynctask.yaml",
        &format!("{SETTINGS}dashboard: {{ users: {{ anna: {{ password: \"{}\", role: look }} }} }}\n", hash.trim()),
    );
    let page = Page::start(&demo, &[]);
    let host = page.site.0;
    let form = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nname=anna&pass";
    let (answer, time) =
        kept(page.site, &format!("POST /enter HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n{form}"));
    assert_eq!(answer.map(|answer| answer.status), Some(408));
    assert!(time < LONG, "it was kept for {time:?}");
    page.end();
}

#[test]
fn a_crowd_that_asks_for_nothing_keeps_nobody_out() {
    let demo = demo();
    let page = Page::open(&demo);
    let mut crowd: Vec<TcpStream> = (0..CROWD).map(|_| page.site.connect()).collect();
    for client in &mut crowd {
        // Some are gone before they have said it.
        let _ = client.write_all(b"GET / HT");
    }
    let watch = Stopwatch::start();
    assert_eq!(page.get("/").status, 200);
    assert!(watch.elapsed() < AT_ONCE, "an honest client waits: {:?}", watch.elapsed());
    let first = &mut crowd[0];
    first.set_read_timeout(Some(AT_ONCE)).expect("a socket");
    let gone = first.read(&mut [0; 64]);
    assert!(!matches!(&gone, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "all are kept: {gone:?}");
    page.end();
}

#[test]
fn streams_are_bounded_and_a_place_that_is_left_is_free() {
    let demo = demo();
    let _master = demo.start_configured(&[]);
    let page = Page::open(&demo);
    until("no health", || page.html("/").contains("All is well"));
    let open = || {
        let mut stream = page.site.connect();
        let head = format!("GET /stream?view=%2F HTTP/1.1\r\nHost: {}\r\n{}\r\n", page.site.0, page.head());
        stream.write_all(head.as_bytes()).expect("it takes that");
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).expect("an answer");
        (String::from_utf8_lossy(&begin[9..]).into_owned(), stream)
    };
    let mut streams: Vec<_> = (0..32).map(|_| open()).collect();
    assert!(streams.iter().all(|(status, _)| status == "200"));
    assert_eq!(open().0, "503");
    // Who has no stream asks now and then.
    assert!(page.html("/api/live?view=%2F").contains("foo/state"));
    // A part of what is told each second, and no more than that.
    let (_, stream) = &mut streams[31];
    let mut part = [0; 4096];
    let length = stream.read(&mut part).expect("news");
    assert!(length > 0, "the stream ended");
    drop(streams);
    until("a place that was left is not free", || open().0 == "200");
    page.end();
}
