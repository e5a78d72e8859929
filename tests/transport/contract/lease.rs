//! One scheduler an application, and what it remembers.

use asynctask::{
    clock::Timestamp,
    transport::{Event, Request, ScheduleMemory},
};

use super::{
    Tenant,
    party::{Party, setup, task},
};

fn wish<'a, T: Tenant>(tenant: &'a T, application: &str) -> Party<'a, T> {
    let party = Party::attached(tenant, &[setup(&tenant.queue("foo"), &[])], 0);
    party.ask(Request::Lease { application: application.to_owned() });
    party
}

fn refused<T: Tenant>(party: &mut Party<'_, T>) {
    party.wait("LeaseRefused", |event| matches!(event, Event::LeaseRefused).then_some(()));
}

/// One that holds the lease, and one that was refused and keeps asking.
fn holder_and_waiting<'a, T: Tenant>(tenant: &'a T, application: &str) -> (Party<'a, T>, Party<'a, T>) {
    let mut first = wish(tenant, application);
    first.lease_held();
    let mut second = wish(tenant, application);
    refused(&mut second);
    (first, second)
}

pub fn the_lease_has_one_holder<T: Tenant>(tenant: &T) {
    let (app, other) = (tenant.queue("app"), tenant.queue("other-app"));
    let mut first = wish(tenant, &app);
    assert!(first.lease_held().is_empty());
    let mut second = wish(tenant, &app);
    refused(&mut second);
    // Another application is another lease.
    assert!(wish(tenant, &other).lease_held().is_empty());
}

pub fn the_lease_is_taken_over_from_a_closed_holder<T: Tenant>(tenant: &T) {
    let app = tenant.queue("app");
    let (mut first, mut second) = holder_and_waiting(tenant, &app);
    assert!(first.fire("nightly", Timestamp(1_000), None).expect("stored"));
    assert!(first.fire("nightly", Timestamp(3_000), None).expect("stored"));
    assert!(first.fire("hourly", Timestamp(2_000), None).expect("stored"));
    first.close();
    let memory = second.lease_held();
    assert_eq!(memory, [("hourly".to_owned(), Timestamp(2_000)), ("nightly".to_owned(), Timestamp(3_000))]);
}

pub fn the_lease_is_taken_over_from_a_killed_holder<T: Tenant>(tenant: &T) {
    let app = tenant.queue("app");
    let (mut first, mut second) = holder_and_waiting(tenant, &app);
    assert!(first.fire("nightly", Timestamp(1_000), None).expect("stored"));
    first.kill();
    assert_eq!(second.lease_held(), [("nightly".to_owned(), Timestamp(1_000))]);
    assert!(!second.fire("nightly", Timestamp(1_000), None).expect("an answer"));
    assert!(second.fire("nightly", Timestamp(2_000), None).expect("stored"));
}

pub fn a_lease_given_back_can_be_asked_for_again<T: Tenant>(tenant: &T) {
    let app = tenant.queue("app");
    let (mut first, mut second) = holder_and_waiting(tenant, &app);
    first.ask(Request::ReleaseLease);
    assert!(second.lease_held().is_empty());
    first.ask(Request::Lease { application: app });
    refused(&mut first);
    second.ask(Request::ReleaseLease);
    first.lease_held();
}

pub fn a_moment_fires_once<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let mut first = wish(tenant, &tenant.queue("app"));
    first.lease_held();
    first.credit(0, 10);
    for moment in [1_000, 2_000, 3_000] {
        let id = format!("at-{moment}");
        assert!(first.fire("s", Timestamp(moment), Some(task(&queue, &id))).expect("stored"));
        assert_eq!(first.delivery().task.id, id);
        assert!(!first.fire("s", Timestamp(moment), Some(task(&queue, "again"))).expect("an answer"));
    }
    // The same moment of another schedule is another moment.
    assert!(first.fire("t", Timestamp(3_000), Some(task(&queue, "t"))).expect("stored"));
    assert_eq!(first.delivery().task.id, "t");
    first.until_depth(&queue, |depth| depth.ready == 0);
    assert!(first.delivered_so_far().is_empty(), "a moment fired twice");
}

pub fn a_skipped_moment_is_remembered<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let app = tenant.queue("app");
    let mut first = wish(tenant, &app);
    first.lease_held();
    assert!(first.fire("s", Timestamp(1_000), None).expect("stored"));
    assert!(first.fire("s", Timestamp(2_000), Some(task(&queue, "a"))).expect("stored"));
    assert!(first.fire("s", Timestamp(5_000), None).expect("stored"));
    first.close();
    let mut second = wish(tenant, &app);
    assert_eq!(second.lease_held(), [("s".to_owned(), Timestamp(5_000))]);
    second.until_depth(&queue, |depth| depth.ready == 1);
}

pub fn firing_needs_the_lease<T: Tenant>(tenant: &T) {
    let app = tenant.queue("app");
    let queue = tenant.queue("foo");
    let (mut first, mut second) = holder_and_waiting(tenant, &app);
    assert!(second.fire("s", Timestamp(1_000), Some(task(&queue, "a"))).is_err());
    assert!(first.fire("s", Timestamp(1_000), None).expect("stored"));
    first.until_depth(&queue, |depth| depth.ready == 0);
}

pub fn the_memory_of_schedules_is_seen_without_the_lease<T: Tenant>(tenant: &T) {
    let (app, other) = (tenant.queue("app"), tenant.queue("other-app"));
    let client = Party::client(tenant);
    let seen = |application: &str| {
        let application = application.to_owned();
        client.call(|reply| Request::ScheduleMemory { application, reply }).expect("an answer")
    };
    if !T::SHOWS_SCHEDULES {
        return assert_eq!(seen(&app), None);
    }
    assert_eq!(seen(&app), Some(ScheduleMemory::default()), "nothing was ever there");
    let mut first = wish(tenant, &app);
    first.lease_held();
    for (schedule, moment) in [("nightly", 1_000), ("hourly", 2_000), ("nightly", 3_000)] {
        assert!(first.fire(schedule, Timestamp(moment), None).expect("stored"));
    }
    let moments = vec![("hourly".to_owned(), Timestamp(2_000)), ("nightly".to_owned(), Timestamp(3_000))];
    let memory = seen(&app).expect("it is shown");
    assert_eq!((memory.moments, memory.is_led), (moments.clone(), true));
    assert!(memory.masters.iter().all(|pid| *pid == std::process::id()), "{:?}", memory.masters);
    // Looking takes nothing away, and another application has schedules of its own.
    assert!(first.fire("nightly", Timestamp(4_000), None).expect("stored"));
    let foreign = seen(&other).expect("it is shown");
    assert!(foreign.moments.is_empty() && !foreign.is_led, "{foreign:?}");
    first.close();
    let memory = seen(&app).expect("it is shown");
    assert_eq!((memory.moments.len(), memory.is_led), (2, false));
    assert!(wish(tenant, &app).lease_held().contains(&("nightly".to_owned(), Timestamp(4_000))));
}
