//! What one history is drawn from: the plan of the master, the faults of its workers, the faults of its transport.
//!
//! All of it is drawn from the seed and printed with a failure.

use std::time::Duration;

use asynctask::{
    backoff::Backoff,
    celery::Protocol,
    config::{Acks, Breaker, Queue, Rate, Recycle, Supervisor},
    logging::Level,
    master::core::event::{ParkedQueue, Plan, QueuePlan},
    retry::Policy,
    task::Accepts,
    transport::DeadQueue,
    unique::{Conflict, Template, Unique},
};

use super::{celery_queues::CeleryFaults, rng::Rng};

/// So many histories in a thousand have a queue with many short tasks.
const SHORT: u32 = 160;

/// Everything that distinguishes one history from another.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) plan: Plan,
    /// All queues that there can be, as the settings have them now: those of the plan first.
    pub(crate) queues: Vec<QueuePlan>,
    /// Times that the settings are read again until the faults end.
    pub(crate) reloads: u32,
    pub(crate) worker_faults: WorkerFaults,
    pub(crate) transport: TransportFaults,
    /// From then on children are well, the session stands, nothing new comes.
    pub(crate) faults_end_at: Duration,
    /// What the run before has left.
    pub(crate) parked_before: Vec<ParkedQueue>,
    /// When somebody asks for a stop.
    pub(crate) stops: Vec<Duration>,
    /// From then on nothing is stored, though the session stands.
    pub(crate) stuck_at: Option<Duration>,
    /// When the time limit of the run passes.
    pub(crate) halt_limit: Option<Duration>,
    /// Commands of operators until the faults end.
    pub(crate) commands: u32,
    /// Messages from outside until the faults end.
    pub(crate) arrivals: u32,
    /// Times that the master does not run, which it notices or is too short for that.
    pub(crate) pauses: u32,
    /// What the tasks and the workers of each queue are like.
    pub(crate) workloads: Vec<Workload>,
    /// Times that many tasks come to the first queue with short ones, with how many come.
    pub(crate) bursts: Vec<(Duration, u32)>,
    /// Times that something happens just when tasks were sent ahead.
    pub(crate) disturbances: u32,
    /// How Celery's queues are, if there are any.
    pub(crate) celery: Option<CeleryFaults>,
    /// How tasks of jobs are, if there are any.
    pub(crate) jobs: Option<JobFaults>,
}

/// The tasks and the workers of a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Workload {
    /// Tasks that its workers take beyond the one in hand, as they announce it.
    pub(crate) ahead: u32,
    /// Its tasks take less than a millisecond, but for so many in a thousand.
    pub(crate) short_but: Option<u32>,
}

/// Faults and habits of worker processes; probabilities are per thousand.
#[derive(Debug)]
pub(crate) struct WorkerFaults {
    pub(crate) spawn_fails: u32,
    /// Tasks for which a program can never be executed, by their ids.
    pub(crate) unexecutable: u32,
    /// More processes than these there cannot be.
    pub(crate) max_processes: Option<u32>,
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
    pub(crate) leaves_processes: u32,
    /// Microseconds of work, until ready, from a signal to the end.
    pub(crate) work: (u64, u64),
    pub(crate) start: (u64, u64),
    pub(crate) dying: (u64, u64),
    /// Recalls that are answered never; late; with an end before the answer or right after it. The first two are habits of a process.
    pub(crate) recalls_ignored: u32,
    pub(crate) recalls_late: u32,
    pub(crate) recalls_deadly: u32,
    /// Microseconds that a frame is on its way to a worker that takes tasks ahead, or from it.
    pub(crate) wire: (u64, u64),
    /// And that such a worker has between two tasks.
    pub(crate) gap: (u64, u64),
}

