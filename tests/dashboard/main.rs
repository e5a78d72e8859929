//! The page, end to end: who may see it, what it shows of a real master, and that nothing which happens to it disturbs the work.

mod access;
mod crowd;
mod history;
mod kept;
mod letters;
mod secrets;
mod shown;
#[path = "../support/mod.rs"]
mod support;

use std::process::Stdio;

use support::{
    Demo,
    http::{Answer, Site},
    log::Master,
};

/// A page that is served, and somebody in front of it.
struct Page {
    process: Master,
    site: Site,
    /// With the key; `None`: people log in.
    link: Option<String>,
    /// `name=value`, once it is open.
    cookie: Option<String>,
}

impl Page {
    /// Serves the page of a demo's master, and opens it if it has a key.
    fn open(demo: &Demo) -> Self {
        let mut page = Self::start(demo, &[]);
        page.use_link();
        page
    }

    /// Serves it at a port that is free.
    fn start(demo: &Demo, options: &[&str]) -> Self {
        let arguments = [&["dashboard", "--listen", "127.0.0.1:0"], options].concat();
        let mut command = demo.command(&arguments);
        command.stdin(Stdio::null());
        let mut process = demo.follow(command);
        let said = process.expect("http://");
        let address = said.split("http://").nth(1).expect("an address");
        let authority = address.split('/').next().expect("host and port");
        let link = said.starts_with("open ").then(|| format!("/{}", address.split_once('/').expect("a path").1));
        Self { process, site: Site(authority.parse().expect("numbers")), link, cookie: None }
    }

    /// Opens the link that was printed.
    fn use_link(&mut self) {
        let link = self.link.clone().expect("a link");
        let answer = self.get(&link);
        assert_eq!(answer.status, 303, "{}", answer.head);
        self.take_cookie(&answer);
    }

    fn take_cookie(&mut self, answer: &Answer) {
        let line = header(answer, "set-cookie").expect("a cookie");
        self.cookie = Some(line.split(';').next().expect("a value").to_owned());
    }

    /// Lines of the head that this visitor sends.
    fn head(&self) -> String {
        let cookie = self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}\r\n"));
        cookie.unwrap_or_default() + "Connection: close\r\n"
    }

    fn get(&self, path: &str) -> Answer {
        self.site.get_with(path, &self.head())
    }

    /// A page that is there.
    fn html(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}\n{}", answer.head, answer.body);
        answer.body
    }

    fn ask(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let (host, own, length) = (self.site.0, self.head(), body.len());
        let form = "Content-Type: application/x-www-form-urlencoded\r\n";
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{own}{head}{form}Content-Length: {length}\r\n\r\n{body}"
        );
        self.site.say(text.as_bytes()).unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// A form of the page itself.
    fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &format!("Origin: http://{}\r\n", self.site.0), body)
    }

    /// Ends it in order.
    fn end(self) {
        self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let (code, log) = self.process.wait();
        assert_eq!(code, 0, "{log}");
    }
}

/// The value of a header.
fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.plain_head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}
