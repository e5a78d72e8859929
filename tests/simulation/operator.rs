//! Control commands while the master runs, and what must follow from each: one answer, a replacement that is ready before
//! the process that it replaces is told to go, as many processes as were asked for, no task begun in a paused queue.

use std::{collections::BTreeSet, time::Duration};

use asynctask::{
    config::MANY,
    control::types::{Answer, Command},
    frames::HaltReason,
    master::core::event::{Event, Plan, WorkerId},
};

use super::{
    child::Child,
    simulation::{Simulation, Step},
};

/// This long after the faults end, or after the last command, what was asked for is so.
pub(crate) const SETTLED: Duration = Duration::from_secs(100);

/// What was asked for.
#[derive(Debug)]
pub(crate) struct OperatorCommands {
    given: u64,
    answers: Vec<(u64, Answer)>,
    /// Processes of each queue as asked for last.
    pub(crate) processes: Vec<u32>,
    pub(crate) paused: Vec<bool>,
    /// When a pause ends by itself.
    pub(crate) pause_until: Vec<Option<Duration>>,
    pub(crate) restarted_at: Vec<Option<Duration>>,
    /// The task that is being cancelled by the command under way.
    pub(crate) cancelling: Option<String>,
    /// Slots whose process is to replace another one, and was not ready yet.
    pub(crate) successors: BTreeSet<usize>,
    pub(crate) last_at: Duration,
}

impl OperatorCommands {
    /// The log tells that a pause is over.
    pub(crate) fn pause_is_over(&mut self, queue: usize, now: Duration) -> Result<(), String> {
        let is_due = self.pause_until[queue].take().is_some_and(|until| until <= now);
        if !std::mem::take(&mut self.paused[queue]) || !is_due {
            return Err(format!("the pause of queue q{queue} is over before its time, or none is"));
        }
        Ok(())
    }

    /// Whether a queue is to take nothing.
    pub(crate) fn is_paused(&self, queue: usize, now: Duration) -> bool {
        self.paused[queue] && self.pause_until[queue].is_none_or(|until| until > now)
    }

    pub(crate) fn new(plan: &Plan, queues: usize) -> Self {
        Self {
            given: 0,
            answers: Vec::new(),
            processes: (0..queues)
                .map(|queue| plan.queues.get(queue).map_or(0, |queue| queue.settings.processes))
                .collect(),
            paused: vec![false; queues],
            pause_until: vec![None; queues],
            restarted_at: vec![None; queues],
            cancelling: None,
            successors: BTreeSet::new(),
            last_at: Duration::ZERO,
        }
    }

    /// Nobody here has it: the answer is the transport's.
    pub(crate) fn left_to_the_transport(&mut self, number: u64, id: &str) -> Result<(), String> {
        if self.cancelling.as_deref() != Some(id) {
            return Err(format!("{id} is cancelled, and nobody asked for it"));
        }
        self.answers.push((number, Answer::refused("no such task")));
        Ok(())
    }

    pub(crate) fn answered(&mut self, number: u64, answer: Answer) {
        self.answers.push((number, answer));
    }
}

impl Simulation {
    /// An operator gives a random command.
    pub(crate) fn order(&mut self) -> Result<(), String> {
        let index = self.rng.between(0, self.settings.queues.len() as u64 - 1) as usize;
        let queue = self.settings.queue(index).name.clone();
        if let Some(orders) = self.settings.celery.as_ref().map(|faults| faults.orders)
            && self.rng.chance(orders)
        {
            let command = self.celery_order();
            return self.give(&command);
        }
        let command = match self.rng.between(0, 14) {
            0 | 1 => {
                let limit_ms = self.rng.pick(&[None, None, Some(200), Some(5000), Some(3_600_000)]);
                Command::Pause { queue, limit_ms, unkept: self.rng.chance(100) }
            }
            2 | 3 => Command::Resume { queue },
            4 => Command::Unpark { queue },
            5..=7 => Command::Scale { queue, processes: self.rng.pick(&[1, 1, 2, 2, 3, 4, 4, 0, MANY + 1]) },
            8 | 9 => Command::Restart { queue: self.rng.chance(700).then_some(queue) },
            10 | 11 => Command::Cancel { id: self.some_id() },
            12 => Command::LogLevel { level: self.rng.pick(&["debug", "loud"]).to_owned() },
            13 => Command::Pause { queue: "nobody's".to_owned(), limit_ms: None, unkept: false },
            _ if self.rng.chance(200) => Command::Stop { now: self.rng.chance(500) },
            _ if self.rng.chance(500) => Command::Status {},
            _ if self.rng.chance(500) => Command::Events { after: self.rng.between(0, 20), most: None },
            _ => Command::Health {},
        };
        self.give(&command)
    }

