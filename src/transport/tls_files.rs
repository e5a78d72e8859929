//! Certificates and keys in files, for connections by TLS. What a key file holds is never part of a text.

use std::{io, path::Path};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// Larger files hold no certificates of ours; a system's whole collection is 200 kB.
const MAX_BYTES: u64 = 4 << 20;

/// All certificates of a file; at least one.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(format!("{} holds no certificate in PEM", path.display())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{} is not a file of certificates in PEM ({error})", path.display())),
    }
}

/// The key of a file.
///
/// # Errors
/// What is wrong with it, without anything of it.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(path)?;
    let encrypted = "ENCRYPTED".as_bytes();
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        let path = path.display();
        if bytes.windows(encrypted.len()).any(|part| part == encrypted) {
            format!("the key in {path} is encrypted; keep it unencrypted in a file of mode 0600")
        } else {
            format!("{path} holds no key in PEM")
        }
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    use std::{io::Read, os::unix::fs::OpenOptionsExt};
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => format!("{}: no such file", path.display()),
        _ => format!("{} cannot be read: {error}", path.display()),
    };
    let mut bytes = Vec::new();
    // The open of a pipe without a writer must not block.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(format!("{} is no regular file", path.display()));
    }
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(cannot)?;
    Ok(bytes)
}
