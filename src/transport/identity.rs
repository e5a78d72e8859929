//! Names for deliveries: the handle that is never used twice, and the hash by which a task is known again.
//!
//! The hash is compared only inside the process that made it (a remembered settlement against a redelivered
//! task), so it may be any function that is stable for the life of a process. It must be fast, because every
//! body passes through it: 16 bytes are mixed per multiplication.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::task::{Handle, Headers};

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A handle that no delivery of this process had before, on whatever transport.
#[must_use]
pub fn next_handle() -> Handle {
    Handle(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A hash of what makes a redelivered task the same task: its queue, message id, attempts used and body.
#[must_use]
pub fn identity(queue: &str, id: &str, attempts: u32, body: &[u8]) -> u64 {
    let mut hash = mix(0x9e37_79b9_7f4a_7c15, u64::from(attempts) ^ 0xa076_1d64_78bd_642f);
    for part in [queue.as_bytes(), id.as_bytes(), body] {
        hash = feed(hash, part);
    }
    hash
}

/// The same hash, in which these headers count, too: for messages that are sent again under their id as other tasks.
#[must_use]
pub fn with_headers(mut identity: u64, headers: &Headers, names: &[&str]) -> u64 {
    for name in names {
        identity = match headers.get(*name) {
            None | Some(Value::Null) => feed(identity, b""),
            Some(Value::String(text)) => feed(identity, text.as_bytes()),
            Some(other) => feed(identity, other.to_string().as_bytes()),
        };
    }
    identity
}

/// Both halves of the product, folded: each bit of either word reaches all bits of the result.
fn mix(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ ((product >> 64) as u64)
}

fn word(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}

fn feed(mut hash: u64, bytes: &[u8]) -> u64 {
    let chunks = bytes.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        hash = mix(word(&chunk[..8]) ^ 0xe703_7ed1_a0b4_28db, word(&chunk[8..]) ^ hash);
    }
    let (low, high) = rest.split_at(rest.len().min(8));
    hash = mix(word(low) ^ 0x8ebc_6af0_9c88_c6e3, word(high) ^ hash);
    // The length keeps parts apart: ("ab", "c") is not ("a", "bc"), and a zero byte at the end counts.
    mix(hash ^ 0x5899_65cc_7537_4cc3, bytes.len() as u64 ^ 0x1d8e_4e27_c47d_124f)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_part_counts() {
        let mut seen = HashSet::new();
        for length in 0..200 {
            assert!(seen.insert(identity("q", "id", 0, &vec![0; length])), "a body of {length} zero bytes");
        }
        let long = b"a body that is longer than one step of the hash".to_vec();
        for position in 0..long.len() {
            let mut other = long.clone();
            other[position] ^= 1;
            assert!(seen.insert(identity("q", "id", 0, &other)), "byte {position}");
        }
        for (queue, id, attempts) in [("q", "id", 1), ("qi", "d", 0), ("", "qid", 0), ("r", "id", 0)] {
            assert!(seen.insert(identity(queue, id, attempts, &long)));
        }
        assert_eq!(identity("q", "id", 3, &long), identity("q", "id", 3, &long));
    }

    #[test]
    fn headers_count_where_they_are_named() {
        let of = |text: &str| with_headers(7, &serde_json::from_str(text).unwrap(), &["eta", "retries"]);
        let all = [
            r#"{"eta": null, "retries": 0}"#,
            r#"{"retries": 1}"#,
            r#"{"eta": "2026-01-01T00:00:00Z", "retries": 1}"#,
            r#"{"eta": 1, "retries": "2026-01-01T00:00:00Z"}"#,
            r#"{"eta": [{}], "retries": null}"#,
        ];
        let seen: HashSet<u64> = all.iter().map(|text| of(text)).collect();
        assert_eq!(seen.len(), all.len());
        assert_eq!(of(r#"{"retries": 1, "other": 7}"#), of(r#"{"retries": 1}"#));
    }

    #[test]
    fn handles_are_never_used_twice() {
        assert_ne!(next_handle(), next_handle());
    }
}
