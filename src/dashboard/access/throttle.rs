//! How often passwords may be guessed, and who waits for whose mistakes. Pure.
//!
//! A failure counts for its name *and* for where it came from: who guesses keeps nobody else out. Each one doubles the time until the
//! next guess of the same name from the same place. Places may be many, so of one name only [`PLACES`] are told apart, and all others
//! wait for each other. Names that are not configured are treated like those that are: waiting tells nobody which there are.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::Peer;
use crate::clock::Instant;

/// After the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// The pause doubles up to this.
const LONGEST: Duration = Duration::from_secs(30);
/// A failure that is older than this counts no more.
const FORGOTTEN: Duration = Duration::from_mins(10);
/// Names that are told apart: anybody may make some up, so they are known by a hash with a key of this process.
const NAMES: u64 = 1024;
/// Places that are told apart for one name.
const PLACES: usize = 64;

/// Where guesses come from, as far as places are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Local,
    Ipv4(Ipv4Addr),
    /// Of an IPv6 address the first half: who has one address of a network has all of them (RFC 6177).
    Ipv6(u64),
}

impl Place {
    fn of(peer: Peer) -> Self {
        match peer {
            Peer::Local => Self::Local,
            Peer::Address(address) => match address.to_canonical() {
                IpAddr::V4(address) => Self::Ipv4(address),
                IpAddr::V6(address) => Self::Ipv6((address.to_bits() >> 64) as u64),
            },
        }
    }
}

/// The last failure, and how long nothing is checked after it.
#[derive(Clone, Copy, Debug)]
struct Pause {
    failed_at: Instant,
    lasts: Duration,
}

impl Pause {
    fn is_forgotten(&self, now: Instant) -> bool {
        now.since(self.failed_at) >= FORGOTTEN
    }

    fn after(before: Option<&Self>, now: Instant) -> Self {
        let before = before.filter(|before| !before.is_forgotten(now));
        Self { failed_at: now, lasts: before.map_or(FIRST, |before| (before.lasts * 2).min(LONGEST)) }
    }
}

/// The failures of a name.
#[derive(Debug, Default)]
struct Name {
    places: HashMap<Place, Pause>,
    /// Of places for which there is no room.
    others: Option<Pause>,
}

/// When a password may be checked.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    key: RandomState,
    names: HashMap<u64, Name>,
}

impl Throttle {
    /// Time until a password of this name from this peer may be checked; `None`: now.
    pub(crate) fn wait(&self, now: Instant, name: &str, peer: Peer) -> Option<Duration> {
        let known = self.names.get(&self.number(name))?;
        let own = known.places.get(&Place::of(peer));
        let pause = own.or_else(|| known.others.as_ref().filter(|_| known.places.len() >= PLACES))?;
        let until = pause.failed_at + pause.lasts;
        (until > now).then(|| until.since(now))
    }

    /// A password was wrong.
    pub(crate) fn failed(&mut self, now: Instant, name: &str, peer: Peer) {
        let number = self.number(name);
        let known = self.names.entry(number).or_default();
        known.places.retain(|_, pause| !pause.is_forgotten(now));
        let place = Place::of(peer);
        if known.places.len() < PLACES || known.places.contains_key(&place) {
            let pause = Pause::after(known.places.get(&place), now);
            known.places.insert(place, pause);
        } else {
            known.others = Some(Pause::after(known.others.as_ref(), now));
        }
    }

    /// A password was right: who knows it has not guessed.
    pub(crate) fn succeeded(&mut self, name: &str, peer: Peer) {
        let number = self.number(name);
        if let Some(known) = self.names.get_mut(&number) {
            known.places.remove(&Place::of(peer));
        }
    }

    fn number(&self, name: &str) -> u64 {
        self.key.hash_one(name) % NAMES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::default() + Duration::from_secs(seconds)
    }

    fn from(number: u32) -> Peer {
        Peer::Address(Ipv4Addr::from_bits(0x0a00_0000 + number).into())
    }

    #[test]
    fn each_failure_doubles_the_wait_until_it_is_forgotten() {
        let mut throttle = Throttle::default();
        assert_eq!(throttle.wait(at(0), "anna", from(1)), None);
        for (now, wait) in [(0, 1), (1, 2), (3, 4), (7, 8), (15, 16), (31, 30), (61, 30)] {
            assert_eq!(throttle.wait(at(now), "anna", from(1)), None);
            throttle.failed(at(now), "anna", from(1));
            assert_eq!(throttle.wait(at(now), "anna", from(1)), Some(Duration::from_secs(wait)));
        }
        throttle.succeeded("anna", from(2));
        assert!(throttle.wait(at(61), "anna", from(1)).is_some(), "another place knew it");
        throttle.failed(at(61 + 600), "anna", from(1));
        assert_eq!(throttle.wait(at(661), "anna", from(1)), Some(FIRST), "ten minutes later it begins anew");
        throttle.succeeded("anna", from(1));
        assert_eq!(throttle.wait(at(661), "anna", from(1)), None);
    }

    #[test]
    fn nobody_waits_for_the_failures_of_others() {
        let mut throttle = Throttle::default();
        throttle.failed(at(0), "anna", from(1));
        assert_eq!(throttle.wait(at(0), "anna", from(2)), None);
        assert_eq!(throttle.wait(at(0), "anna", Peer::Local), None);
        let mapped = Peer::Address(Ipv4Addr::from_bits(0x0a00_0001).to_ipv6_mapped().into());
        assert!(throttle.wait(at(0), "anna", mapped).is_some(), "it is the same address");
        let [one, other, elsewhere] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| Peer::Address(text.parse().unwrap()));
        throttle.failed(at(0), "anna", one);
        assert!(throttle.wait(at(0), "anna", other).is_some() && throttle.wait(at(0), "anna", elsewhere).is_none());
    }

    #[test]
    fn from_however_many_places_a_name_is_guessed_so_often_and_no_oftener() {
        let (mut throttle, mut guesses) = (Throttle::default(), 0);
        for second in 0..60 {
            for number in 0..200 {
                if throttle.wait(at(second), "anna", from(number)).is_none() {
                    throttle.failed(at(second), "anna", from(number));
                    guesses += 1;
                }
            }
        }
        // At 0, 1, 3, 7, 15 and 31 seconds, from each of the places and from all others together.
        assert_eq!(guesses, 6 * (PLACES + 1));
    }

    #[test]
    fn what_is_kept_is_bounded_and_no_name_is_kept() {
        let mut throttle = Throttle::default();
        for number in 0..20_000 {
            throttle.failed(at(0), &format!("name {number}"), from(number));
        }
        assert!(throttle.names.len() <= NAMES as usize);
        assert!(throttle.names.values().all(|known| known.places.len() <= PLACES));
        assert!(!format!("{throttle:?}").contains("name "));
    }
}
