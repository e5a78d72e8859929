//! An order to the coordinator, given by a command.
//!
//! The order is stored, and its answer is waited for. Meanwhile the command asks for the ledger, too: it gets it where no master
//! holds it, and then carries out its order itself, with everything that came before.

use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;

use crate::{
    cli::waiting::{CallFailed, WaitingClient, say},
    clock::Clock,
    config::Config,
    exit_code::{Code, Error},
    jobs::order::{Answer, Order, Wanted},
    level::Level,
    master::coordinator::{Act, Coordinator},
    redact::redact,
    text,
    transport::{Event, Request, Transport, look_up},
};

/// How long the coordinator may take, if nothing else is asked for.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

/// How much longer the transport may take to say that nobody has answered.
const MORE: Duration = Duration::from_secs(10);

/// What was done.
pub(super) struct Done {
    pub(super) text: String,
    pub(super) job: Option<String>,
}

impl Done {
    /// For standard output.
    pub(super) fn line(&self, json: bool) -> String {
        if json {
            format!("{}\n", json!({ "job": self.job, "text": self.text }))
        } else {
            format!("{}\n", text::escape_line(&redact(&self.text)))
        }
    }
}

/// Gives an order and waits for the answer; what is refused, or not carried out in time, is an error.
pub(super) fn give(client: &mut WaitingClient, config: &Config, what: Wanted) -> Result<Done, Error> {
    give_within(client, config, what, WITHIN)
}

/// The same with another time.
pub(super) fn give_within(
    client: &mut WaitingClient,
    config: &Config,
    what: Wanted,
    within: Duration,
) -> Result<Done, Error> {
    let clock = client.clock();
    // What is answered is not warned of, too.
    let own = match &what {
        Wanted::Start { pipeline, id, .. } => format!("Job {id} of {pipeline} is not made"),
        _ => String::new(),
    };
    let order = Box::new(Order { id: uuid::Uuid::now_v7().to_string(), at: Clock::wall(), what });
    // Random bits of a version 7.
    let seed = uuid::Uuid::now_v7().as_u64_pair().1;
    let application = config.application.clone();
    let mut coordinator = Coordinator::new(&application, config.pipelines.clone(), seed);
    let request = |reply| Request::Order { application, order, within, reply };
    client.waits_for("the process that coordinates the jobs");
    client.waits_at_least(within + MORE);
    let bar = client.bar.clone();
    let warn = |text: &str| {
        if own.is_empty() || !text.starts_with(&own) {
            say(&bar, &format!("warning: {text}"));
        }
    };
    let answer = client.call_beside(request, async |transport, events, hand_on| {
        coordinate(&mut coordinator, &config.application, transport, events, hand_on, (clock, &warn)).await;
    });
    client.waits_for(&format!("an answer of {}", config.transport));
    if !coordinator.end().is_empty() {
        client.tell(Request::ReleaseLedger);
    }
    let answer = match answer {
        Ok(answer) | Err(CallFailed { done: Some(answer), .. }) => answer,
        Err(broken) => {
            let error = broken.error();
            let is_sure = broken.last().is_some();
            return Err(if is_sure {
                error
            } else {
                error.hint("the order may be stored, and is then carried out later")
            });
        }
    };
    let Some(answer) = answer else {
        let seconds = within.as_secs_f64();
        let text = format!(
            "the order is stored, and was not carried out within {seconds} s: the process that coordinates the jobs does not answer"
        );
        return Err(Error::new(Code::NoMaster, text)
            .hint("it is carried out by the next process that coordinates the jobs: a master, or another command"));
    };
    let unreadable = |error| Error::new(Code::Internal, format!("the answer to the order cannot be read: {error}"));
    match serde_json::from_str(&answer).map_err(unreadable)? {
        Answer::Done { text, job } => Ok(Done { text, job }),
        Answer::Refused { error, hint } => Err(Error { code: Code::Refused, message: error, hint }),
    }
}

/// Holds the ledger and folds what comes for as long as it is polled, if nobody else holds it.
async fn coordinate(
    coordinator: &mut Coordinator,
    application: &str,
    transport: &dyn Transport,
    events: &mut mpsc::UnboundedReceiver<Event>,
    hand_on: &mpsc::UnboundedSender<Event>,
    (clock, warn): (Clock, &dyn Fn(&str)),
) {
    use futures_util::{StreamExt, stream::FuturesUnordered};

    let mut lookups = FuturesUnordered::new();
    let mut acts = coordinator.begin();
    loop {
        for act in acts {
            match act {
                Act::Ask => transport.ask(Request::Ledger { application: application.to_owned() }),
                Act::GiveBack => transport.ask(Request::ReleaseLedger),
                Act::Advance(advance) => transport.ask(Request::Advance(advance)),
                Act::LookUp { epoch, entry, filters } => {
                    let found = look_up(transport, application, filters);
                    lookups.push(async move { (epoch, entry, found.await) });
                }
                // Nobody else says it: it is told once, when it is stored.
                Act::Log(level, text) if level <= Level::Warning => warn(&text),
                Act::Log(..) | Act::Ended(_) => {}
            }
        }
        let wait = coordinator.wait(clock.now()).unwrap_or(Duration::MAX);
        acts = tokio::select! {
            event = events.recv() => match event {
                Some(event @ Event::Waits(_)) => {
                    // Whoever waits for it may be gone.
                    let _ = hand_on.send(event);
                    Vec::new()
                }
                Some(event) => coordinator.event(event, clock.now()),
                None => return,
            },
            Some((epoch, entry, found)) = lookups.next() => coordinator.found(epoch, entry, found, clock.now()),
            () = tokio::time::sleep(wait) => coordinator.due(clock.now()),
        };
    }
}