/// Latencies and faults of the transport; probabilities are per thousand.
#[derive(Debug)]
pub(crate) struct TransportFaults {
    /// Microseconds from a request to its effect, and from an event to us.
    pub(crate) latency: (u64, u64),
    /// Time between losses of the session, if it is lost at all.
    pub(crate) losses: Option<(u64, u64)>,
    /// Time until it is back.
    pub(crate) outage: (u64, u64),
    /// Time until what was in hand at a loss lies in its queue again.
    pub(crate) return_delay: (u64, u64),
    /// Messages without an id, with the id of another one, not JSON, expired soon, delivered often before.
    pub(crate) without_id: u32,
    pub(crate) duplicate_ids: u32,
    pub(crate) malformed_bodies: u32,
    pub(crate) expiring: u32,
    pub(crate) often_delivered: u32,
    /// Messages without a key; keys that another master has.
    pub(crate) without_key: u32,
    pub(crate) keys_held_elsewhere: u32,
    /// Follow-ups that can never be stored.
    pub(crate) unstorable: u32,
    /// Whether an acceptance is answered when the original is gone, and not with the settlement that follows.
    pub(crate) answers_accept_at_once: bool,
    /// Time between faults of single queues, if there are any; how long each lasts; whether they ever end.
    pub(crate) queue_faults: Option<(u64, u64)>,
    pub(crate) queue_outage: (u64, u64),
    pub(crate) queues_recover: bool,
    /// Wrong password, told instead of the first session.
    pub(crate) refuses: bool,
    /// Whether a queue is a classic one, which counts no deliveries.
    pub(crate) classic: [bool; 4],
}

/// Histories with jobs; probabilities are per thousand.
#[derive(Debug)]
pub(crate) struct JobFaults {
    /// Tasks from outside that are of a job.
    pub(crate) members: u32,
    /// Times that a job is stopped until the faults end.
    pub(crate) stops: u32,
    /// What waits of a void round is removed by the transport, and not handed out any more.
    pub(crate) removes_void: bool,
}

impl Settings {
    pub(crate) fn draw(seed: u64) -> Self {
        let rng = &mut Rng::new(seed);
        let plan = draw_plan(rng, seed);
        let faults_end_at = Duration::from_secs(rng.between(1, 90));
        let stops = match rng.between(0, 5) {
            0 | 1 if plan.halt_when_empty => Vec::new(),
            count => {
                let first = rng.micros((0, 120_000_000));
                let mut stops = vec![first];
                for _ in 2..count {
                    let pause = rng.micros((0, 12_000_000));
                    stops.push(stops[stops.len() - 1] + pause);
                }
                stops
            }
        };
        let longest_work = rng.pick(&[800, 20_000, 400_000, 8_000_000]);
        let mut settings = Self {
            queues: plan.queues.clone(),
            reloads: 0,
            worker_faults: WorkerFaults {
                spawn_fails: rng.probability(60),
                max_processes: None,
                unexecutable: 0,
                never_ready: rng.probability(80),
                dies_starting: rng.probability(120),
                bad_start: rng.probability(80),
                idle_death: rng.probability(100),
                freezes: rng.probability(100),
                crash: rng.probability(250),
                exit_zero: rng.probability(100),
                hang: rng.probability(100),
                fault: rng.probability(120),
                error: rng.probability(300),
                retry: rng.probability(150),
                snooze: rng.probability(200),
                failed: rng.probability(80),
                malformed: rng.probability(60),
                submits: rng.probability(300),
                accepts: rng.probability(150),
                deaf: rng.chance(200),
                work: (100, longest_work),
                start: (500, rng.pick(&[3_000, 300_000, 3_000_000])),
                dying: (100, rng.pick(&[2_000, 100_000, 500_000])),
                leaves_processes: if seed.is_multiple_of(3) { 300 } else { 0 },
                recalls_ignored: 0,
                recalls_late: 0,
                recalls_deadly: 0,
                wire: (0, 0),
                gap: (0, 10),
            },
            transport: TransportFaults {
                latency: (20, rng.pick(&[300, 20_000, 400_000])),
                losses: rng.chance(600).then(|| (1000, rng.pick(&[2_000_000, 20_000_000]))),
                outage: (
                    1000,
                    rng.pick(&[1_000_000, 8_000_000, if plan.halt_when_empty { 45_000_000 } else { 120_000_000 }]),
                ),
                return_delay: (10, rng.pick(&[20, 50_000, 3_000_000])),
                without_id: rng.probability(300),
                duplicate_ids: rng.probability(400),
                malformed_bodies: rng.probability(100),
                expiring: rng.probability(100),
                often_delivered: rng.probability(100),
                without_key: rng.probability(400),
                keys_held_elsewhere: rng.probability(300),
                unstorable: rng.probability(300),
                answers_accept_at_once: rng.chance(500),
                queue_faults: None,
                queue_outage: (1_000, 5_000_000),
                queues_recover: true,
                refuses: rng.chance(10),
                classic: [0, 1, 2, 3].map(|queue| seed >> queue & 1 == 1),
            },
            halt_limit: (plan.halt_when_empty && rng.chance(80)).then(|| rng.micros((0, 60_000_000))),
            commands: if rng.chance(400) { 0 } else { rng.between_u32(1, 30) },
            arrivals: rng.between_u32(0, 40),
            pauses: 0,
            workloads: Vec::new(),
            bursts: Vec::new(),
            disturbances: 0,
            celery: None,
            jobs: None,
            plan,
            parked_before: Vec::new(),
            faults_end_at,
            stops,
            stuck_at: None,
        };
        // Drawn last, so that the histories without it stay as they were.
        if rng.chance(400) {
            settings.reloads = rng.between_u32(1, 12);
            for number in settings.queues.len()..settings.queues.len() + rng.between(0, 2) as usize {
                settings.queues.push(draw_queue(rng, &format!("q{number}")));
            }
        }
        if rng.chance(500) {
            settings.transport.queue_faults = Some((1000, rng.pick(&[1_000_000, 10_000_000])));
            settings.transport.queue_outage = (1000, rng.pick(&[20_000, 4_000_000, 45_000_000]));
            settings.transport.queues_recover = !rng.chance(100);
        }
        settings.plan.starts_at_once = rng.pick(&[usize::MAX, 1, 1, 2]);
        settings.worker_faults.unexecutable = rng.probability(400);
        settings.worker_faults.max_processes = rng.chance(300).then(|| rng.between_u32(1, 4));
        if rng.chance(400) {
            settings.pauses = rng.between_u32(1, 60);
        }
        if !settings.plan.halt_when_empty && rng.chance(300) {
            settings.stuck_at = Some(rng.micros((0, 2 * faults_end_at.as_micros() as u64)));
        }
        settings.draw_tasks_ahead(rng);
        settings.draw_celery(rng);
        settings.draw_parked_before(rng);
        settings.draw_jobs(rng);
        settings
    }

