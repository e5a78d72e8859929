//! The address of a broker, and the act of connecting to it.
//!
//! Unless the address says otherwise: `heartbeat=20`, so that both sides notice a dead network within 40 s (the broker's default is
//! 60, so 120 s), and `frame_max=131072`, the broker's own value, which the library must be told: without it a connection takes
//! 7.8 MB and with it 73 kB (lapin 4.12.3). Smaller frames do not do:
//! a message with 100 kB of headers ends a connection of 16 KiB frames (`FRAME_ERROR`).

use std::{
    cell::{Cell, RefCell},
    path::Path,
    time::Duration,
};

use lapin::{
    Connection, ConnectionProperties, ErrorKind,
    protocol::AMQPErrorKind,
    tcp::{AsyncTcpStream, RustlsConnector},
    uri::{AMQPScheme, AMQPUri},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    address_syntax::Written,
    tls::{self, Tls},
};
use crate::{
    redact::redact_address,
    transport::{
        Error,
        amqp::broker_error::{ANSWER_TIMEOUT, Fault, describe},
        uri::split,
    },
};

/// The addresses of a cluster's brokers, mostly one, with the account. One of them is the current one.
pub(crate) struct Address {
    brokers: Vec<Broker>,
    at: Cell<usize>,
    /// Why no session could be built, at those that were tried since there was one.
    failed: RefCell<Vec<Error>>,
    /// Longest wait of a client.
    limit: Option<Duration>,
}

/// Parts of an address, for those who show them.
pub(crate) struct Place<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) user: &'a str,
    pub(crate) virtual_host: &'a str,
    pub(crate) is_tls: bool,
}

/// One broker.
struct Broker {
    uri: AMQPUri,
    tls: Tls,
    shown: String,
    /// An earlier connect got no answer. Each such attempt leaves a thread of lapin's behind, so from then on the
    /// other side must first say a byte to a plain socket.
    silent: Cell<bool>,
    /// Of a client.
    limit: Option<Duration>,
}

impl Address {
    /// Reads an address, or several of a cluster.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let brokers: Result<_, _> = split(text).into_iter().map(Broker::parse).collect();
        Ok(Self { brokers: brokers?, at: Cell::new(0), failed: RefCell::default(), limit: None })
    }

    fn broker(&self) -> &Broker {
        &self.brokers[self.at.get()]
    }

    /// How many other addresses there are.
    pub(crate) fn others(&self) -> u32 {
        u32::try_from(self.brokers.len() - 1).unwrap_or(u32::MAX)
    }

    /// The next address is that of the moment.
    pub(crate) fn turn(&self) {
        self.at.set((self.at.get() + 1) % self.brokers.len());
    }

    /// No session could be built at the address of the moment. Another one is to be tried at once, unless all were: then
    /// the error of all of them.
    pub(crate) fn failed(&self, error: Error) -> Result<(), Error> {
        let mut failed = self.failed.borrow_mut();
        failed.push(error);
        self.turn();
        if failed.len() < self.brokers.len() {
            return Ok(());
        }
        let failed = std::mem::take(&mut *failed);
        let is_final = failed.iter().all(|error| matches!(error, Error::Refused { .. } | Error::NoSuchQueue { .. }));
        let [_, _, ..] = &failed[..] else { return failed.into_iter().next().map_or(Ok(()), Err) };
        let cause = failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let uri = format!("any of {} addresses", failed.len());
        Err(if is_final { Error::Refused { uri, cause } } else { Error::Unreachable { uri, cause } })
    }

    /// A session was built. Whether there are several addresses of which this is one.
    pub(crate) fn succeeded(&self) -> bool {
        self.failed.borrow_mut().clear();
        self.brokers.len() > 1
    }

    /// Where the address of the moment leads.
    pub(crate) fn place(&self) -> Place<'_> {
        let broker = self.broker();
        let authority = &broker.uri.authority;
        Place {
            host: &authority.host,
            port: authority.port,
            user: &authority.userinfo.username,
            virtual_host: &broker.uri.vhost,
            is_tls: broker.is_tls(),
        }
    }

    /// The address without its password.
    pub(crate) fn shown(&self) -> &str {
        &self.broker().shown
    }

    /// The same for a client, which waits no longer than this for any answer.
    pub(crate) fn within(mut self, limit: Option<Duration>) -> Self {
        self.limit = limit;
        self.brokers.iter_mut().for_each(|broker| broker.limit = limit);
        self
    }

    /// Longest wait for an answer of a broker that has not said that it is late.
    pub(crate) fn patience(&self) -> Duration {
        self.limit.map_or(ANSWER_TIMEOUT, |limit| limit.min(ANSWER_TIMEOUT))
    }

    /// Longest wait for a broker that takes nothing from publishers.
    pub(crate) fn longest_block(&self) -> Duration {
        self.limit.unwrap_or(Duration::MAX)
    }

    /// Opens a connection; `role` is what an administrator reads in the broker's list.
    pub(crate) async fn connect(&self, role: &str) -> Result<Connection, Error> {
        self.broker().connect(role).await
    }

    /// The error for a question about this queue that got no good answer.
    pub(crate) fn fault(&self, queue: &str, fault: Fault) -> Error {
        match fault {
            Fault::Absent(queue) => Error::NoSuchQueue { queue },
            Fault::Forbidden(cause) => Error::Refused { uri: self.shown().to_owned(), cause },
            Fault::Refused(cause) => Error::QueueRefused { queue: queue.to_owned(), cause },
            Fault::TimedOut(cause) | Fault::Broken(cause) => self.lost(cause),
        }
    }

    /// The error for a session that ended.
    pub(crate) fn lost(&self, cause: impl Into<String>) -> Error {
        Error::Lost { uri: self.shown().to_owned(), cause: cause.into() }
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The library shows passwords.
        f.debug_list().entries(self.brokers.iter().map(|broker| &broker.shown)).finish()
    }
}

