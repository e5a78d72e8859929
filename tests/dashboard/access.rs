//! Who may see the page: nobody who was not let in, whatever they send.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::{Command, Stdio},
};

use super::{Page, header};
use crate::support::{Demo, Place, http};

const SETTINGS: &str = "workers: { foo: demo_sleep_worker }\n";

fn demo(more: &str) -> Demo {
    let demo = Demo::new(&Place::sqlite());
    demo.write("asynctask.yaml", &format!("{SETTINGS}{more}"));
    demo
}

/// The hash of a password, as the command prints it.
fn hash(demo: &Demo, password: &str) -> String {
    let ran = demo.feed(&["dashboard", "password"], &format!("{password}\n"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    ran.stdout.trim().to_owned()
}

#[test]
fn the_link_opens_it_and_nothing_else_does() {
    let demo = demo("");
    let mut page = Page::start(&demo, &[]);
    for path in ["/", "/queues/foo", "/schedules", "/api/status", "/stream", "/login", "/assets/page.js", "/nothing"] {
        let answer = page.get(path);
        assert_eq!(answer.status, 401, "{path}: {}", answer.head);
        assert_eq!(header(&answer, "set-cookie"), None);
        assert!(!answer.body.contains("foo") && answer.body.contains("dashboard link"), "{}", answer.body);
    }
    let link = page.link.clone().expect("a link");
    for wrong in ["/open", "/open?key=", &link[..link.len() - 1], &format!("{link}x"), "/open?key=%00"] {
        assert_eq!(page.get(wrong).status, 401, "{wrong}");
    }
    page.use_link();
    let answer = page.get("/");
    assert_eq!(answer.status, 200);
    for (name, part) in [
        ("content-security-policy", "default-src 'none'"),
        ("content-security-policy", "trusted-types 'none'"),
        ("content-security-policy", "frame-ancestors 'none'"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert!(header(&answer, name).is_some_and(|value| value.contains(part)), "{name}: {}", answer.head);
    }
    assert_eq!(header(&answer, "access-control-allow-origin"), None);
    assert_eq!(page.get("/nothing").status, 404);
    let cookie = page.cookie.clone().expect("a cookie");
    assert!(cookie.starts_with(&format!("asynctask_{}=", page.site.0.port())), "{cookie}");
    // It leads nowhere: another page has another key.
    let other = Page::start(&demo, &[]);
    assert_eq!(other.site.get_with("/", &format!("Cookie: {cookie}\r\nConnection: close\r\n")).status, 401);
    other.end();
    page.end();
}

#[test]
fn a_foreign_name_is_misdirected_and_a_program_may_bring_the_key() {
    let demo = demo("dashboard: { hosts: [ops.example] }\n");
    let mut page = Page::start(&demo, &[]);
    let key = page.link.as_ref().and_then(|link| link.split_once("key=")).expect("a key").1.to_owned();
    let port = page.site.0.port();
    page.use_link();
    let says = |host: &str, more: &str| {
        let text = format!("GET /api/schedules HTTP/1.1\r\n{host}{more}Connection: close\r\n\r\n");
        page.site.say(text.as_bytes()).map_or(0, |answer| answer.status)
    };
    let cookie = format!("Cookie: {}\r\n", page.cookie.as_deref().expect("it is open"));
    for (host, status) in [
        (format!("Host: 127.0.0.1:{port}\r\n"), 200),
        (format!("Host: localhost:{port}\r\n"), 200),
        ("Host: ops.example\r\n".to_owned(), 200),
        (format!("Host: evil.example:{port}\r\n"), 421),
        ("Host: localhost:1\r\n".to_owned(), 200),
        ("Host: 127.0.0.1:x\r\n".to_owned(), 421),
        ("Host: \r\n".to_owned(), 421),
        (String::new(), 421),
        (format!("Host: 127.0.0.1:{port}\r\nHost: 127.0.0.1:{port}\r\n"), 421),
    ] {
        let got = says(&host, &cookie);
        // Two of them are no request at all to some readers.
        assert!(got == status || (status == 421 && got == 400), "{host:?}: {got}");
    }
    let own = format!("Host: 127.0.0.1:{port}\r\n");
    assert_eq!(says(&own, &format!("Authorization: Bearer {key}\r\n")), 200);
    assert_eq!(says(&own, "Authorization: Bearer nonsense\r\n"), 401);
    page.end();
}

#[test]
fn people_log_in_with_their_names() {
    let plain = demo("");
    let hash = hash(&plain, "correct horse");
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    let users = format!(
        "dashboard: {{ users: {{ anna: {{ password: \"{hash}\", role: work }}, otto: {{ password: \"{hash}\" }} }} }}\n"
    );
    let demo = demo(&users);
    let mut page = Page::start(&demo, &[]);
    assert_eq!(page.link, None, "with users there is no link");
    let browser = "Accept: text/html\r\nConnection: close\r\n";
    let asked = page.site.get_with("/queues/foo?span=day", browser);
    assert_eq!(asked.status, 401);
    assert!(asked.body.contains("name=\"password\"") && asked.body.contains("/queues/foo?span=day"), "{}", asked.body);
    let enter = |body: &str| page.post("/enter", body);
    assert_eq!(enter("name=anna&password=wrong").status, 401);
    let waits = enter("name=anna&password=correct+horse");
    assert_eq!(waits.status, 429, "a name that failed waits, whatever comes then: {}", waits.head);
    assert!(header(&waits, "retry-after").is_some());
    // What somebody else guessed from elsewhere is nothing to her: it is her second try from here alone that waits.
    let elsewhere = from_elsewhere(&page, "name=anna&password=correct+horse");
    assert!(elsewhere.starts_with("HTTP/1.1 303") && elsewhere.contains("set-cookie: "), "{elsewhere}");
    // What can be nobody's is not kept: no pause follows it.
    for body in [
        format!("name={}&password=x", "n".repeat(101)),
        format!("name=otto&password={}", "p".repeat(1025)),
        format!("name=otto&password={}", "p".repeat(1025)),
    ] {
        assert_eq!(enter(&body).status, 401);
    }
    assert_eq!(enter(&format!("name={}&password=x", "n".repeat(20_000))).status, 413);
    for wrong in ["name=nobody&password=correct+horse", "name=&password=", "name=Anna&password=correct+horse"] {
        let answer = enter(wrong);
        assert!(answer.status == 401 && header(&answer, "set-cookie").is_none(), "{wrong}: {}", answer.head);
    }
    let foreign = page.ask("POST", "/enter", "Origin: http://evil.example\r\n", "name=otto&password=correct+horse");
    assert_eq!(foreign.status, 403);
    assert_eq!(page.ask("POST", "/enter", "", "name=otto&password=correct+horse").status, 403);
    let led_away = enter("name=otto&password=correct+horse&next=%2F%09%2Fevil.example");
    assert_eq!((led_away.status, header(&led_away, "location")), (303, Some("/")));
    let entered = enter("name=otto&password=correct+horse&next=%2Fschedules");
    assert_eq!((entered.status, header(&entered, "location")), (303, Some("/schedules")));
    let cookie = header(&entered, "set-cookie").expect("a cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && !cookie.contains("Secure"), "{cookie}");
    page.take_cookie(&entered);
    assert!(page.html("/").contains("otto"));
    let elsewhere = page.ask("POST", "/leave", "Origin: http://127.0.0.1:1\r\n", "");
    assert_eq!((elsewhere.status, page.get("/").status), (403, 200), "another page on this host logs nobody out");
    assert_eq!(page.post("/leave", "").status, 303);
    assert_eq!(page.get("/").status, 401);
    let log = page.process.log().text();
    assert!(!log.contains("correct horse") && !log.contains("argon2id"), "{log}");
    page.end();
}

/// What a form is answered that comes from another address of this machine.
fn from_elsewhere(page: &Page, body: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 2], 0).into())?;
        socket.connect(page.site.0).await?.into_std()
    });
    let mut stream = stream.expect("it listens");
    stream.set_nonblocking(false).expect("a socket");
    stream.set_read_timeout(Some(http::SOON)).expect("a socket");
    let (host, length) = (page.site.0, body.len());
    let text = format!(
        "POST /enter HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).expect("it takes that");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).expect("text");
    answer
}

