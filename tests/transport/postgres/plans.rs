//! Which indexes are used: what is claimed and settled goes through no table, whatever statistics say.

use super::At;
use crate::contract::{
    Tenant as _,
    party::{Party, done, setup, tasks},
};

#[test]
fn claims_and_settlements_scan_no_table() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[])], 50);
    // Statistics of an empty table, by which a scan of all of it looks cheap.
    at.sql("ANALYZE asynctask.task");
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
    // Sessions tell the server what they did when they end.
    let scans = "SELECT pg_stat_force_next_flush(); SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'task'";
    let scans = at.sql(scans);
    assert_eq!(scans.lines().last().unwrap_or_default().trim(), "1", "beside that of ANALYZE or of making it: {scans}");
}
