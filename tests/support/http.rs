//! A client that says what it is told, byte by byte.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

/// An honest client is answered within that, on a busy machine.
pub const SOON: Duration = Duration::from_secs(8);

/// Where a master serves numbers.
#[derive(Clone, Copy, Debug)]
pub struct Site(pub SocketAddr);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// In small letters.
    pub head: String,
    /// As it came.
    pub plain_head: String,
    pub body: String,
}

impl Site {
    /// From the line in the log.
    pub fn told(line: &str) -> Self {
        let rest = line.split("http://").nth(1).expect("an address");
        Self(rest.strip_suffix("/metrics").expect("the page").parse().expect("numbers"))
    }

    pub fn connect(self) -> TcpStream {
        let stream = TcpStream::connect(self.0).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        stream.set_write_timeout(Some(SOON)).expect("a socket");
        stream
    }

    /// Says something and reads to the end.
    pub fn say(self, text: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        // It may be cut off while it speaks.
        let _ = stream.write_all(text);
        read(&mut stream)
    }

    /// The same, and nothing more is to come.
    pub fn say_and_close(self, text: &[u8]) -> Option<Answer> {
        let mut stream = self.connect();
        stream.write_all(text).expect("it takes that");
        stream.shutdown(Shutdown::Write).expect("a socket");
        read(&mut stream)
    }

    pub fn get(self, path: &str) -> Answer {
        self.get_with(path, "")
    }

    /// The same with further lines in the head, each with its end.
    pub fn get_with(self, path: &str, head: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{head}\r\n", self.0);
        self.say(request.as_bytes()).unwrap_or_else(|| panic!("no answer to GET {path}"))
    }

    /// The numbers of the page by name and labels.
    pub fn numbers(self) -> BTreeMap<String, f64> {
        let answer = self.get_with("/metrics", "Accept: application/openmetrics-text\r\n");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
        let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
        let number = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a number");
            (name.to_owned(), value.parse().expect("a number"))
        };
        lines.map(number).collect()
    }
}

/// Reads an answer to its end; `None`: there is none.
pub fn read(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    // What came before a reset counts.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().expect("a status");
    Some(Answer { status, head: head.to_ascii_lowercase(), plain_head: head.to_owned(), body: body.to_owned() })
}
