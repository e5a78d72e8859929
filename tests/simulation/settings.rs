//! What a world is like: the plan of the master, the manners of its children, the state of its transport.
//!
//! All of it is drawn from the seed and printed with a failure.

use std::time::Duration;

use asynctask::{
    backoff::Backoff,
    config::{Acks, Breaker, Queue, Rate, Recycle, Supervisor},
    logging::Level,
    master::core::event::{Plan, QueuePlan},
    retry::Policy,
    task::Accepts,
    transport::DeadQueue,
    unique::{Conflict, Template, Unique},
};

use super::dice::Dice;

/// Everything that distinguishes one world from another.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) plan: Plan,
    /// All queues that there can be, as the settings have them now: those of the plan first.
    pub(crate) queues: Vec<QueuePlan>,
    /// Times that the settings are read again until the calm.
    pub(crate) reloads: u32,
    pub(crate) temper: Temper,
    pub(crate) transport: Weather,
    /// From then on children are well, the session stands, nothing new comes.
    pub(crate) calm_at: Duration,
    /// When somebody asks for a stop.
    pub(crate) stops: Vec<Duration>,
    /// From then on nothing is stored, though the session stands.
    pub(crate) stuck_at: Option<Duration>,
    /// When the time limit of the run passes.
    pub(crate) halt_limit: Option<Duration>,
    /// Orders of people until the calm.
    pub(crate) orders: u32,
    /// Messages from outside until the calm.
    pub(crate) arrivals: u32,
    /// Times that the master does not run, which it notices or is too short for that.
    pub(crate) pauses: u32,
}

/// Manners of children, in a thousand where not said otherwise.
#[derive(Debug)]
pub(crate) struct Temper {
    pub(crate) spawn_fails: u32,
    /// Tasks for which a program can never be executed, by their ids.
    pub(crate) unexecutable: u32,
    /// More processes than these there cannot be.
    pub(crate) room: Option<u32>,
    pub(crate) never_ready: u32,
    pub(crate) dies_starting: u32,
    /// Says something wrong before it is ready, or hangs up.
    pub(crate) bad_start: u32,
    pub(crate) idle_death: u32,
    /// Is stopped, as by SIGSTOP, when it holds nothing.
    pub(crate) freezes: u32,
    pub(crate) crash: u32,
    pub(crate) exit_zero: u32,
    pub(crate) hang: u32,
    pub(crate) fault: u32,
    pub(crate) error: u32,
    pub(crate) retry: u32,
    pub(crate) snooze: u32,
    pub(crate) failed: u32,
    pub(crate) malformed: u32,
    pub(crate) submits: u32,
    pub(crate) accepts: u32,
    /// Every child hears SIGKILL alone.
    pub(crate) deaf: bool,
    /// Leaves others running when it ends out of order.
    pub(crate) leaves: u32,
    /// Microseconds of work, until ready, from a signal to the end.
    pub(crate) work: (u64, u64),
    pub(crate) start: (u64, u64),
    pub(crate) dying: (u64, u64),
}

/// The transport's state.
#[derive(Debug)]
pub(crate) struct Weather {
    /// Microseconds from a request to its effect, and from an event to us.
    pub(crate) latency: (u64, u64),
    /// Time between losses of the session, if it is lost at all.
    pub(crate) losses: Option<(u64, u64)>,
    /// Time until it is back.
    pub(crate) outage: (u64, u64),
    /// Time until what was in hand at a loss lies in its queue again.
    pub(crate) return_delay: (u64, u64),
    /// Messages without an id, with the id of another one, not JSON, expired soon, delivered often before.
    pub(crate) nameless: u32,
    pub(crate) twins: u32,
    pub(crate) nonsense: u32,
    pub(crate) expiring: u32,
    pub(crate) worn: u32,
    /// Messages without a key; keys that another master has.
    pub(crate) keyless: u32,
    pub(crate) elsewhere: u32,
    /// Follow-ups that can never be stored.
    pub(crate) unstorable: u32,
    /// Whether an early acknowledgement is answered like the other settlements.
    pub(crate) answers_accept: bool,
    /// Time between troubles of single queues, if there are any; how long each lasts; whether they ever end.
    pub(crate) troubles: Option<(u64, u64)>,
    pub(crate) trouble: (u64, u64),
    pub(crate) mends: bool,
    /// Wrong password, told instead of the first session.
    pub(crate) refuses: bool,
    /// Whether a queue is a classic one, which counts no deliveries.
    pub(crate) classic: [bool; 4],
}

