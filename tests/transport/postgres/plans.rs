//! Which indexes are used: what is claimed and settled goes through no table, whatever statistics say.

use super::At;
use crate::contract::{
    Tenant as _,
    party::{Party, done, setup, tasks},
};

#[test]
fn claims_and_settlements_scan_no_table() {
    let Some(at) = At::fresh() else { return };
    Party::attached(&at, &[setup("foo", &[])], 0).close();
    // Statistics of an empty table, by which a scan of all of it looks cheap.
    at.sql("ANALYZE asynctask.task");
    let before = scans(&at);
    let mut party = Party::attached(&at, &[setup("foo", &[])], 50);
    party.submit(tasks("foo", 2_000));
    for _ in 0..40 {
        let came = party.deliveries(50);
        let handles: Vec<_> = came.iter().map(|one| one.handle).collect();
        for handle in &handles {
            party.settle(*handle, done());
        }
        party.settled(&handles);
    }
    party.close();
    assert_eq!(scans(&at), before);
}

/// How often all of the table was read. What made its indexes read it, too; sessions tell what they did when they end.
fn scans(at: &At) -> String {
    at.sql("SELECT pg_stat_force_next_flush(); SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'task'")
}
