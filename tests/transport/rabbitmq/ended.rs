//! Jobs that have ended, while the queue that lists them takes nothing: no other job waits for that, and none of them is lost.

use asynctask::{
    clock::Clock,
    jobs::record::{Advance, JobFilter, JobState, Record},
    transport::Event,
};

use super::At;
use crate::{
    contract::{
        jobs::{APP, coordinator, coordinator_told, jobs, record},
        party::Party,
    },
    support::{broker, foreign::Foreign, log::until},
};

fn queue() -> String {
    format!("asynctask.jobs.{APP}.ended")
}

fn ended(id: &str, version: u64) -> Record {
    let purge_at = Some(Clock::wall().plus(std::time::Duration::from_hours(1)));
    Record { state: JobState::Done, open: false, purge_at, ..record(id, version, &[]) }
}

fn stores(party: &mut Party<'_, At>, records: Vec<Record>) {
    party.advanced(Advance { records, ..Advance::default() });
}

fn listed(party: &Party<'_, At>, open: bool) -> Vec<(String, bool)> {
    let mut all: Vec<_> = jobs(party, JobFilter { open, ..JobFilter::default() })
        .into_iter()
        .map(|record| (record.id, record.open))
        .collect();
    all.sort();
    all
}

fn job(id: &str, is_open: bool) -> (String, bool) {
    (id.to_owned(), is_open)
}

fn warned(party: &mut Party<'_, At>, of: &str) -> String {
    party.wait("Warning", |event| match event {
        Event::Warning(text) if text.contains(&queue()) && text.contains(of) => Some(text.clone()),
        _ => None,
    })
}

#[test]
fn jobs_go_on_while_the_queue_of_ended_ones_is_full() {
    let Some(at) = At::fresh() else { return };
    let foreign = Foreign::connect(&at.0);
    foreign.declare_full(&queue());
    let mut party = coordinator(&at, 0);
    stores(&mut party, vec![ended("a", 1), ended("b", 1), record("c", 1, &[])]);
    let warning = warned(&mut party, "does not take");
    assert!(warning.contains("2 of them wait") && warning.contains("delete that queue"), "{warning}");
    assert_eq!(listed(&party, false), [job("a", false), job("b", false), job("c", true)]);
    assert_eq!(listed(&party, true), [job("c", true)]);
    // Whoever takes the ledger over goes on with them, and is told of the open ones alone.
    party.kill();
    let (mut next, open) = coordinator_told(&at, 0);
    assert_eq!(open.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["c"]);
    // One that begins again waits no more.
    stores(&mut next, vec![record("a", 2, &[])]);
    assert_eq!(listed(&next, true), [job("a", true), job("c", true)]);
    stores(&mut next, vec![ended("a", 3)]);
    warned(&mut next, "does not take");
    foreign.delete(&queue());
    warned(&mut next, "takes jobs that have ended again");
    until("both are among the ended ones", || foreign.ready(&queue()) == 2);
    assert_eq!(listed(&next, false), [job("a", false), job("b", false), job("c", true)]);
    stores(&mut next, vec![ended("c", 2)]);
    until("what ends later is, too", || foreign.ready(&queue()) == 3);
    next.kill();
    assert_eq!(coordinator_told(&at, 0).1, [], "none waits where the open ones are");
}

#[test]
fn jobs_go_on_while_the_queue_of_ended_ones_has_no_leader() {
    let Some(at) = At::fresh() else { return };
    let broker = broker::controlled().expect("it was there");
    let mut party = coordinator(&at, 0);
    stores(&mut party, vec![record("a", 1, &[])]);
    let vhost = at.0.rsplit('/').next().expect("an address names a virtual host");
    let member = format!("{{binary_to_atom(<<\"{vhost}_{}\">>), node()}}", queue());
    broker.control(&["eval", &format!("ra:stop_server(quorum_queues, {member}).")]);
    stores(&mut party, vec![ended("a", 2)]);
    // Without trying: it is known.
    stores(&mut party, vec![ended("b", 1), record("c", 1, &[])]);
    warned(&mut party, "has no leader");
    assert_eq!(listed(&party, true), [job("c", true)]);
    broker.control(&["eval", &format!("ra:restart_server(quorum_queues, {member}).")]);
    warned(&mut party, "takes jobs that have ended again");
    assert_eq!(listed(&party, false), [job("a", false), job("b", false), job("c", true)]);
}
