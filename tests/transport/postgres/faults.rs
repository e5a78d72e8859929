//! Sessions that are cut, servers that restart, masters that die.

use asynctask::{
    clock::Clock,
    task::{Delivery, Settlement},
    transport::{Depth, Event},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{At, attached, lost};
use crate::{
    contract::{
        Tenant as _,
        party::{Party, done, ids, setup, task, tasks},
    },
    support::{postgres, proxy::Proxy},
};

fn told(deliveries: &[Delivery]) -> Vec<(&str, u32, bool)> {
    deliveries.iter().map(|one| (one.task.id.as_str(), one.task.deliveries, one.redelivered)).collect()
}

#[test]
fn a_server_that_restarts_in_any_way_gives_each_its_own_tasks_again() {
    let Some(server) = postgres::own() else { return };
    let at = At(server.fresh_database());
    let mut one = Party::attached(&at, &[setup("foo", &[])], 2);
    let mut two = Party::attached(&at, &[setup("foo", &[])], 0);
    one.submit(tasks("foo", 3));
    let mut held = one.deliveries(2);
    two.credit(0, 1);
    let theirs = two.delivery();
    for way in ["fast", "immediate", "crash"] {
        match way {
            "fast" => server.stop(Signal::SIGINT),
            "immediate" => server.stop(Signal::SIGQUIT),
            // As the kernel does when memory runs out: the server cuts all sessions and starts again by itself.
            _ => {
                let sql = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE '%/work' LIMIT 1";
                let pid = server.sql("postgres", sql).parse().expect("a process id");
                kill(Pid::from_raw(pid), Signal::SIGKILL).expect("we may");
            }
        }
        lost(&mut one);
        lost(&mut two);
        if way != "crash" {
            server.start();
        }
        attached(&mut one);
        attached(&mut two);
        held = one.deliveries(2);
        assert_eq!(told(&held), [("0", 0, true), ("1", 0, true)], "{way}");
        let again = two.delivery();
        assert_eq!((again.task.id.as_str(), again.redelivered, again.identity), ("2", true, theirs.identity), "{way}");
    }
    for delivery in &held {
        one.settle_now(delivery.handle, done());
    }
    let depth = one.depth("foo");
    assert_eq!(depth, Depth { in_hand: 1, ..Depth::default() });
}

#[test]
fn a_thousand_tasks_of_a_dead_master_come_back_once_each() {
    let Some(at) = At::fresh() else { return };
    let mut one = Party::attached(&at, &[setup("foo", &[])], 1_000);
    one.submit(tasks("foo", 1_000));
    one.deliveries(1_000);
    // Three judge at once.
    let mut others: Vec<_> = (0..3).map(|_| Party::attached(&at, &[setup("foo", &[])], 0)).collect();
    one.kill();
    let clock = Clock::start();
    others[0].until_depth("foo", |depth| depth.ready == 1_000);
    assert!(clock.now().at.since_start().as_secs() < 10, "{:?}", clock.now().at.since_start());
    others[1].credit(0, 1_000);
    let came = others[1].deliveries(1_000);
    assert!(came.iter().all(|one| one.task.deliveries == 1 && one.redelivered));
}

#[test]
fn what_a_former_owner_settles_changes_nothing() {
    let Some(at) = At::fresh() else { return };
    let port = postgres::shared().expect("it was there").port();
    let proxy = Proxy::before(port);
    let behind = At(proxy.address(&at.0, port));
    let mut former = Party::attached(&behind, &[setup("foo", &[])], 1);
    former.submit(vec![task("foo", "a")]);
    let held = former.delivery();
    assert_eq!(former.lock(held.handle, "k"), None);
    let mut next = Party::attached(&at, &[setup("foo", &[])], 1);
    proxy.sever();
    lost(&mut former);
    let theirs = next.delivery();
    assert_eq!(told(std::slice::from_ref(&theirs)), [("a", 1, true)]);
    assert_eq!(next.lock(theirs.handle, "k"), None);
    proxy.mend();
    attached(&mut former);
    former.settle(held.handle, done());
    former.settle(held.handle, Settlement::Release);
    assert_eq!(former.depth("foo").in_hand, 1);
    former.submit(vec![task("foo", "b")]);
    let other = former.delivery();
    assert_eq!((ids(std::slice::from_ref(&other)), former.lock(other.handle, "k")), (vec!["b"], Some("a".to_owned())));
    next.settle_now(theirs.handle, done());
    assert_eq!(former.lock(other.handle, "k"), None);
}

#[test]
fn a_key_outlives_the_lost_session_of_its_owner() {
    let Some(at) = At::fresh() else { return };
    let mut one = Party::attached(&at, &[setup("foo", &[])], 1);
    let mut two = Party::attached(&at, &[setup("bar", &[])], 1);
    one.submit(vec![task("foo", "a"), task("bar", "b")]);
    let (held, theirs) = (one.delivery(), two.delivery());
    assert_eq!(one.lock(held.handle, "k"), None);
    postgres::shared().expect("it was there").cut(&at.0);
    lost(&mut one);
    lost(&mut two);
    let (held, other) = (one.delivery(), two.delivery());
    assert_eq!(theirs.identity, other.identity);
    assert_eq!(two.lock(other.handle, "k"), Some("a".to_owned()));
    assert_eq!(one.lock(held.handle, "k"), None, "its own is granted again");
    one.settle_now(held.handle, done());
    assert_eq!(two.lock(other.handle, "k"), None);
}

#[test]
fn without_notifications_tasks_are_found_all_the_same() {
    let Some(At(address)) = At::fresh() else { return };
    let at = At(format!("{address}&notify=off"));
    let mut party = Party::attached(&at, &[setup("foo", &[])], 1);
    let client = Party::client(&at);
    for number in 0..3 {
        client.submit(vec![task("foo", &number.to_string())]);
        let delivery = party.delivery();
        party.settle_now(delivery.handle, done());
    }
    party.wait("Noticed", |event| matches!(event, Event::Noticed { within: Some(_) }).then_some(()));
}