    /// An operator cancels a task that is behind another one in a worker, if there is any.
    pub(crate) fn cancel_behind(&mut self) -> Result<(), String> {
        let ids: Vec<&String> =
            self.children.values().flat_map(|child| child.behind().iter().map(|hand| &hand.id)).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let id = ids[self.rng.next() as usize % ids.len()].clone();
        self.give(&Command::Cancel { id })
    }

    /// In the end nothing is to be held back any more.
    pub(crate) fn resume_all(&mut self) -> Result<(), String> {
        for index in 0..self.settings.queues.len() {
            if self.halted.is_none() {
                self.give(&Command::Resume { queue: self.settings.queue(index).name.clone() })?;
            }
        }
        Ok(())
    }

    pub(crate) fn some_id(&mut self) -> String {
        let hands = self.children.values().flat_map(|child| child.hands.iter().map(|hand| hand.id.clone()));
        let waiting = self.ledger.open.iter().map(|handle| self.ledger.entries[handle].task.id.clone());
        let ids: BTreeSet<String> = hands.chain(waiting).collect();
        let number = self.rng.next() as usize % ids.len().max(1);
        ids.into_iter().nth(number).unwrap_or_else(|| "nowhere".to_owned())
    }

    /// What the ledger knows: the first worker that has it loses it, whatever it is dying of already.
    fn cancelled(&mut self, id: &str) {
        let hands = self.children.values_mut().flat_map(|child| &mut child.hands);
        if let Some(hand) = hands.into_iter().find(|hand| hand.id == id) {
            hand.cancelled = true;
        } else {
            let at = self.at();
            self.ledger.cancelled_with_pending_verdict(id, at);
        }
    }

    /// Tells the core how many descriptors there are for workers, as the shell does before what may want more of them. Whether
    /// there are none.
    pub(crate) fn count_descriptors(&mut self) -> Result<bool, String> {
        let is_short = self.rng.chance(100);
        self.feed(Event::DescriptorsCounted(if is_short { 0 } else { u64::MAX }))?;
        Ok(is_short)
    }

