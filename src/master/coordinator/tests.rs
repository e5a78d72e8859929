use super::*;
use crate::{
    clock::Timestamp,
    jobs::{
        definition::Step,
        entry::Entry,
        order::{Order, Wanted},
        record::Revived,
    },
    json_text::JsonText,
};

fn now(seconds: u64) -> Now {
    let at = Instant::from_start(Duration::from_secs(seconds));
    Now { at, wall: Timestamp(1_700_000_000_000 + seconds as i64 * 1000) }
}

fn pipeline(timeout: Option<Duration>) -> Pipeline {
    Pipeline { timeout, ..Pipeline::new("p", vec![Step::new("a", "qa", vec![]), Step::new("b", "qb", vec![0])]) }
}

/// One that holds the ledger, which has nothing in it.
fn holder() -> Coordinator {
    let mut coordinator = Coordinator::new("app", vec![pipeline(Some(Duration::from_mins(10)))], 7);
    assert!(matches!(coordinator.begin()[..], [Act::Ask]));
    let acts = coordinator.event(Event::LedgerHeld { epoch: 3, jobs: Vec::new(), frozen: Vec::new() }, now(0));
    assert!(matches!(&acts[..], [Act::Log(Level::Info, _)]), "{acts:?}");
    coordinator
}

fn start(entry: u64, id: &str) -> StoredEntry {
    let what = Wanted::Start {
        pipeline: "p".to_owned(),
        id: id.to_owned(),
        payload: JsonText::parse("{}").unwrap(),
        priority: 0,
        scheduled: false,
    };
    let order = Order { id: format!("order-{id}"), at: now(0).wall, what };
    self::entry(entry, &Entry::Order(Box::new(order)))
}

fn entry(id: u64, entry: &Entry) -> StoredEntry {
    StoredEntry { id: EntryId(id), body: entry.to_bytes() }
}

fn lookups(acts: &[Act]) -> Vec<EntryId> {
    let entry = |act: &Act| if let Act::LookUp { entry, .. } = act { Some(*entry) } else { None };
    acts.iter().filter_map(entry).collect()
}

fn advance(acts: &[Act]) -> Option<&Advance> {
    acts.iter().find_map(|act| if let Act::Advance(advance) = act { Some(&**advance) } else { None })
}

fn stored(coordinator: &mut Coordinator, serial: u64, at: u64) -> Vec<Act> {
    coordinator.event(Event::Advanced { serial, revived: 0, result: Ok(()) }, now(at))
}

/// Starts a job, up to the step that is to be stored.
fn started(coordinator: &mut Coordinator, entry: u64, id: &str) -> Advance {
    let acts = coordinator.event(Event::Entries(vec![start(entry, id)]), now(0));
    assert_eq!(lookups(&acts), [EntryId(entry)], "{acts:?}");
    let acts = coordinator.found(3, EntryId(entry), Ok(Vec::new()), now(0));
    advance(&acts).cloned().unwrap_or_else(|| panic!("nothing to store: {acts:?}"))
}

#[test]
fn a_step_is_under_way_alone_and_what_it_says_is_said_when_it_is_stored() {
    let mut coordinator = holder();
    let first = started(&mut coordinator, 1, "one");
    assert_eq!((first.entries.as_slice(), first.records.len()), (&[EntryId(1)][..], 1));
    assert_eq!((coordinator.entries(), coordinator.is_busy()), (Some(1), true));
    let acts = coordinator.event(Event::Entries(vec![start(2, "two")]), now(0));
    assert!(acts.is_empty(), "{acts:?}");
    let acts = stored(&mut coordinator, first.serial, 0);
    let lines = acts.iter().filter(|act| matches!(act, Act::Log(Level::Info, text) if text.contains("one"))).count();
    assert!(lines > 0, "{acts:?}");
    assert_eq!(lookups(&acts), [EntryId(2)]);
    assert!(stored(&mut coordinator, first.serial, 0).is_empty(), "it is answered once");
}

