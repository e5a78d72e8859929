//! TLS of a connection: who is trusted, and our own certificate. The files are read each time that a connection is made, so that a
//! renewed certificate is used from then on.

use std::{path::PathBuf, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::transport::tls_files;

/// Files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The authorities that are trusted; then no others are. Without it, those of the system.
    pub(crate) ca: Option<PathBuf>,
    /// Our own certificate.
    pub(crate) certificate: Option<PathBuf>,
    /// Its key.
    pub(crate) key: Option<PathBuf>,
}

impl TlsFiles {
    /// What makes connections on these terms.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub(crate) fn connector(&self) -> Result<MakeRustlsConnect, String> {
        let mut trusted = RootCertStore::empty();
        match &self.ca {
            Some(path) => drop(trusted.add_parsable_certificates(tls_files::certificates(path)?)),
            None => drop(trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        if trusted.is_empty() {
            return Err("this system has no authorities that it trusts; sslrootcert names one".to_owned());
        }
        let provider = Arc::new(ring::default_provider());
        let begun = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let begun = begun.map_err(|error| error.to_string())?.with_root_certificates(trusted);
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => begun
                .with_client_auth_cert(tls_files::certificates(certificate)?, tls_files::key(key)?)
                .map_err(|error| format!("the key does not go with the certificate ({error})"))?,
            _ => begun.with_no_client_auth(),
        };
        Ok(MakeRustlsConnect::new(config))
    }
}