    fn give(&mut self, command: &Command) -> Result<(), String> {
        let stopping = self.observer.stopping_at.is_some();
        let reloads = &self.observer.reloads;
        let members: Vec<usize> = (0..self.observer.parked.len()).filter(|index| reloads.is_member(*index)).collect();
        let is_short = matches!(command, Command::Scale { .. }) && self.count_descriptors()?;
        let known = |name: &str| members.iter().copied().find(|index| format!("q{index}") == name);
        let operator = &mut self.observer.operator;
        operator.given += 1;
        operator.last_at = self.now;
        let number = operator.given;
        let mut must_be_done = None;
        match command {
            Command::Status {}
            | Command::Health {}
            | Command::Events { .. }
            | Command::CeleryView {}
            | Command::CeleryEvents { .. } => {
                must_be_done = Some(true);
            }
            // Of schedules, settings and counts the core knows nothing: whoever drives it answers.
            Command::Schedules {}
            | Command::RunNow { .. }
            | Command::Counters {}
            | Command::Settings {}
            | Command::DashboardLink {} => {
                must_be_done = Some(false);
            }
            Command::Stop { now } => {
                must_be_done = Some(true);
                self.stops += 1;
                if *now {
                    self.observer.interrupt_asked(self.now);
                } else {
                    self.observer.stop_asked(self.now);
                }
            }
            _ if stopping => must_be_done = Some(false),
            Command::Pause { queue, limit_ms, .. } => {
                let until = limit_ms.map(|limit| self.now + Duration::from_millis(limit));
                let is_news = known(queue).is_some_and(|index| {
                    let was = std::mem::replace(&mut operator.paused[index], true);
                    let was_until = operator.pause_until[index];
                    let is_news = !was || until.is_some() || was_until.is_some();
                    if is_news {
                        operator.pause_until[index] = until;
                    }
                    is_news
                });
                must_be_done = Some(is_news);
            }
            Command::Resume { queue } => {
                let was = known(queue).map(|index| std::mem::replace(&mut operator.paused[index], false));
                must_be_done = Some(was == Some(true));
            }
            Command::Unpark { queue } => {
                let parked = known(queue).map(|index| {
                    self.observer.needs_proof[index] = false;
                    self.observer.is_pausing[index] = false;
                    std::mem::take(&mut self.observer.parked[index])
                });
                must_be_done = Some(parked == Some(true));
            }
            Command::Scale { queue, processes } => {
                let most = self.settings.plan.max_in_hand.map_or(MANY, |most| most as u32);
                let index = known(queue).filter(|index| {
                    (1..=most).contains(processes) && !(is_short && *processes > operator.processes[*index])
                });
                must_be_done = Some(index.is_some());
                if let Some(index) = index {
                    operator.processes[index] = *processes;
                }
            }
            Command::Restart { queue } => {
                let of = queue.as_deref().and_then(known);
                let chosen = members.iter().copied().filter(|index| queue.is_none() || of == Some(*index));
                for index in chosen {
                    operator.restarted_at[index] = Some(self.now);
                }
                must_be_done = Some(queue.is_none() || of.is_some());
            }
            Command::Reload { .. } => must_be_done = Some(false),
            Command::Cancel { id } => {
                operator.cancelling = Some(id.clone());
                self.cancelled(id);
            }
            Command::LogLevel { level } => must_be_done = Some(level == "debug"),
            // No task here has stamps, and this operator waits for no worker.
            Command::CeleryRevokeStamped { .. } | Command::CeleryStoreRevoked { .. } => {}
            Command::CeleryRevoke { .. } | Command::CeleryTimeLimit { .. } | Command::CeleryRateLimit { .. } => {
                // Tasks of several workers may be ended by it.
                operator.cancelling = matches!(command, Command::CeleryRevoke { .. }).then(String::new);
                must_be_done = Some(self.celery_obeys(command));
            }
        }
        self.ledger.cancelling.clone_from(&self.observer.operator.cancelling);
        self.feed(Event::Commanded { number, command: command.clone(), by: "somebody".to_owned() })?;
        self.ledger.cancelling = None;
        let operator = &mut self.observer.operator;
        operator.cancelling = None;
        let answers = std::mem::take(&mut operator.answers);
        match &answers[..] {
            [(of, answer)] if *of == number => {
                if let (Command::Cancel { id }, Answer::Refused { .. }, false) = (command, answer, stopping)
                    && self.children.values().flat_map(|child| &child.hands).any(|hand| hand.id == *id)
                {
                    return Err(format!("{id} is in hand, and its cancellation was answered by {answer:?}"));
                }
                let is_done = matches!(answer, Answer::Done(_));
                if must_be_done.is_some_and(|must| must != is_done) {
                    return Err(format!("{command:?} was answered by {answer:?}"));
                }
                Ok(())
            }
            _ => Err(format!("{command:?} was answered by {answers:?}")),
        }
    }

    /// Tells how much memory a process has.
    pub(crate) fn measure(&mut self, worker: WorkerId) -> Result<(), String> {
        let child = self.children.get(&worker).ok_or("nobody is measured")?;
        if self.settings.queue(child.queue).recycle.max_memory.is_none() {
            return Err("measured without need".to_owned());
        }
        let bytes = self.rng.between(1, 1_500_000);
        let soon = self.rng.micros((1, 2_000));
        self.after(soon, Step::Measured(worker, bytes));
        Ok(())
    }

