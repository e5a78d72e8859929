//! The address of a broker, and the act of connecting to it.

use std::{cell::Cell, time::Duration};

use lapin::{Connection, ConnectionProperties, ErrorKind, protocol::AMQPErrorKind, uri::AMQPUri};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::topology::Fault;
use crate::transport::{Error, uri::mask};

/// Longest wait for a connect, a close, a confirm, or any other answer of the broker.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Where the broker is and who we are there.
#[derive(Debug)]
pub(super) struct Address {
    uri: AMQPUri,
    shown: String,
    /// An earlier connect got no answer. Each such attempt leaves a thread of lapin's behind, so from then on the
    /// other side must first say a byte to a plain socket.
    silent: Cell<bool>,
}

impl Address {
    /// Reads an address and adds what we want unless it says otherwise: a heartbeat that notices a dead network
    /// within 40 s, and a frame size without which each connection costs 7.8 MB.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let shown = mask(text);
        let mut uri: AMQPUri =
            text.parse().map_err(|cause: String| Error::BadUri { text: shown.clone(), cause: cause.clone() })?;
        uri.query.heartbeat.get_or_insert(20);
        uri.query.frame_max.get_or_insert(131_072);
        if let Some((address, _)) = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'))
            && address.parse::<std::net::Ipv6Addr>().is_ok()
        {
            // The library reads an IPv6 address as no host at all, and that as localhost.
            address.clone_into(&mut uri.authority.host);
        }
        if uri.vhost.is_empty() {
            // `amqp://host/` means the default virtual host to everyone who writes it.
            "/".clone_into(&mut uri.vhost);
        }
        Ok(Self { uri, shown, silent: Cell::new(false) })
    }

    /// The address without its password.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Opens a connection; `role` is what an administrator reads in the broker's list.
    pub(super) async fn connect(&self, role: &str) -> Result<Connection, Error> {
        if self.silent.get() {
            self.expect_a_byte().await?;
        }
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let name = format!("asynctask {role} {host} {}", std::process::id());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        match timeout(PATIENCE, Connection::connect_uri(self.uri.clone(), properties)).await {
            Ok(Ok(connection)) => {
                self.silent.set(false);
                Ok(connection)
            }
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => {
                self.silent.set(true);
                Err(self.no_answer())
            }
        }
    }

    async fn expect_a_byte(&self) -> Result<(), Error> {
        let target = (self.uri.authority.host.as_str(), self.uri.authority.port);
        let probe = async {
            let mut stream = tokio::net::TcpStream::connect(target).await?;
            if self.uri.scheme == lapin::uri::AMQPScheme::AMQP {
                stream.write_all(b"AMQP\0\0\x09\x01").await?;
                stream.read_u8().await?;
            }
            Ok::<_, std::io::Error>(())
        };
        match timeout(PATIENCE, probe).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::Unreachable { uri: self.shown.clone(), cause: error.to_string() }),
            Err(_) => Err(self.no_answer()),
        }
    }

    fn no_answer(&self) -> Error {
        Error::Unreachable { uri: self.shown.clone(), cause: "it does not answer within 10 s".to_owned() }
    }

    fn unreachable(&self, error: &lapin::Error) -> Error {
        let (uri, cause) = (self.shown.clone(), said(error));
        if refuses(error) { Error::Refused { uri, cause } } else { Error::Unreachable { uri, cause } }
    }

    /// The error for a question that got no good answer.
    pub(super) fn fault(&self, fault: Fault) -> Error {
        match fault {
            Fault::Absent(queue) => Error::NoSuchQueue { queue },
            Fault::Forbidden(cause) => Error::Refused { uri: self.shown.clone(), cause },
            Fault::Refused(cause) | Fault::Late(cause) | Fault::Broken(cause) => self.lost(cause),
        }
    }

    /// The error for a session that ended.
    pub(super) fn lost(&self, cause: impl Into<String>) -> Error {
        Error::Lost { uri: self.shown.clone(), cause: cause.into() }
    }
}

/// What an error of the library says, in words of the broker where there are some.
pub(super) fn said(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        _ => error.to_string(),
    }
}

/// The broker's reply code, if it was the broker that raised the error.
pub(super) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
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
        assert_eq!((address.uri.query.heartbeat, address.uri.query.frame_max), (Some(20), Some(131_072)));
        assert_eq!(Address::parse("amqp://h/").unwrap().uri.vhost, "/");
        let address = Address::parse("amqps://h/v?heartbeat=5&frame_max=8192").unwrap();
        assert_eq!((address.uri.query.heartbeat, address.uri.query.frame_max), (Some(5), Some(8_192)));
        assert_eq!(Address::parse("amqp://u:p@[::1]:5672/v").unwrap().uri.authority.host, "::1");
        let refused = Address::parse("amqp://u:secret@[").unwrap_err().to_string();
        assert!(!refused.contains("secret"), "{refused}");
    }
}