    /// Workers that take tasks ahead, and tasks for which the master sends some.
    fn draw_tasks_ahead(&mut self, rng: &mut Rng) {
        self.workloads = self.queues.iter().map(|_| Workload { ahead: draw_ahead(rng), short_but: None }).collect();
        self.worker_faults.wire = (0, rng.pick(&[20, 20, 100, 100, 100, 400, 400, 40_000]));
        if !rng.chance(SHORT) {
            return;
        }
        let queue = rng.between(0, self.plan.queues.len() as u64 - 1) as usize;
        self.workloads[queue] =
            Workload { ahead: rng.pick(&[1, 3, 64, 64, 64, 64]), short_but: Some(rng.pick(&[0, 20, 30, 50])) };
        self.transport.latency.1 = rng.pick(&[100, 300, 20_000]);
        self.worker_faults.gap = (0, rng.pick(&[10, 10, 1_500]));
        self.worker_faults.recalls_ignored = rng.pick(&[0, 0, 400]);
        self.worker_faults.recalls_late = rng.pick(&[0, 300]);
        self.worker_faults.recalls_deadly = rng.pick(&[0, 300, 300]);
        self.plan.max_in_hand = None;
        let plan = &mut self.plan.queues[queue];
        let settings = &mut plan.settings;
        (plan.is_once, settings.concurrency, settings.acks) = (false, 1, Acks::Late);
        (settings.rate, settings.unique) = (None, None);
        // One thing for which nothing is to be sent ahead, though it would be without.
        match rng.between(0, 20) {
            0 => settings.concurrency = 2,
            1 => settings.acks = Acks::Early,
            2 | 3 => settings.rate = Some(Rate { calls: 1_000, period: Duration::from_secs(1) }),
            4 | 5 => settings.unique = Some(draw_unique(rng)),
            6 => self.plan.max_in_hand = Some(rng.between(1, 3) as usize),
            _ => {}
        }
        self.queues[queue] = plan.clone();
        for _ in 0..rng.between(1, 2) {
            let at =
                if rng.chance(400) { Duration::ZERO } else { rng.micros((0, self.faults_end_at.as_micros() as u64)) };
            self.bursts.push((at, rng.between_u32(60, 110)));
        }
        self.disturbances = rng.between_u32(0, 8);
    }

    /// Tasks of jobs, and jobs that are stopped.
    fn draw_jobs(&mut self, rng: &mut Rng) {
        if !rng.chance(400) {
            return;
        }
        let most = if self.short_queue().is_some() { 60 } else { 30 };
        self.jobs = Some(JobFaults {
            members: rng.pick(&[300, 700, 1000]),
            stops: rng.between_u32(0, most),
            removes_void: rng.chance(500),
        });
    }