impl Settings {
    pub(crate) fn draw(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let plan = draw_plan(dice, seed);
        let calm_at = Duration::from_secs(dice.between(1, 90));
        let stops = match dice.between(0, 5) {
            0 | 1 if plan.halt_when_empty => Vec::new(),
            count => {
                let first = dice.micros((0, 120_000_000));
                let mut stops = vec![first];
                for _ in 2..count {
                    let pause = dice.micros((0, 12_000_000));
                    stops.push(stops[stops.len() - 1] + pause);
                }
                stops
            }
        };
        let calm_work = dice.pick(&[800, 20_000, 400_000, 8_000_000]);
        let mut settings = Self {
            queues: plan.queues.clone(),
            reloads: 0,
            temper: Temper {
                spawn_fails: dice.mood(60),
                room: None,
                unexecutable: 0,
                never_ready: dice.mood(80),
                dies_starting: dice.mood(120),
                bad_start: dice.mood(80),
                idle_death: dice.mood(100),
                freezes: dice.mood(100),
                crash: dice.mood(250),
                exit_zero: dice.mood(100),
                hang: dice.mood(100),
                fault: dice.mood(120),
                error: dice.mood(300),
                retry: dice.mood(150),
                snooze: dice.mood(200),
                failed: dice.mood(80),
                malformed: dice.mood(60),
                submits: dice.mood(300),
                accepts: dice.mood(150),
                deaf: dice.chance(200),
                work: (100, calm_work),
                start: (500, dice.pick(&[3_000, 300_000, 3_000_000])),
                dying: (100, dice.pick(&[2_000, 100_000, 500_000])),
                leaves: if seed.is_multiple_of(3) { 300 } else { 0 },
            },
            transport: Weather {
                latency: (20, dice.pick(&[300, 20_000, 400_000])),
                losses: dice.chance(600).then(|| (1000, dice.pick(&[2_000_000, 20_000_000]))),
                outage: (
                    1000,
                    dice.pick(&[1_000_000, 8_000_000, if plan.halt_when_empty { 45_000_000 } else { 120_000_000 }]),
                ),
                return_delay: (10, dice.pick(&[20, 50_000, 3_000_000])),
                nameless: dice.mood(300),
                twins: dice.mood(400),
                nonsense: dice.mood(100),
                expiring: dice.mood(100),
                worn: dice.mood(100),
                keyless: dice.mood(400),
                elsewhere: dice.mood(300),
                unstorable: dice.mood(300),
                answers_accept: dice.chance(500),
                troubles: None,
                trouble: (1_000, 5_000_000),
                mends: true,
                refuses: dice.chance(10),
                classic: [0, 1, 2, 3].map(|queue| seed >> queue & 1 == 1),
            },
            halt_limit: (plan.halt_when_empty && dice.chance(80)).then(|| dice.micros((0, 60_000_000))),
            orders: if dice.chance(400) { 0 } else { dice.small(1, 30) },
            arrivals: dice.small(0, 40),
            pauses: 0,
            plan,
            calm_at,
            stops,
            stuck_at: None,
        };
        // Drawn last, so that a world without it is what it was.
        if dice.chance(400) {
            settings.reloads = dice.small(1, 12);
            for number in settings.queues.len()..settings.queues.len() + dice.between(0, 2) as usize {
                settings.queues.push(draw_queue(dice, &format!("q{number}")));
            }
        }
        if dice.chance(500) {
            settings.transport.troubles = Some((1000, dice.pick(&[1_000_000, 10_000_000])));
            settings.transport.trouble = (1000, dice.pick(&[20_000, 4_000_000, 45_000_000]));
            settings.transport.mends = !dice.chance(100);
        }
        settings.plan.starts_at_once = dice.pick(&[usize::MAX, 1, 1, 2]);
        settings.temper.unexecutable = dice.mood(400);
        settings.temper.room = dice.chance(300).then(|| dice.small(1, 4));
        if dice.chance(400) {
            settings.pauses = dice.small(1, 60);
        }
        if !settings.plan.halt_when_empty && dice.chance(300) {
            settings.stuck_at = Some(dice.micros((0, 2 * calm_at.as_micros() as u64)));
        }
        settings
    }