#[test]
fn a_step_that_is_refused_costs_the_ledger_which_is_asked_for_again_later_and_later() {
    let mut coordinator = holder();
    let mut serial = started(&mut coordinator, 1, "one").serial;
    for rest in [1, 2, 4] {
        let error = Error::Jobs { cause: "a key that another job holds".to_owned() };
        let acts = coordinator.event(Event::Advanced { serial, revived: 0, result: Err(error) }, now(0));
        assert!(matches!(&acts[..], [Act::Log(Level::Warning, _), Act::GiveBack]), "{acts:?}");
        assert_eq!(coordinator.wait(now(0)), Some(Duration::from_secs(rest)));
        assert!(coordinator.due(now(rest - 1)).is_empty());
        assert!(matches!(coordinator.due(now(rest))[..], [Act::Ask]));
        coordinator.event(Event::LedgerHeld { epoch: 3, jobs: Vec::new(), frozen: Vec::new() }, now(0));
        serial = started(&mut coordinator, 1, "one").serial;
    }
    stored(&mut coordinator, serial, 0);
    assert_eq!(coordinator.refused, 0);
}

#[test]
fn dead_letters_that_are_missing_twice_are_gone() {
    let mut coordinator = holder();
    let first = started(&mut coordinator, 1, "one");
    let mut record = first.records[0].clone();
    let task = first.tasks[0].membership.clone().expect("a task of the job");
    stored(&mut coordinator, first.serial, 0);
    let dead = Entry::failed(&task, now(0).wall, "crash", "no", Some("x"), None);
    let acts = coordinator.event(Event::Entries(vec![entry(2, &dead)]), now(0));
    let failed = advance(&acts).expect("it failed").clone();
    record.clone_from(&failed.records[0]);
    stored(&mut coordinator, failed.serial, 0);
    let what = Wanted::Restart {
        job: "one".to_owned(),
        steps: Vec::new(),
        only: false,
        failed: true,
        redefine: false,
        even_if_wiped: false,
    };
    let order = Order { id: "again".to_owned(), at: now(0).wall, what };
    let order = entry(3, &Entry::Order(Box::new(order)));
    let mut seen = Vec::new();
    for turn in 0..3 {
        let acts = coordinator.event(Event::Entries(vec![order.clone()]), now(turn * 100));
        let step = advance(&acts).unwrap_or_else(|| panic!("nothing to store: {acts:?}")).clone();
        seen.push((step.revived.clone(), step.void.clone()));
        let error = Error::NotRevived { round: task.round, found: 0, known: 1 };
        let acts = coordinator.event(Event::Advanced { serial: step.serial, revived: 0, result: Err(error) }, now(0));
        assert!(matches!(&acts[..], [Act::Log(Level::Warning, _), Act::GiveBack]), "{acts:?}");
        coordinator.due(now(turn * 100 + 50));
        let (jobs, frozen) = (vec![record.clone()], Vec::new());
        coordinator.event(Event::LedgerHeld { epoch: 4 + turn, jobs, frozen }, now(turn * 100 + 50));
    }
    let (back, anew) = (
        (vec![Revived { round: task.round, failed: [(task.feeder, 0)].into_iter().collect() }], Vec::new()),
        (Vec::new(), vec![task.round]),
    );
    assert_eq!(seen, [back.clone(), back, anew], "the step is done again as a whole");
}

#[test]
fn a_ledger_that_is_lost_is_forgotten_with_all_that_was_not_stored() {
    let mut coordinator = holder();
    let first = started(&mut coordinator, 1, "one");
    assert!(matches!(coordinator.event(Event::LedgerLost, now(0))[..], [Act::Log(Level::Warning, _)]));
    assert!(stored(&mut coordinator, first.serial, 0).is_empty());
    assert!(coordinator.found(3, EntryId(1), Ok(Vec::new()), now(0)).is_empty());
    assert_eq!((coordinator.is_holding(), coordinator.counts()), (false, None));
    assert!(matches!(coordinator.event(Event::LedgerRefused, now(0))[..], [Act::Log(Level::Info, _)]));
    assert!(coordinator.event(Event::LedgerRefused, now(1)).is_empty(), "said once");
}

#[test]
fn jobs_that_cannot_be_read_are_looked_up_again() {
    let mut coordinator = holder();
    coordinator.event(Event::Entries(vec![start(1, "one")]), now(0));
    let acts = coordinator.found(3, EntryId(1), Err(Error::Closed), now(0));
    assert!(matches!(acts[..], [Act::Log(Level::Warning, _)]), "{acts:?}");
    assert_eq!(coordinator.wait(now(0)), Some(LOOK_AGAIN));
    assert_eq!(lookups(&coordinator.due(now(1))), [EntryId(1)]);
    assert!(lookups(&coordinator.due(now(5))).is_empty(), "it is under way");
    assert!(coordinator.found(2, EntryId(1), Ok(Vec::new()), now(1)).is_empty(), "of an earlier ledger");
    assert!(advance(&coordinator.found(3, EntryId(1), Ok(Vec::new()), now(1))).is_some());
}

