//! Databases that cannot be used, and how that is said.

use asynctask::transport::{Error, Event, Request};

use super::At;
use crate::{
    contract::{
        Tenant as _,
        party::{Party, setup, task},
    },
    support::postgres,
};

fn refused(at: &At, passive: bool) -> String {
    let mut party = Party::client(at);
    party.ask(Request::Attach { queues: vec![setup("foo", &[])], passive });
    party.wait("Refused", |event| match event {
        Event::Refused(error) => Some(error.to_string()),
        _ => None,
    })
}

#[test]
fn what_is_not_there_or_not_ours_is_said() {
    let Some(at) = At::fresh() else { return };
    let database = postgres::database(&at.0);
    let absent = At(at.0.replace(database, "no_such_database"));
    assert!(refused(&absent, false).contains("does not exist"));
    let client = Party::client(&absent);
    let error = client.call(|reply| Request::Submit { tasks: vec![task("foo", "a")], reply }).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }) && error.hint().is_some_and(|hint| hint.contains("createdb")));
    assert!(refused(&at, true).contains("asynctask schema --sql"));
    assert_eq!(at.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'asynctask'"), "0", "passive makes nothing");
    Party::attached(&at, &[setup("foo", &[])], 0).close();
    at.sql("UPDATE asynctask.meta SET version = 99, oldest_program = 1");
    Party::attached(&at, &[setup("foo", &[])], 0).close();
    at.sql("UPDATE asynctask.meta SET oldest_program = 99");
    assert!(refused(&at, false).contains("use a newer asynctask"));
}

#[test]
fn settings_of_the_role_are_overridden() {
    let Some(at) = At::fresh() else { return };
    let database = postgres::database(&at.0);
    for setting in [
        "default_transaction_isolation = serializable",
        "statement_timeout = 1000",
        "idle_session_timeout = 300",
        "jit = on",
        "search_path = nowhere",
    ] {
        at.sql(&format!("ALTER DATABASE {database} SET {setting}"));
    }
    let mut party = Party::attached(&at, &[setup("foo", &[])], 1);
    // Longer than an idle session of this database lives.
    assert_eq!(at.sql("SELECT pg_sleep(0.6) IS NOT NULL"), "t");
    party.submit(vec![task("foo", "a")]);
    assert_eq!(party.delivery().task.id, "a");
}

#[test]
fn several_schemas_share_a_database() {
    let Some(at) = At::fresh() else { return };
    let other = At(format!("{}&schema=other", at.0));
    let mut one = Party::attached(&at, &[setup("foo", &[])], 1);
    let mut two = Party::attached(&other, &[setup("foo", &[])], 1);
    two.submit(vec![task("foo", "b")]);
    assert_eq!(two.delivery().task.id, "b");
    one.submit(vec![task("foo", "a")]);
    assert_eq!(one.delivery().task.id, "a");
}

#[test]
fn the_schema_can_be_made_by_hand() {
    let Some(at) = At::fresh() else { return };
    let uri = asynctask::transport::read_uri(&at.0, std::path::Path::new("/")).expect("an address");
    at.sql(&asynctask::transport::schema_sql(&uri).expect("SQL"));
    let mut party = Party::client(&at);
    party.ask(Request::Attach { queues: Vec::new(), passive: true });
    party.wait("Attached", |event| matches!(event, Event::Attached { .. }).then_some(()));
    assert!(asynctask::transport::schema_version(&uri).expect("it answers").contains("is at version"));
}