    pub(crate) fn queue(&self, index: usize) -> &Queue {
        &self.queues[index].settings
    }
}

fn draw_plan(dice: &mut Dice, seed: u64) -> Plan {
    let queues = (0..dice.between(1, 3)).map(|number| draw_queue(dice, &format!("q{number}"))).collect();
    Plan {
        foreign_names: false,
        names: asynctask::config::Names::default(),
        queues,
        supervisor: Supervisor {
            grace: Duration::from_millis(dice.pick(&[0, 500, 5_000, 30_000])),
            start_timeout: Duration::from_millis(dice.pick(&[1_000, 4_000, 10_000])),
            ping: Duration::from_millis(dice.pick(&[2_000, 12_000, 30_000])),
            restart: Backoff {
                first: Duration::from_millis(100),
                factor: 2.0,
                longest: Duration::from_secs(dice.pick(&[1, 30])),
            },
        },
        halt_when_empty: dice.chance(600),
        scheduler: dice.chance(200),
        max_in_hand: dice.chance(300).then(|| dice.between(1, 3) as usize),
        starts_at_once: usize::MAX,
        descriptors: u64::MAX,
        host: "here".to_owned(),
        seed,
        remember: dice.chance(850).then(|| Duration::from_secs(40)),
        structured: false,
        log_level: Level::Debug,
    }
}

/// Keys of one space, so that queues are in each other's way.
fn draw_unique(dice: &mut Dice) -> Unique {
    let key = Template::parse("{payload.k}").expect("a template");
    let conflict = dice.pick(&[Conflict::Snooze, Conflict::Snooze, Conflict::Drop, Conflict::DeadLetter]);
    Unique { conflict, after: Duration::from_millis(dice.pick(&[100, 1_000, 5_000])), ..Unique::new(key) }
}

fn draw_queue(dice: &mut Dice, name: &str) -> QueuePlan {
    let ms = Duration::from_millis;
    let calls = dice.small(1, 6);
    let settings = Queue {
        name: name.to_owned(),
        kind: format!("{name}_kind"),
        processes: dice.small(1, 3),
        concurrency: dice.small(1, 2),
        rate: dice.chance(300).then(|| Rate { calls, period: ms(dice.pick(&[50, 1_000, 3_000])) }),
        acks: if dice.chance(250) { Acks::Early } else { Acks::Late },
        timeout: dice.chance(600).then(|| ms(dice.pick(&[300, 3_000, 20_000]))),
        retry: Policy {
            max_attempts: dice.small(1, 4),
            backoff: Backoff { first: ms(dice.pick(&[1, 200, 2_000])), factor: 2.0, longest: ms(10_000) },
            jitter: dice.pick(&[0.0, 0.1, 1.0]),
        },
        dead_letter: DeadQueue::of(name),
        max_deliveries: dice.pick(&[4, 20, 20]),
        breaker: Breaker {
            failures: dice.pick(&[2, 5, 10, 1000, 1000]),
            pause: ms(dice.pick(&[500, 5_000, 20_000])),
            longest: ms(40_000),
            errors: dice.chance(300),
        },
        recycle: Recycle {
            max_tasks: dice.chance(250).then(|| dice.between(1, 4)),
            max_memory: dice.chance(150).then_some(1_000_000),
            max_age: dice.chance(150).then(|| ms(dice.pick(&[2_000, 30_000]))),
        },
        unwrap: true,
        unique: dice.chance(350).then(|| draw_unique(dice)),
    };
    let is_once = dice.chance(200);
    let settings = if is_once { Queue { concurrency: 1, recycle: Recycle::default(), ..settings } } else { settings };
    QueuePlan {
        settings,
        accepts: Accepts::Json,
        is_program: is_once || dice.chance(500),
        is_once,
        payload_in_file: false,
        launch: 0,
    }
}
