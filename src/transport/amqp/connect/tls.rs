//! The settings of TLS: the trusted authorities, our own certificate, and the name of the broker.
//!
//! The files are read each time that a connection is made, so that a renewed certificate is used from then on.

use std::{
    io,
    path::{Path, PathBuf},
};

use futures_util::AsyncReadExt as _;
use lapin::tcp::{AsyncTcpStream, RustlsConnector, RustlsConnectorConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::transport::tls_files;

/// The settings for `amqps://`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities that are trusted, in PEM; then no others are. Without it, those of the system.
    pub ca: Option<PathBuf>,
    /// Our own certificate and those up to its authority, in PEM.
    pub certificate: Option<PathBuf>,
    /// The key of our certificate, in PEM, not encrypted.
    pub key: Option<PathBuf>,
    /// The name that the broker's certificate is for, where that is not the host of the address.
    pub server_name: Option<String>,
}

impl Tls {
    /// Whether what the files hold can be used together.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence about the settings.
    pub fn check(&self) -> Result<(), String> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err("certificate and key go together".to_owned());
        }
        // What the system trusts is its own affair, until it is asked.
        if self.ca.is_none() && self.certificate.is_none() {
            return Ok(());
        }
        self.connector().map(drop)
    }

    /// What makes connections on these terms.
    pub(crate) fn connector(&self) -> Result<RustlsConnector, String> {
        let mut trusted = match &self.ca {
            Some(_) => RustlsConnectorConfig::default(),
            None => RustlsConnectorConfig::new_with_native_certs().map_err(|error| {
                format!("this system has no authorities that it trusts ({error}); tls.ca names one")
            })?,
        };
        if let Some(path) = &self.ca {
            trusted.add_parsable_certificates(Self::read_certificates(path)?);
        }
        let cannot = |error: io::Error| format!("cannot be used: {error}");
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return trusted.connector_with_no_client_auth().map_err(cannot);
        };
        let certificates = Self::read_certificates(certificate)?;
        trusted.connector_with_single_cert(certificates, Self::read_key(key)?).map_err(|error| {
            let (certificate, key) = (certificate.display(), key.display());
            format!("the key in {key} does not go with the certificate in {certificate} ({error})")
        })
    }

    /// All certificates of a file; at least one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
        tls_files::certificates(path)
    }

    /// The key of a file.
    ///
    /// # Errors
    /// What is wrong with it, without anything of it.
    pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
        tls_files::key(path)
    }
}

/// The error by which the other side ends a connection on which nothing is sent.
pub(crate) async fn first_words(
    host: &str,
    port: u16,
    connector: RustlsConnector,
    server_name: &str,
) -> Option<String> {
    let runtime = lapin::runtime::default_runtime().ok()?;
    let location = runtime.to_socket_addrs((host.to_owned(), port));
    let stream = AsyncTcpStream::connect(&runtime, location).await.ok()?;
    let mut stream = match stream.into_rustls(&connector, server_name).await {
        Ok(stream) => stream,
        Err(error) => return Some(error.to_string()),
    };
    stream.read(&mut [0; 1]).await.err().map(|error| error.to_string())
}

/// What a failed handshake means, in words; `None` where it was something else.
pub(crate) fn words(said: &str, server_name: &str) -> Option<String> {
    let because = |words: &str| Some(format!("{words} ({said})"));
    if said.contains("UnknownIssuer") || said.contains("CaUsedAsEndEntity") {
        return because("its certificate is signed by no authority that is trusted here");
    }
    if said.contains("NotValidForName") || said.contains("not valid for name") {
        return Some(format!("its certificate is not for the name {server_name:?} (NotValidForName: {said})"));
    }
    if said.contains("invalid peer certificate") {
        return because("its certificate is not good");
    }
    if ["CertificateRequired", "HandshakeFailure", "BadCertificate", "UnknownCA", "CertificateUnknown", "AccessDenied"]
        .iter()
        .any(|alert| said.contains(alert))
    {
        return because("it wants a certificate of ours that it trusts");
    }
    if said.contains("InvalidContentType") || said.contains("corrupt message") {
        return because("it speaks no TLS at this port");
    }
    ["PEM", "tls.ca", "no such file", "cannot be read", "does not go with", "fatal alert"]
        .iter()
        .any(|sign| said.contains(sign))
        .then(|| format!("TLS: {said}"))
}
