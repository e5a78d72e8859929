//! What a task left for its next attempt.

use std::time::Duration;

use asynctask::{
    clock::Timestamp,
    json_text::JsonText,
    task::{Failure, Reason, Settlement},
    transport::Visit,
};

use super::{
    Tenant,
    party::{Party, setup, task},
};

const SOON: Duration = Duration::from_millis(20);

#[expect(clippy::unnecessary_wraps, reason = "what a field holds")]
pub fn memo(text: &str) -> Option<JsonText> {
    Some(JsonText::parse(text).expect("JSON"))
}

fn failure(memo: Option<JsonText>) -> Box<Failure> {
    let mut failure = Failure::new(Reason::Error, "no", Timestamp(1_000));
    failure.memo = memo;
    Box::new(failure)
}

pub fn a_memo_comes_back_with_its_task<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&work, &[SOON])], 1);
    party.submit(vec![task(&work, "a")]);
    let first = party.delivery();
    assert_eq!(first.task.memo, None);
    party.settle_now(first.handle, Settlement::Snooze { after: SOON, memo: memo("{\"n\":  1e400, \"ä\":[1]}") });
    let second = party.delivery();
    assert_eq!(second.task.memo, memo("{\"n\":  1e400, \"ä\":[1]}"));
    // What says nothing leaves it.
    party.settle_now(second.handle, Settlement::Snooze { after: SOON, memo: None });
    let third = party.delivery();
    assert_eq!(third.task.memo, second.task.memo);
    party.settle_now(third.handle, Settlement::Retry { after: SOON, failure: failure(memo("2")) });
    let fourth = party.delivery();
    assert_eq!((&fourth.task.memo, fourth.task.attempts), (&memo("2"), 1));
    party.settle_now(fourth.handle, Settlement::Release);
    let fifth = party.delivery();
    assert_eq!(fifth.task.memo, memo("2"));
    party.settle_now(fifth.handle, Settlement::Retry { after: SOON, failure: failure(None) });
    assert_eq!(party.delivery().task.memo, memo("2"));
}

pub fn a_memo_of_an_accepted_task_is_kept<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&work, &[SOON])], 1);
    party.submit(vec![task(&work, "a")]);
    for number in ["1", "2"] {
        let delivery = party.delivery();
        party.settle_now(delivery.handle, Settlement::Accept);
        party.settle_now(delivery.handle, Settlement::Snooze { after: SOON, memo: memo(number) });
    }
    assert_eq!(party.delivery().task.memo, memo("2"));
}

pub fn a_memo_is_in_the_dead_letter_and_comes_back_from_it<T: Tenant>(tenant: &T) {
    let work = tenant.queue("foo");
    let mut party = Party::attached(tenant, &[setup(&work, &[SOON])], 2);
    party.submit(vec![task(&work, "a"), task(&work, "b")]);
    for delivery in party.deliveries(2) {
        party.settle_now(delivery.handle, Settlement::Snooze { after: SOON, memo: memo("1") });
    }
    for delivery in party.deliveries(2) {
        let said = if delivery.task.id == "a" { memo("\"last\"") } else { None };
        party.settle_now(delivery.handle, Settlement::Dead(failure(said)));
    }
    let expected = |id: &str| if id == "a" { memo("\"last\"") } else { memo("1") };
    let letters = party.dead_letters(&work);
    assert_eq!(letters.len(), 2);
    for letter in &letters {
        assert_eq!(letter.memo, expected(&letter.id), "{}", letter.id);
    }
    assert_eq!(party.walk(&work, |_| Visit::Retry { body: None }).retried, 2);
    for delivery in party.deliveries(2) {
        assert_eq!(delivery.task.memo, expected(&delivery.task.id), "{}", delivery.task.id);
    }
}
