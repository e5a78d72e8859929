//! Keys: of all tasks in hand of all masters, one has each.
//!
//! A row is one key that is held, with its owner, the row of its task and the task's id. It goes in the transaction that settles the
//! task; those of a master that is gone go with its claims. A long key stands there as a hash: an entry of an index is limited to a
//! third of a page.

use blake2::{Blake2s256, Digest as _};
use data_encoding::HEXLOWER;

/// Takes keys, sorted, each once: `owner, keys, rows, tasks`. The same task's own key is granted again.
pub(crate) const TAKE: &str = "
INSERT INTO @.held_key (key, owner, row, task)
SELECT key, $1, row, task FROM unnest($2::text[], $3::bigint[], $4::text[]) AS new (key, row, task) ORDER BY key
ON CONFLICT (key) DO UPDATE SET task = excluded.task
    WHERE held_key.owner = excluded.owner AND held_key.row = excluded.row
RETURNING key";
/// Who has these keys.
pub(crate) const HOLDERS: &str = "SELECT key, task FROM @.held_key WHERE key = ANY($1)";
/// Gives keys back: `owner, keys`.
pub(crate) const GIVE_BACK: &str = "DELETE FROM @.held_key WHERE owner = $1 AND key = ANY($2)";
/// Gives back the keys of rows that came again: `owner, rows`.
pub(crate) const GIVE_BACK_OF: &str = "DELETE FROM @.held_key WHERE owner = $1 AND row = ANY($2)";
/// Gives back all keys of a master that is gone.
pub(crate) const GIVE_BACK_ALL: &str = "DELETE FROM @.held_key WHERE owner = $1";

/// Bytes of a key that stands in the table as it is.
const LONGEST: usize = 1024;

/// A key as it stands in the table.
pub(crate) fn stored(key: &str) -> String {
    if key.len() <= LONGEST && !key.contains('\0') && !key.starts_with("blake2:") {
        return key.to_owned();
    }
    format!("blake2:{}", HEXLOWER.encode(&Blake2s256::digest(key.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::stored;

    #[test]
    fn long_keys_differ_as_short_ones_do() {
        assert_eq!(stored("k"), "k");
        let (one, two) = (format!("{}a", "x".repeat(5000)), format!("{}b", "x".repeat(5000)));
        assert!(stored(&one) != stored(&two) && stored(&one).len() < 200 && stored(&one) == stored(&one));
        assert_ne!(stored(&stored(&one)), stored(&one), "the hash of one is not the name of another");
        assert!(!stored("a\0").contains('\0'));
    }
}