#[test]
fn nothing_is_waited_for_but_the_moment_of_a_timer() {
    let mut coordinator = holder();
    assert_eq!(coordinator.wait(now(0)), None);
    let serial = started(&mut coordinator, 1, "one").serial;
    assert_eq!(coordinator.wait(now(0)), None, "the answer comes by itself");
    stored(&mut coordinator, serial, 0);
    assert_eq!(coordinator.wait(now(0)), Some(Duration::from_mins(10)));
    assert!(coordinator.due(now(599)).is_empty());
    let acts = coordinator.due(now(600));
    let step = advance(&acts).unwrap_or_else(|| panic!("the job's time is over: {acts:?}"));
    assert!(!step.void.is_empty(), "{step:?}");
}

#[test]
fn a_wall_clock_that_is_set_ends_no_job_early() {
    let mut coordinator = holder();
    let serial = started(&mut coordinator, 1, "one").serial;
    stored(&mut coordinator, serial, 0);
    let set = |seconds, hours: i64| {
        let Now { at, wall } = now(seconds);
        Now { at, wall: Timestamp(wall.0 + hours * 3_600_000) }
    };
    // Ahead, and then half of the way back. What a coordinator that takes over must know is stored.
    for (at, hours, still) in [(100, 2, 7_200_000), (200, 1, 3_600_000)] {
        let acts = coordinator.due(set(at, hours));
        let step = advance(&acts).unwrap_or_else(|| panic!("the time is stored: {acts:?}")).clone();
        assert!(step.void.is_empty(), "it goes on: {step:?}");
        assert!(step.records[0].content.contains(&format!("\"stood_still\":{still}")), "{step:?}");
        coordinator.event(Event::Advanced { serial: step.serial, revived: 0, result: Ok(()) }, set(at, hours));
        assert_eq!(coordinator.wait(set(at, hours)), Some(Duration::from_secs(600 - at)));
    }
    assert!(coordinator.due(set(599, 1)).is_empty(), "a step by which a clock is kept in time is none");
    let acts = coordinator.due(set(600, 1));
    assert!(advance(&acts).is_some_and(|step| !step.void.is_empty()), "the job's time is over: {acts:?}");
}

#[test]
fn entries_of_a_list_are_counted_each() {
    let mut coordinator = holder();
    let serial = started(&mut coordinator, 1, "one").serial;
    let list = StoredEntry { id: EntryId(2), body: b"\n{\n{\n{".to_vec() };
    coordinator.event(Event::Entries(vec![list]), now(0));
    assert_eq!(coordinator.entries(), Some(4));
    stored(&mut coordinator, serial, 0);
    assert_eq!(coordinator.entries(), Some(3));
}

#[test]
fn more_than_a_step_takes_is_folded_in_several() {
    let mut coordinator = holder();
    let serial = started(&mut coordinator, 0, "first").serial;
    let forged = |id| StoredEntry { id: EntryId(id), body: b"{".to_vec() };
    coordinator.event(Event::Entries((1..=600).map(forged).collect()), now(0));
    let mut acts = stored(&mut coordinator, serial, 0);
    let mut counts = Vec::new();
    while let Some(step) = advance(&acts) {
        counts.push(step.entries.len());
        let serial = step.serial;
        acts = stored(&mut coordinator, serial, 0);
    }
    assert_eq!(counts, [256, 256, 88]);
    assert!(!coordinator.is_busy());
}

#[test]
fn who_does_not_want_the_ledger_gives_it_back() {
    let mut coordinator = holder();
    assert!(matches!(coordinator.end()[..], [Act::GiveBack]));
    assert!(coordinator.end().is_empty());
    let late = coordinator.event(Event::LedgerHeld { epoch: 4, jobs: Vec::new(), frozen: Vec::new() }, now(0));
    assert!(matches!(late[..], [Act::GiveBack]));
}