    /// Whether a process was told to go, outside a stop, for a good reason.
    pub(crate) fn may_be_dismissed(&self, worker: WorkerId, reason: HaltReason) -> Result<(), String> {
        if self.observer.stopping_at.is_some() {
            return Ok(());
        }
        let child = &self.children[&worker];
        let scaled_away = child.number > self.observer.operator.processes[child.queue];
        let is_successor = |(id, other): (&WorkerId, &Child)| {
            *id != worker && other.queue == child.queue && other.name == child.name && other.ready && other.is_wanted()
        };
        let right = match reason {
            HaltReason::Recycle => scaled_away || self.children.iter().any(is_successor),
            HaltReason::Stop => scaled_away,
            HaltReason::Empty => true,
        };
        if right { Ok(()) } else { Err(format!("told to go, {reason:?}, without a successor: {child:?}")) }
    }

    /// Whether a process may be killed because it is one too many.
    pub(crate) fn is_spare(&self, worker: WorkerId, child: &Child) -> bool {
        let grace = self.settings.plan.supervisor.grace;
        if child.dismissed {
            return child.hands.is_empty() && child.spare_since.is_some_and(|since| since + grace <= self.at());
        }
        let scaled_away = child.number > self.observer.operator.processes[child.queue];
        let replaced = self
            .children
            .iter()
            .any(|(id, other)| *id != worker && other.queue == child.queue && other.name == child.name && other.ready);
        !child.ready && (scaled_away || replaced)
    }

    /// After each event: no more processes than asked for and one replacement, and nobody who is to go stays.
    pub(crate) fn check_numbers(&self) -> Result<(), String> {
        let grace = self.settings.plan.supervisor.grace;
        for (index, most) in self.observer.operator.processes.iter().enumerate() {
            let is_once = self.settings.queues[index].is_once;
            let here = self.children.values().filter(|child| child.queue == index && child.is_wanted());
            let count = if is_once {
                // A place for single processes may be opened anew while the last process of the old one goes on.
                let places: BTreeSet<u32> = here.map(|child| child.number).filter(|number| number <= most).collect();
                places.len()
            } else {
                here.count()
            };
            let once = u32::from(!is_once);
            if count > (*most + once) as usize {
                return Err(format!("{count} processes of q{index}, asked for {most}"));
            }
        }
        let leaked = |child: &&Child| {
            // Who says bye has its second for it.
            let bound = grace + Duration::from_secs(1);
            child.killed_at.is_none() && child.spare_since.is_some_and(|since| since + bound < self.at())
        };
        match self.children.values().find(leaked) {
            Some(child) => Err(format!("told to go and still there: {child:?}")),
            None => Ok(()),
        }
    }

    /// Long after the last trouble: as many workers as asked for, none older than the last restart.
    pub(crate) fn check_converged(&self) -> Result<(), String> {
        if self.observer.stopping_at.is_some()
            || self.now < self.settings.faults_end_at.max(self.observer.operator.last_at) + SETTLED
        {
            return Ok(());
        }
        let here = self.observer.attached_at.is_some_and(|at| at + SETTLED < self.now);
        if here {
            self.observer.reloads.all_answered()?;
        }
        for (index, queue) in self.settings.queues.iter().enumerate() {
            if self.observer.parked[index] || queue.is_once {
                continue;
            }
            let well = || self.children.values().filter(|child| child.queue == index && child.is_well());
            let (count, wanted) = (well().count(), self.observer.operator.processes[index]);
            if count != wanted as usize {
                return Err(format!("{count} workers of q{index} at the end, asked for {wanted}"));
            }
            let numbers: BTreeSet<u32> = well().map(|child| child.number).collect();
            if numbers != (1..=wanted).collect() {
                return Err(format!("slots {numbers:?} of q{index}, asked for {wanted}"));
            }
            let restarted = self.observer.operator.restarted_at[index];
            if let Some(old) = well().find(|child| restarted.is_some_and(|at| child.spawned_at.since_start() < at)) {
                return Err(format!("restarted at {restarted:?}, and still there: {old:?}"));
            }
            if let Some(old) = well().find(|child| child.launch != queue.launch) {
                return Err(format!("not what the settings say, {}: {old:?}", queue.launch));
            }
            let age = queue.settings.recycle.max_age;
            if let Some(old) = well().find(|child| age.is_some_and(|age| child.spawned_at + age + SETTLED < self.at()))
            {
                return Err(format!("older than {age:?}: {old:?}"));
            }
        }
        Ok(())
    }
}