#[test]
fn a_stream_ends_with_the_session_that_it_was_asked_in() {
    let demo = demo("");
    let page = Page::open(&demo);
    let mut stream = page.site.connect();
    let head = format!("GET /stream?view=/ HTTP/1.1\r\nHost: {}\r\n{}\r\n", page.site.0, page.head());
    stream.write_all(head.as_bytes()).expect("it takes that");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("it ends in order, and in time"));
    assert!(lines.any(|line| line.starts_with("data: ") && line.contains("does not answer")), "it tells nothing");
    assert!(page.html("/").contains("Log out"), "a session of a link can be ended");
    assert_eq!(page.post("/leave", "").status, 303);
    lines.for_each(drop);
    assert_eq!(page.get("/stream").status, 401);
    page.end();
}

#[test]
fn what_others_can_reach_needs_users() {
    let demo = demo("");
    let ran = demo.run(&["dashboard", "--listen", "0.0.0.0:0"]);
    assert_eq!(ran.code, 78, "{}", ran.stderr);
    assert!(ran.stderr.contains("there are no users") && ran.stderr.contains("dashboard password"), "{}", ran.stderr);
    demo.write("asynctask.yaml", &format!("{SETTINGS}dashboard: {{ listen: \"[::]:5555\" }}\n"));
    let ran = demo.run(&["config", "check"]);
    assert_eq!(ran.code, 78, "{}", ran.stdout);
    assert!(ran.stderr.contains("dashboard.listen") && ran.stderr.contains("asynctask.yaml:2:"), "{}", ran.stderr);
    demo.write("asynctask.yaml", &format!("{SETTINGS}dashboard: {{ users: {{ anna: {{ password: hunter2 }} }} }}\n"));
    let ran = demo.run(&["config", "check"]);
    assert!(ran.code == 78 && !ran.stderr.contains("hunter2"), "a password is shown: {}", ran.stderr);
}

