//! Chance with a memory: the same seed throws the same numbers, on every machine.

use std::time::Duration;

/// A stream of numbers (splitmix64).
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(crate) fn between_u32(&mut self, low: u32, high: u32) -> u32 {
        self.between(low.into(), high.into()) as u32
    }

    /// True that many times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u32) -> bool {
        self.next() % 1000 < u64::from(per_mille)
    }

    /// Between these many microseconds; short ones as likely as long ones.
    pub(crate) fn micros(&mut self, (low, high): (u64, u64)) -> Duration {
        let high = match self.next() % 3 {
            0 => low + (high - low) / 50,
            1 => low + (high - low) / 5,
            _ => high,
        };
        Duration::from_micros(self.between(low, high))
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.next() % of.len() as u64) as usize]
    }

    /// A probability for one history: 0 in half of them, else up to `most` per thousand.
    pub(crate) fn probability(&mut self, most: u32) -> u32 {
        if self.chance(500) { 0 } else { self.between_u32(1, most) }
    }
}
