//! Looking through dead letters: groups of one mistake, and pages.

use asynctask::{
    clock::{Clock, Timestamp},
    task::{Failure, Reason, Settlement},
    transport::{
        DeadQueue, Request, Visit,
        dead_page::{DeadFilter, DeadFound, DeadGroup, DeadKey, DeadPage, DeadPlace},
    },
};

use super::{
    Tenant,
    party::{Party, setup, tasks},
};

fn groups<T: Tenant>(party: &Party<'_, T>, queue: &str) -> Option<Vec<DeadGroup>> {
    party.call(|reply| Request::DeadGroups { queue: DeadQueue::of(queue), reply }).expect("groups")
}

fn page<T: Tenant>(
    party: &Party<'_, T>,
    queue: &str,
    filter: &DeadFilter,
    after: Option<DeadPlace>,
    limit: usize,
) -> Option<DeadPage> {
    let (queue, filter) = (DeadQueue::of(queue), filter.clone());
    party.call(|reply| Request::DeadPage { queue, filter, after, limit, reply }).expect("a page")
}

/// The ids of all pages, each of so many.
fn paged<T: Tenant>(party: &Party<'_, T>, queue: &str, filter: &DeadFilter, limit: usize) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let DeadPage { rows, next } = page(party, queue, filter, after, limit).expect("it has pages");
        assert!(rows.len() <= limit && (next.is_none() || rows.len() == limit));
        all.extend(rows.into_iter().map(|row| row.id));
        match next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

/// A party whose queue has twelve dead letters: every third is `Crash` with its number in the error, the others `Error`.
fn with_dead<'a, T: Tenant>(tenant: &'a T, queue: &str) -> Party<'a, T> {
    let mut party = Party::attached(tenant, &[setup(queue, &[])], 12);
    party.submit(tasks(queue, 12));
    let now = Clock::wall();
    for (number, delivery) in party.deliveries(12).iter().enumerate() {
        let died_at = Timestamp(now.0 + number as i64);
        let failure = if number % 3 == 0 {
            Failure::new(Reason::Crash, format!("died at {number}"), died_at)
        } else {
            Failure { output_tail: "x".repeat(8000), ..Failure::new(Reason::Error, "no luck", died_at) }
        };
        party.settle_now(delivery.handle, Settlement::Dead(Box::new(failure)));
    }
    party.until_depth(queue, |depth| depth.failed == 12);
    party
}

pub fn dead_letters_are_grouped_by_their_mistake<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let party = with_dead(tenant, &queue);
    let Some(found) = groups(&party, &queue) else {
        assert!(!T::PAGES_DEAD_LETTERS);
        return;
    };
    let said = |group: &DeadGroup| (group.reason.clone(), group.error.clone(), group.count);
    assert_eq!(
        found.iter().map(said).collect::<Vec<_>>(),
        [("error".into(), "no luck".into(), 8), ("crash".into(), "died at 9".into(), 4)]
    );
    for group in &found {
        assert_eq!((group.last_hour, group.last_day), (group.count, group.count));
        assert!(group.first < group.last);
    }
    // What goes back to work is in no group any more, and what is dead again is.
    party.walk(&queue, |letter| if letter.reason == "crash" { Visit::Retry { body: None } } else { Visit::Keep });
    assert_eq!(groups(&party, &queue).expect("groups").len(), 1);
    assert_eq!(groups(&party, "nobody-knows-it"), Some(Vec::new()));
}

pub fn dead_letters_are_paged_the_newest_first<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let party = with_dead(tenant, &queue);
    let all = DeadFilter::default();
    let Some(first) = page(&party, &queue, &all, None, 5) else {
        assert!(!T::PAGES_DEAD_LETTERS);
        return;
    };
    let newest_first: Vec<String> = (0..12).rev().map(|number: u32| number.to_string()).collect();
    assert_eq!(first.rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>(), newest_first[..5]);
    let row = &first.rows[0];
    assert_eq!(
        (row.reason.as_str(), row.failure.error.as_str(), row.failure.output_tail.len()),
        ("error", "no luck", 0)
    );
    let letters = party.dead_letters(&queue);
    assert!(letters.iter().any(|letter| letter.id == row.id && letter.fingerprint() == row.fingerprint));
    for limit in [1, 5, 6, 12, 100] {
        assert_eq!(paged(&party, &queue, &all, limit), newest_first, "by {limit}");
    }
    let of = |reason: Option<&str>, fingerprint: Option<&str>| DeadFilter {
        reason: reason.map(str::to_owned),
        fingerprint: fingerprint.map(str::to_owned),
    };
    let crashes = ["9", "6", "3", "0"].map(str::to_owned);
    let letter = letters.iter().find(|letter| letter.reason == "crash").expect("there are four");
    let fingerprint = letter.fingerprint();
    for filter in [of(Some("crash"), None), of(None, Some(&fingerprint)), of(Some("crash"), Some(&fingerprint))] {
        assert_eq!(paged(&party, &queue, &filter, 3), crashes, "{filter:?}");
    }
    assert_eq!(paged(&party, &queue, &of(Some("error"), Some(&fingerprint)), 3), [""; 0]);
    assert_eq!(paged(&party, &queue, &of(Some("'; --"), None), 3), [""; 0]);
}

pub fn a_dead_letter_is_found_by_its_id_and_by_its_place<T: Tenant>(tenant: &T) {
    let queue = tenant.queue("foo");
    let party = with_dead(tenant, &queue);
    let find = |id: Option<&str>, place: Option<DeadPlace>| {
        let key = DeadKey { id: id.map(str::to_owned), place };
        party.call(|reply| Request::DeadLetter { queue: DeadQueue::of(&queue), key, reply }).expect("an answer")
    };
    let Some(DeadPage { rows, .. }) = page(&party, &queue, &DeadFilter::default(), None, 12) else {
        assert_eq!(find(Some("3"), None), DeadFound::Impossible);
        return;
    };
    let letters = party.dead_letters(&queue);
    for row in &rows {
        let letter = letters.iter().find(|letter| letter.id == row.id).expect("it was walked");
        let found = DeadFound::Letter(Box::new(letter.clone()));
        assert_eq!(find(Some(&row.id), Some(row.place)), found);
        assert_eq!(find(Some(&row.id), None), found);
        assert_eq!(find(None, Some(row.place)), found);
        // A place that is another's now.
        assert_eq!(find(Some("3"), Some(row.place)), find(Some("3"), None));
    }
    let elsewhere = DeadPlace { number: i64::MAX, ..rows[0].place };
    assert_eq!(find(None, Some(elsewhere)), DeadFound::Absent);
    assert_eq!(find(Some("'; --"), None), DeadFound::Absent);
    assert_eq!(find(None, None), DeadFound::Absent);
}
