//! Passwords: hashed with argon2id, checked one at a time.
//!
//! A check costs 19 MiB and some hundredths of a second, so that guessing costs as much. For the same reason strangers could keep the
//! machine busy with it: one check runs at a time, three wait, and each failure of a name doubles the time until its next.

use std::{collections::HashMap, io, time::Duration};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};

use crate::clock::Instant;

/// After the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// … doubling up to this.
const LONGEST: Duration = Duration::from_secs(30);
/// Names whose failures are remembered: strangers may make them up.
const NAMES: usize = 1024;
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

/// Whether a hash of the settings can be read, and is one of argon2id.
#[cfg(test)]
pub(crate) fn is_hash(text: &str) -> bool {
    PasswordHash::new(text).is_ok_and(|hash| hash.algorithm.as_str() == "argon2id")
}

/// Whether the password is right. Takes some hundredths of a second.
pub(crate) fn is_right(password: &str, hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    password.len() <= LONGEST_PASSWORD && Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
}

/// When a name may be tried again.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    failed: HashMap<String, (Instant, Duration)>,
}

impl Throttle {
    /// Time until a password of this name may be checked; `None`: now.
    pub(crate) fn wait(&self, now: Instant, name: &str) -> Option<Duration> {
        let (at, pause) = self.failed.get(name)?;
        let until = *at + *pause;
        (until > now).then(|| until.since(now))
    }

    /// A password was wrong.
    pub(crate) fn failed(&mut self, now: Instant, name: &str) {
        let before = self.failed.get(name).map(|(_, pause)| *pause);
        let pause = before.map_or(FIRST, |pause| (pause * 2).min(LONGEST));
        if self.failed.len() >= NAMES {
            self.failed.retain(|_, (at, pause)| *at + *pause > now);
        }
        if self.failed.len() < NAMES || before.is_some() {
            self.failed.insert(name.to_owned(), (now, pause));
        }
    }

    /// … was right.
    pub(crate) fn succeeded(&mut self, name: &str) {
        self.failed.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_of_its_password_alone() {
        let hash = hash("correct horse").unwrap();
        assert!(hash.starts_with("$argon2id$") && is_hash(&hash), "{hash}");
        assert!(is_right("correct horse", &hash));
        assert!(!is_right("correct horsf", &hash) && !is_right("", &hash) && !is_right("correct horse", "nonsense"));
        assert!(!is_hash("$2b$12$abc") && !is_hash(""));
    }

    #[test]
    fn each_failure_doubles_the_wait() {
        let at = |seconds| Instant::default() + Duration::from_secs(seconds);
        let mut throttle = Throttle::default();
        assert_eq!(throttle.wait(at(0), "anna"), None);
        for (now, wait) in [(0, 1), (1, 2), (3, 4), (7, 8), (15, 16), (31, 30), (61, 30)] {
            assert_eq!(throttle.wait(at(now), "anna"), None);
            throttle.failed(at(now), "anna");
            assert_eq!(throttle.wait(at(now), "anna"), Some(Duration::from_secs(wait)));
        }
        assert_eq!(throttle.wait(at(61), "otto"), None);
        throttle.succeeded("anna");
        assert_eq!(throttle.wait(at(61), "anna"), None);
        for number in 0..3000 {
            throttle.failed(at(61), &number.to_string());
        }
        assert!(throttle.failed.len() <= NAMES);
    }
}
