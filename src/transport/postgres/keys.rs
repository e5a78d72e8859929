//! Numbers of advisory locks. Their space is one for each database, and shared with strangers: owners of masters are random, all others
//! hashes of schema, purpose and name.

/// The lock of a purpose, of 64 bits.
pub(crate) fn lock_key(schema: &str, purpose: &str, name: &str) -> i64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in [schema, purpose, name] {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash as i64
}

/// A new owner number: random, above 0, and never used again.
pub(crate) fn new_owner() -> Result<i64, getrandom::Error> {
    Ok(((getrandom::u64()? >> 1) as i64).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_names_have_locks_of_their_own() {
        let mut keys = vec![
            lock_key("a", "lease", "b"),
            lock_key("a", "ledger", "b"),
            lock_key("a", "lease", "c"),
            lock_key("al", "ease", "b"),
            lock_key("b", "lease", "b"),
        ];
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 5);
        assert!(new_owner().unwrap() > 0 && new_owner().unwrap() != new_owner().unwrap());
    }
}
