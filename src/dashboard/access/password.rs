//! Passwords: hashed with argon2id, checked one at a time.
//!
//! A check costs 19 MiB and some hundredths of a second, so that guessing costs as much. For the same reason strangers could keep the
//! machine busy with it: one check runs at a time, few wait, and [`throttle`](super::throttle) says who is checked at all.

use std::io;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};

/// Bytes of a password, at most.
pub(crate) const LONGEST_PASSWORD: usize = 1024;

/// The line for the settings.
///
/// # Errors
/// The system gives no random bytes, or the password cannot be hashed.
pub(crate) fn hash(password: &str) -> io::Result<String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| io::Error::other(error.to_string()))
}

/// Whether the password is right. Takes some hundredths of a second.
pub(crate) fn is_right(password: &str, hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    password.len() <= LONGEST_PASSWORD && Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::dashboard::is_hash;

    #[test]
    fn a_hash_is_of_its_password_alone() {
        let hash = hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$") && is_hash(&hash), "{hash}");
        assert!(is_right("correct horse", &hash));
        assert!(!is_right("correct horsf", &hash) && !is_right("", &hash) && !is_right("correct horse", "nonsense"));
        for dear in ["m=4000000,t=2,p=1", "m=19456,t=200,p=1"] {
            assert!(!is_hash(&hash.replacen("m=19456,t=2,p=1", dear, 1)), "{dear}");
        }
        for cut in [
            "",
            "$2b$12$abc",
            "$argon2id$",
            &hash[..hash.len() - 1],
            &hash[..40],
            &hash.replacen("argon2id", "argon2i", 1),
        ] {
            assert!(!is_hash(cut), "{cut}");
        }
    }
}
