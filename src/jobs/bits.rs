//! A set of small numbers, one bit each. As text it is short where most of its beginning is set, as it is while tasks end about in
//! their order.

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Bytes of the longest set that is read.
const LONGEST: usize = 1024 * 1024;

/// Numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    count: u32,
}

impl Bits {
    pub(crate) fn has(&self, number: u32) -> bool {
        self.bytes.get(number as usize / 8).is_some_and(|byte| byte & mask(number) != 0)
    }

    /// Adds a number; whether it was not there.
    pub(crate) fn add(&mut self, number: u32) -> bool {
        let is_new = !self.has(number);
        if is_new {
            let place = number as usize / 8;
            if place >= self.bytes.len() {
                self.bytes.resize(place + 1, 0);
            }
            self.bytes[place] |= mask(number);
            self.count += 1;
        }
        is_new
    }

    /// Takes a number away; whether it was there.
    pub(crate) fn remove(&mut self, number: u32) -> bool {
        let was = self.has(number);
        if was {
            self.bytes[number as usize / 8] &= !mask(number);
            self.count -= 1;
        }
        was
    }

    /// How many there are.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One more than the highest.
    pub(crate) fn end(&self) -> u32 {
        let last = self.bytes.iter().rposition(|byte| *byte != 0);
        last.map_or(0, |last| last as u32 * 8 + 8 - self.bytes[last].leading_zeros())
    }

    /// All of them, lowest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.bytes.len() as u32 * 8).filter(|number| self.has(*number))
    }
}

const fn mask(number: u32) -> u8 {
    1 << (number % 8)
}

/// Empty bytes in a row that are worth a number of their own.
const EMPTY: usize = 8;

/// Parts with dots between them: `fN` N full bytes, `eN` N empty ones, `b…` others in base64.
impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let alike = |bytes: &[u8], as_this: u8| bytes.iter().take_while(|byte| **byte == as_this).count();
        let (mut parts, mut others) = (Vec::new(), Vec::new());
        let mut rest = &self.bytes[..self.bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)];
        let part = |others: &mut Vec<u8>, parts: &mut Vec<String>| {
            if !others.is_empty() {
                parts.push(format!("b{}", BASE64URL_NOPAD.encode(&std::mem::take(others))));
            }
        };
        while let Some((first, behind)) = rest.split_first() {
            let (full, empty) = (alike(rest, 0xff), alike(rest, 0));
            if full >= EMPTY || empty >= EMPTY {
                part(&mut others, &mut parts);
                parts.push(if full > 0 { format!("f{full}") } else { format!("e{empty}") });
                rest = &rest[full.max(empty)..];
            } else {
                others.push(*first);
                rest = behind;
            }
        }
        part(&mut others, &mut parts);
        parts.join(".").serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = Vec::new();
        let mut read = |part: &str| {
            let (kind, rest) = (part.get(..1)?, part.get(1..)?);
            let alike = |byte| Some(vec![byte; rest.parse().ok().filter(|count| *count <= LONGEST)?]);
            bytes.extend(match kind {
                "f" => alike(0xff)?,
                "e" => alike(0)?,
                "b" => BASE64URL_NOPAD.decode(rest.as_bytes()).ok()?,
                _ => return None,
            });
            (bytes.len() <= LONGEST).then_some(())
        };
        if !text.is_empty() && !text.split('.').all(|part| read(part).is_some()) {
            return Err(D::Error::custom("a set of numbers that cannot be read"));
        }
        let count = bytes.iter().map(|byte| byte.count_ones()).sum();
        Ok(Self { bytes, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_as_it_was_written_and_short_where_it_is_full() {
        let mut bits = Bits::default();
        assert_eq!((serde_json::to_string(&bits).unwrap().as_str(), bits.end()), ("\"\"", 0));
        for number in (0..10_000).chain([10_007]) {
            assert!(bits.add(number) && !bits.add(number));
        }
        assert!(bits.remove(9_999) && !bits.remove(9_999));
        let text = serde_json::to_string(&bits).unwrap();
        assert!(text.len() < 20, "{text}");
        let read: Bits = serde_json::from_str(&text).unwrap();
        assert!(read.iter().eq(bits.iter()) && read.count() == 10_000 && read.has(10_007) && !read.has(10_006));
        assert!(bits.add(900_000) && bits.end() == 900_001);
        let text = serde_json::to_string(&bits).unwrap();
        assert!(text.len() < 40, "{text}");
        assert!(serde_json::from_str::<Bits>(&text).unwrap().iter().eq(bits.iter()));
        for bad in ["\".\"", "\"x\"", "\"f99999999999\"", "\"f1048576.f1\"", "\"b%\"", "\"é\"", "7"] {
            assert!(serde_json::from_str::<Bits>(bad).is_err(), "{bad}");
        }
    }
}
