//! Follow-ups that a broker can never take: whoever asked is told, the task stays, and nothing is tried for ever.

use std::time::Duration;

use asynctask::{
    clock::Timestamp,
    task::{Failure, Handle, NewTask, Reason, Settlement},
    transport::Event,
};

use super::At;
use crate::contract::party::{Party, done, ids, setup, task};
use crate::support::broker;

/// Of this test's broker alone. No other test of this program sends so much.
const LARGEST: usize = 4 << 20;

fn unstorable(party: &mut Party<'_, At>, of: Handle) -> String {
    party.wait("Unstorable", |event| match event {
        Event::Unstorable { handle, error, .. } => {
            assert_eq!(*handle, of);
            Some(error.to_string())
        }
        _ => None,
    })
}

fn too_large() -> Option<At> {
    let at = At::fresh()?;
    broker::shared()?.limit_message_size(LARGEST);
    Some(at)
}

fn large(queue: &str) -> NewTask {
    NewTask { body: vec![b'x'; LARGEST + 1], ..task(queue, "large") }
}

#[test]
fn what_is_too_large_is_told_and_the_task_is_settled_otherwise() {
    let Some(at) = too_large() else { return };
    let mut party = Party::attached(&at, &[setup("foo", &[Duration::from_millis(100)]), setup("bar", &[])], 0);
    party.submit(vec![task("foo", "a"), task("foo", "b"), task("foo", "c")]);
    party.credit(0, 3);
    let held = party.deliveries(3);
    party.settle_now(held[2].handle, Settlement::Accept);
    for delivery in &held {
        let submit = vec![task("bar", "small"), large("bar"), task("bar", "last")];
        party.settle(delivery.handle, Settlement::Done { submit });
        let error = unstorable(&mut party, delivery.handle);
        assert!(error.contains("\"bar\"") && error.contains("size"), "{error}");
    }
    let failure = || Box::new(Failure::new(Reason::Error, "too large", Timestamp(1_700_000_000_123)));
    party.settle_now(held[0].handle, Settlement::Dead(failure()));
    party.settle_now(held[1].handle, Settlement::Retry { after: Duration::from_millis(100), failure: failure() });
    party.settle_now(held[2].handle, Settlement::Dead(failure()));
    let again = party.delivery();
    assert_eq!((again.task.id.as_str(), again.task.attempts), ("b", 1));
    party.settle_now(again.handle, done());
    assert_eq!(party.dead_letters("foo").len(), 2);
    // What was stored beside the large one is there, perhaps more than once: its id tells.
    party.until_depth("bar", |depth| depth.ready >= 3);
    party.credit(1, 1);
    assert_ne!(ids(&party.deliveries(1)), ["large"]);
}

#[test]
fn what_is_forbidden_is_told_too() {
    let Some(at) = At::fresh() else { return };
    let vhost = at.0.rsplit('/').next().expect("a virtual host").to_owned();
    let mut party = Party::attached(&at, &[setup("foo", &[])], 1);
    party.submit(vec![task("foo", "a")]);
    let delivery = party.delivery();
    let allowed = ["set_permissions", "-p", &vhost, "guest", "^foo", ".*", ".*"];
    broker::shared().expect("it was there").control(&allowed);
    party.settle(delivery.handle, Settlement::Done { submit: vec![task("bar", "b")] });
    let error = unstorable(&mut party, delivery.handle);
    assert!(error.contains("\"bar\"") && error.contains("ACCESS_REFUSED"), "{error}");
    // Put right by a person, the same works.
    broker::shared().expect("it was there").control(&["set_permissions", "-p", &vhost, "guest", ".*", ".*", ".*"]);
    party.settle_now(delivery.handle, Settlement::Done { submit: vec![task("bar", "b")] });
    party.until_depth("bar", |depth| depth.ready == 1);
}