impl Broker {
    /// Reads an address and adds what we want unless it says otherwise: a heartbeat that notices a dead network
    /// within 40 s, and a frame size without which each connection costs 7.8 MB.
    fn parse(text: &str) -> Result<Self, Error> {
        let shown = redact_address(text);
        let bad = |cause| Error::BadUri { text: shown.clone(), cause };
        let Written { mut uri, tls } = Written::read(text, Path::new("")).map_err(bad)?;
        uri.query.heartbeat.get_or_insert(20);
        uri.query.frame_max.get_or_insert(131_072);
        Ok(Self { uri, tls, shown, silent: Cell::new(false), limit: None })
    }

    fn is_tls(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    /// How long a connect may take.
    fn patience(&self) -> Duration {
        let patience = self.uri.query.connection_timeout.map_or(ANSWER_TIMEOUT, Duration::from_millis);
        self.limit.map_or(patience, |limit| limit.min(patience))
    }

    async fn connect(&self, role: &str) -> Result<Connection, Error> {
        if self.silent.get() {
            self.expect_a_byte().await?;
        }
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = format!("asynctask {role} {host} {}", std::process::id());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connecting = async {
            if !self.is_tls() {
                return Connection::connect_uri(self.uri.clone(), properties).await;
            }
            let connector = self.tls.connector().map_err(std::io::Error::other)?;
            connect_tls(self.uri.clone(), properties, connector, self.server_name().to_owned()).await
        };
        match timeout(self.patience(), connecting).await {
            Ok(Ok(connection)) => {
                self.silent.set(false);
                Ok(connection)
            }
            Ok(Err(error)) => Err(self.unreachable(&error).await),
            Err(_) => {
                self.silent.set(true);
                Err(self.no_answer())
            }
        }
    }

    /// What the broker's certificate has to be for.
    fn server_name(&self) -> &str {
        self.tls.server_name.as_deref().unwrap_or(&self.uri.authority.host)
    }

    async fn expect_a_byte(&self) -> Result<(), Error> {
        let target = (self.uri.authority.host.as_str(), self.uri.authority.port);
        let probe = async {
            let mut stream = tokio::net::TcpStream::connect(target).await?;
            if !self.is_tls() {
                stream.write_all(b"AMQP\0\0\x09\x01").await?;
                stream.read_u8().await?;
            }
            Ok::<_, std::io::Error>(())
        };
        match timeout(self.patience(), probe).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::Unreachable { uri: self.shown.clone(), cause: error.to_string() }),
            Err(_) => Err(self.no_answer()),
        }
    }

    /// Why the other side ends a connection after the handshake. It says so after our first bytes went out, and a
    /// connection that is reset for them loses what it said; so this one sends none.
    async fn alert(&self) -> Option<String> {
        let connector = self.tls.connector().ok()?;
        let heard = tls::first_words(&self.uri.authority.host, self.uri.authority.port, connector, self.server_name());
        timeout(ANSWER_TIMEOUT / 5, heard).await.ok()?
    }

    fn no_answer(&self) -> Error {
        let cause = format!("it does not answer within {} s", self.patience().as_secs_f64());
        Error::Unreachable { uri: self.shown.clone(), cause }
    }

    async fn unreachable(&self, error: &lapin::Error) -> Error {
        let (uri, cause) = (self.shown.clone(), describe(error));
        if self.is_tls() && matches!(error.kind(), ErrorKind::IOError(_)) {
            let words = |said: &str| tls::words(said, self.server_name());
            let found = match words(&cause) {
                None => self.alert().await.and_then(|said| words(&said)),
                found => found,
            };
            if let Some(cause) = found {
                return Error::Refused { uri, cause };
            }
        }
        if refuses(error) {
            Error::Refused { uri, cause: format!("refused the connection: {cause}") }
        } else {
            Error::Unreachable { uri, cause }
        }
    }
}

/// A connection on our own terms, which the library has no settings for.
async fn connect_tls(
    uri: AMQPUri,
    properties: ConnectionProperties,
    connector: RustlsConnector,
    server_name: String,
) -> lapin::Result<Connection> {
    let runtime = lapin::runtime::default_runtime()?;
    Connection::connector(
        uri,
        runtime,
        async move |uri, runtime| {
            let location = runtime.to_socket_addrs((uri.authority.host, uri.authority.port));
            let stream = AsyncTcpStream::connect(&runtime, location).await?;
            Ok(stream.into_rustls(&connector, &server_name).await?)
        },
        properties,
    )
    .await
}

/// Password, virtual host, permissions: the answer will not change by asking again.
fn refuses(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(error) => matches!(
            error.kind(),
            AMQPErrorKind::Soft(lapin::protocol::AMQPSoftError::ACCESSREFUSED)
                | AMQPErrorKind::Hard(lapin::protocol::AMQPHardError::NOTALLOWED)
        ),
        ErrorKind::AuthProviderError(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_address_does_not_say_is_added() {
        let address = Address::parse("amqp://u:p@h").unwrap();
        assert_eq!(
            (address.broker().uri.query.heartbeat, address.broker().uri.query.frame_max),
            (Some(20), Some(131_072))
        );
        let address = Address::parse("amqps://h/v?heartbeat=5&frame_max=8192").unwrap();
        assert_eq!(
            (address.broker().uri.query.heartbeat, address.broker().uri.query.frame_max),
            (Some(5), Some(8_192))
        );
        let refused = Address::parse("amqp://u:secret@[").unwrap_err().to_string();
        assert!(!refused.contains("secret"), "{refused}");
    }
}
