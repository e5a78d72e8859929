//! `asynctask.submit` in the transactions of others.

use std::time::Duration;

use asynctask::clock::Clock;

use super::At;
use crate::{
    contract::{
        Tenant as _,
        party::{Party, done, setup},
    },
    support::postgres,
};

#[test]
fn a_task_is_there_if_and_only_if_the_transaction_was_committed() {
    let Some(at) = At::fresh() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[])], 10);
    at.sql("BEGIN; SELECT asynctask.submit('foo', '{\"n\": 1}'); ROLLBACK");
    at.sql(
        "BEGIN; SELECT asynctask.submit('foo', '{\"n\": 2}', id => 'two'); SAVEPOINT s; \
         SELECT asynctask.submit('foo', '{\"n\": 3}'); ROLLBACK TO s; COMMIT",
    );
    let delivery = party.delivery();
    assert_eq!((&delivery.task.id[..], &delivery.task.body[..]), ("two", &b"{\"n\": 2}"[..]));
    party.settle_now(delivery.handle, done());
    // Bytes, JSON, headers, a delay.
    at.sql("SELECT asynctask.submit('foo', '\\x00ff'::bytea), asynctask.submit('foo', '[1]'::jsonb, headers => '{\"a\": 1}')");
    let came = party.deliveries(2);
    assert_eq!((&came[0].task.body[..], &came[1].task.body[..]), (&[0, 255][..], &b"[1]"[..]));
    assert_eq!(came[1].task.headers["a"], 1);
    let clock = Clock::start();
    at.sql("SELECT asynctask.submit('foo', '4', delay => '300 milliseconds')");
    party.delivery();
    assert!(clock.now().at.since_start() >= Duration::from_millis(300));
}

#[test]
fn what_is_no_task_is_refused_and_a_role_may_be_allowed_to_submit_alone() {
    let Some(at) = At::fresh() else { return };
    let server = postgres::shared().expect("it was there");
    let database = postgres::database(&at.0);
    Party::attached(&at, &[setup("foo", &[])], 0).close();
    for bad in [
        "'a b', '1'",
        "'asynctask.ledger.x', '1'",
        "'foo', 'no JSON'",
        "'foo', '1', headers => '[]'",
        "'foo', '1', delay => '-1 second'",
        "NULL, '1'",
    ] {
        assert!(server.try_sql(database, &format!("SELECT asynctask.submit({bad})")).is_err(), "{bad}");
    }
    let role = format!("only_{database}");
    let submit = format!("SET ROLE {role}; SELECT asynctask.submit('foo', '1')");
    at.sql(&format!("CREATE ROLE {role}; GRANT USAGE ON SCHEMA asynctask TO {role}"));
    assert!(server.try_sql(database, &submit).is_err());
    at.sql(&format!(
        "GRANT EXECUTE ON FUNCTION asynctask.submit(text, text, interval, text, timestamptz, text, boolean) TO {role}"
    ));
    at.sql(&submit);
    assert!(server.try_sql(database, &format!("SET ROLE {role}; SELECT * FROM asynctask.task")).is_err());
    assert_eq!(Party::client(&at).depth("foo").ready, 1);
    at.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
