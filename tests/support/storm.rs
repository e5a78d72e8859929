//! What storms have in common: chance that a seed repeats, moments, and deaths.

use std::{collections::VecDeque, sync::mpsc, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::log::Master;

/// Chance with a memory (xorshift64*): the same seed throws the same numbers.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % limit
    }

    /// Numbers of what is done at which something happens: one in the middle of each of `count` equal parts, more or less.
    pub fn moments(&mut self, count: u64, all: u64) -> VecDeque<u64> {
        let part = all / count;
        (0..count).map(|number| number * part + part / 4 + self.below(part / 2)).collect()
    }

    /// Kills one of the workers of a master, if it has any. Whether there was one.
    pub fn kill_a_worker(&mut self, master: &Master) -> bool {
        let workers = master.workers();
        if workers.is_empty() {
            return false;
        }
        let victim = workers[self.below(workers.len() as u64) as usize];
        kill(Pid::from_raw(victim), Signal::SIGKILL).is_ok()
    }
}

/// Lets time pass, where the time itself is what is done to the program: the pace of a storm, a random moment. What
/// is waited for is waited for by [`until`](super::log::until) and [`Master::expect`].
pub fn pass(time: Duration) {
    let (_sender, nothing) = mpsc::channel::<()>();
    let _ = nothing.recv_timeout(time);
}