#[test]
fn a_unix_socket_is_its_owners() {
    let demo = demo("");
    let path = demo.folder.path().join("page.sock");
    let listen = format!("unix:{}", path.display());
    let start = || {
        let mut command: Command = demo.command(&["dashboard", "--listen", &listen]);
        command.stdin(Stdio::null());
        let mut process = demo.follow(command);
        let line = process.expect("open http://localhost:5555/open?key=");
        (process, line)
    };
    let (process, _) = start();
    assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    process.signal(nix::sys::signal::Signal::SIGKILL);
    process.wait();
    // What a killed page left is in nobody's way.
    let (process, line) = start();
    assert!(line.ends_with(&format!(" through ssh -L 5555:{} HOST", path.display())), "{line}");
    let key = line.split("key=").nth(1).and_then(|rest| rest.split(' ').next()).expect("a key").to_owned();
    let mut stream = UnixStream::connect(&path).expect("it listens");
    let text = format!(
        "GET /api/schedules HTTP/1.1\r\nHost: localhost:5555\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).expect("it takes that");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The end of a terminal is the end of a page that was started in it.
    process.signal(nix::sys::signal::Signal::SIGHUP);
    assert_eq!(process.wait().0, 0);
    assert!(!path.exists(), "nothing is left behind");
}

#[test]
fn a_proxy_says_who_asks() {
    let proxy = "dashboard: { users: { anna: { role: all } }, proxy: { from: 127.0.0.1, secret: 0123456789abcdef } }\n";
    let demo = demo(proxy);
    let page = Page::start(&demo, &[]);
    let asks = |user: &str, secret: &str| {
        let head = format!("X-Forwarded-User: {user}\r\nX-Asynctask-Secret: {secret}\r\nConnection: close\r\n");
        page.site.get_with("/", &head)
    };
    let answer = asks("anna", "0123456789abcdef");
    assert!(answer.status == 200 && answer.body.contains("anna"), "{}", answer.head);
    assert_eq!(asks("otto", "0123456789abcdef").status, 200, "users who are not named may look");
    assert_eq!(asks("anna", "0123456789abcdeF").status, 401);
    page.end();
}
