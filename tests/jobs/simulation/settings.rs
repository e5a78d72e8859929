//! What a history is drawn from: a pipeline, how its tasks behave, and what goes wrong.

use std::time::Duration;

use asynctask::jobs::definition::{Conflict, ForEach, Pipeline, Step, Tolerance};

use super::{mutants::Mutant, rng::Rng};

/// The inputs of a history. Chances are per thousand.
#[derive(Debug)]
pub(super) struct Settings {
    /// Steps of the coordinator and settlements are stored as a whole, as in SQLite; else one message after the other.
    pub(super) is_atomic: bool,
    pub(super) pipeline: Pipeline,
    /// What a reload makes of it, and back.
    pub(super) other: Pipeline,
    /// Steps whose tasks submit others.
    pub(super) fans: Vec<bool>,
    pub(super) jobs: u64,
    /// Events before everything goes well.
    pub(super) faults: u64,
    pub(super) master_dies: u32,
    pub(super) coordinator_dies: u32,
    /// Of what a coordinator published before it died, so much comes after its successor has taken over.
    pub(super) late: u32,
    pub(super) doubled: u32,
    pub(super) fails: u32,
    pub(super) removed: u32,
    /// Dead letters that go.
    pub(super) purged: u32,
    pub(super) reloads: u32,
    /// The clock is set back.
    pub(super) set_back: u32,
    pub(super) restarts: u32,
    /// Of these, those that do again only what failed.
    pub(super) of_failed: u32,
    pub(super) retries: u32,
    pub(super) cancels: u32,
    pub(super) other_orders: u32,
}

impl Settings {
    pub(super) fn draw(rng: &mut Rng, mutant: Option<Mutant>) -> Self {
        let count = rng.between(2, 5) as usize;
        let mut pipeline = Pipeline::new("p", (0..count).map(|place| step(place, rng)).collect());
        if rng.chance(500) {
            pipeline.key = Some("{payload.key}".to_owned());
            pipeline.conflict = Conflict::Wait;
        }
        pipeline.max_running = rng.chance(300).then_some(1);
        pipeline.timeout = rng.chance(100).then(|| Duration::from_secs(rng.between(10, 300)));
        pipeline.on_failure = rng.chance(300).then(|| "notices".to_owned());
        pipeline.wipe_failed_after = Some(Duration::from_mins(if rng.chance(200) { 2 } else { 600 }));
        let lists: Vec<usize> = (0..count).filter(|place| pipeline.steps[*place].for_each.is_some()).collect();
        for place in lists {
            let need = pipeline.steps[place].needs[0];
            // A step that begins with a list has no result, nor has one whose first task failed.
            match pipeline.steps[need].for_each {
                Some(_) => pipeline.steps[place].for_each = None,
                None => pipeline.steps[need].allow_failed = Tolerance::default(),
            }
        }
        // One more step behind the last one, which needs that.
        let mut other = pipeline.clone();
        let mut last = Step::new(&format!("s{count}"), &format!("q{count}"), vec![count - 1]);
        last.each = format!("i{count}");
        other.steps.push(last);
        let mut settings = Self {
            is_atomic: rng.chance(400),
            pipeline,
            other,
            fans: (0..=count).map(|_| rng.chance(500)).collect(),
            jobs: rng.between(1, 3),
            faults: rng.between(50, 400),
            master_dies: rng.probability(350),
            coordinator_dies: rng.probability(350),
            late: rng.probability(600),
            doubled: rng.probability(300),
            fails: rng.probability(300),
            removed: rng.probability(20),
            purged: rng.probability(30),
            reloads: if rng.chance(300) { rng.probability(20) } else { 0 },
            set_back: if rng.chance(200) { rng.probability(20) } else { 0 },
            restarts: rng.probability(30),
            of_failed: 300,
            retries: 50,
            cancels: if rng.chance(200) { 10 } else { 0 },
            other_orders: rng.probability(40),
        };
        if let Some(mutant) = mutant {
            settings.suit(mutant);
        }
        settings
    }

    /// The faults that a mutant cannot stand, often, and none that hide it.
    fn suit(&mut self, mutant: Mutant) {
        self.is_atomic = false;
        self.fans.fill(true);
        (self.restarts, self.cancels, self.other_orders, self.removed, self.jobs) = (0, 0, 0, 0, 1);
        (self.purged, self.reloads, self.set_back) = (0, 0, 0);
        (self.pipeline.timeout, self.pipeline.max_running) = (None, None);
        for step in &mut self.pipeline.steps {
            step.allow_failed = Tolerance::default();
            step.for_each = None;
        }
        match mutant {
            Mutant::Counter | Mutant::EarlyDropped => self.doubled = 150,
            Mutant::IndexIsIdentity | Mutant::EntryBeforeItems => self.master_dies = 250,
            Mutant::DerivedRound => {
                (self.coordinator_dies, self.late, self.master_dies, self.doubled, self.fails) = (300, 0, 0, 0, 0);
            }
            Mutant::LateStates | Mutant::AfterUnconfirmed => (self.coordinator_dies, self.late) = (300, 500),
            Mutant::AckBeforeState | Mutant::SameVersion => self.coordinator_dies = 250,
            Mutant::RevivalByNumber => {
                (self.doubled, self.fails, self.purged) = (800, 300, 80);
                (self.restarts, self.of_failed, self.retries, self.coordinator_dies) = (60, 1000, 0, 0);
            }
            Mutant::OtherRounds => (self.doubled, self.restarts) = (150, 60),
            Mutant::SecondItems => (self.master_dies, self.doubled, self.fails) = (250, 150, 0),
            Mutant::ClosedForgotten => (self.restarts, self.other_orders) = (40, 100),
            Mutant::OrderTwice => (self.coordinator_dies, self.doubled, self.restarts) = (250, 300, 60),
            Mutant::StateBeforeRevival => {
                (self.coordinator_dies, self.fails, self.restarts, self.retries) = (250, 200, 60, 0);
            }
        }
    }
}

fn step(place: usize, rng: &mut Rng) -> Step {
    let mut needs: Vec<usize> = (0..place).filter(|_| rng.chance(400)).collect();
    if needs.is_empty() && place > 0 && rng.chance(800) {
        needs.push(place - 1);
    }
    let first = needs.first().copied();
    let mut step = Step::new(&format!("s{place}"), &format!("q{place}"), needs);
    step.each = format!("i{place}");
    step.wipe = rng.chance(400).then(|| format!("w{place}"));
    step.keep = rng.chance(200);
    step.allow_failed = match rng.between(0, 9) {
        0 => Tolerance::Tasks(1),
        1 => Tolerance::Percent(30.0),
        _ => Tolerance::default(),
    };
    if let Some(need) = first.filter(|_| rng.chance(200)) {
        step.for_each = Some(ForEach::Result { step: need, path: vec!["list".to_owned()] });
    }
    step
}