    /// The queue with many short tasks, if there is one.
    pub(crate) fn short_queue(&self) -> Option<usize> {
        self.workloads.iter().position(|workload| workload.short_but.is_some())
    }

    pub(crate) fn queue(&self, index: usize) -> &Queue {
        &self.queues[index].settings
    }
}

fn draw_ahead(rng: &mut Rng) -> u32 {
    rng.pick(&[0, 1, 3, 64])
}

fn draw_plan(rng: &mut Rng, seed: u64) -> Plan {
    let queues = (0..rng.between(1, 3)).map(|number| draw_queue(rng, &format!("q{number}"))).collect();
    Plan {
        foreign_names: false,
        names: asynctask::config::Names::default(),
        queues,
        supervisor: Supervisor {
            grace: Duration::from_millis(rng.pick(&[0, 500, 5_000, 30_000])),
            start_timeout: Duration::from_millis(rng.pick(&[1_000, 4_000, 10_000])),
            ping: Duration::from_millis(rng.pick(&[2_000, 12_000, 30_000])),
            restart: Backoff {
                first: Duration::from_millis(100),
                factor: 2.0,
                longest: Duration::from_secs(rng.pick(&[1, 30])),
            },
        },
        halt_when_empty: rng.chance(600),
        scheduler: rng.chance(200),
        max_in_hand: rng.chance(300).then(|| rng.between(1, 3) as usize),
        starts_at_once: usize::MAX,
        descriptors: u64::MAX,
        host: "here".to_owned(),
        application: "app".to_owned(),
        pipelines: Vec::new(),
        seed,
        remember: rng.chance(850).then(|| Duration::from_secs(40)),
        structured: false,
        log_level: Level::Debug,
    }
}

/// Keys of one space, so that queues are in each other's way.
fn draw_unique(rng: &mut Rng) -> Unique {
    let key = Template::parse("{payload.k}").expect("a template");
    let conflict = rng.pick(&[Conflict::Snooze, Conflict::Snooze, Conflict::Drop, Conflict::DeadLetter]);
    Unique { conflict, after: Duration::from_millis(rng.pick(&[100, 1_000, 5_000])), ..Unique::new(key) }
}

fn draw_queue(rng: &mut Rng, name: &str) -> QueuePlan {
    let ms = Duration::from_millis;
    let calls = rng.between_u32(1, 6);
    let settings = Queue {
        name: name.to_owned(),
        kind: format!("{name}_kind"),
        processes: rng.between_u32(1, 3),
        concurrency: rng.between_u32(1, 2),
        rate: rng.chance(300).then(|| Rate { calls, period: ms(rng.pick(&[50, 1_000, 3_000])) }),
        acks: if rng.chance(250) { Acks::Early } else { Acks::Late },
        timeout: rng.chance(600).then(|| ms(rng.pick(&[300, 3_000, 20_000]))),
        retry: Policy {
            max_attempts: rng.between_u32(1, 4),
            backoff: Backoff { first: ms(rng.pick(&[1, 200, 2_000])), factor: 2.0, longest: ms(10_000) },
            jitter: rng.pick(&[0.0, 0.1, 1.0]),
        },
        dead_letter: DeadQueue::of(name),
        max_deliveries: rng.pick(&[4, 20, 20]),
        breaker: Breaker {
            failures: rng.pick(&[2, 5, 10, 1000, 1000]),
            pause: ms(rng.pick(&[500, 5_000, 20_000])),
            longest: ms(40_000),
            errors: rng.chance(300),
        },
        recycle: Recycle {
            max_tasks: rng.chance(250).then(|| rng.between(1, 4)),
            max_memory: rng.chance(150).then_some(1_000_000),
            max_age: rng.chance(150).then(|| ms(rng.pick(&[2_000, 30_000]))),
        },
        unwrap: true,
        unique: rng.chance(350).then(|| draw_unique(rng)),
        protocol: Protocol::default(),
    };
    let is_once = rng.chance(200);
    let settings = if is_once { Queue { concurrency: 1, recycle: Recycle::default(), ..settings } } else { settings };
    QueuePlan {
        settings,
        accepts: Accepts::Json,
        is_program: is_once || rng.chance(500),
        is_once,
        payload_in_file: false,
        launch: 0,
    }
}
