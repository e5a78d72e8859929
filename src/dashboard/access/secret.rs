//! Secrets that are made here, and kept as their hashes.

use std::{fmt, io};

use blake2::{Blake2s256, Digest};

/// A secret of 256 bits, as text that can stand in an address and a header.
///
/// # Errors
/// The system gives no random bytes.
pub(crate) fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(data_encoding::BASE64URL_NOPAD.encode(&bytes))
}

/// The hash of a secret. To compare hashes tells nobody by its time how near they were.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Hashed([u8; 32]);

impl Hashed {
    pub(crate) fn of(secret: &str) -> Self {
        Self(Blake2s256::digest(secret.as_bytes()).into())
    }

    /// Its beginning, to tell by it what is no secret.
    pub(crate) fn shortened(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0[..4])
    }

    /// Whether it is the hash of this.
    pub(crate) fn is_of(&self, secret: &str) -> bool {
        *self == Self::of(secret)
    }
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_ne!(one, other);
        assert!(
            one.len() == 43 && one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "{one}"
        );
        assert!(Hashed::of(&one).is_of(&one) && !Hashed::of(&one).is_of(&other));
        assert_eq!(format!("{:?}", Hashed::of(&one)), "…");
    }
}
