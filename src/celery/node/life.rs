//! The node's whole life: sessions one after the other, with pauses that grow between tries.
//!
//! The log has a line when the node is up and one when it is not, and none for each try in between.

use std::{rc::Rc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use super::{
    session::{self, End, EventsOutlet},
    state::State,
};
use crate::{
    celery::event::TaskEvent,
    clock::Instant,
    logging::Level,
    transport::amqp::{Address, REBUILD_BACKOFF, with_jitter},
};

/// A session that ends earlier counts as another failure in a row.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// A broker that has not noticed the end of an earlier session keeps its mailbox locked for a while; after so many tries in a row
/// somebody else has it.
const LOCKED_TRIES: u32 = 4;

/// What the log was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Up,
    Lost,
    Locked,
}

/// Runs the node until `stopped` says so, or whoever would say it is gone.
pub(super) async fn live(
    state: State,
    address: Address,
    events: mpsc::Receiver<Box<TaskEvent>>,
    mut stopped: oneshot::Receiver<()>,
) {
    let state = Rc::new(state);
    let outlet = EventsOutlet::default();
    let publishing = tokio::task::spawn_local(session::publish_events(Rc::clone(&state), Rc::clone(&outlet), events));
    let mut log = Log { state: Rc::clone(&state), said: Said::Nothing, locked: 0 };
    let mut failures = 0;
    loop {
        let mut up_since: Option<Instant> = None;
        let mut on_up = || {
            up_since = Some(state.now());
            log.up();
        };
        let end = session::run(&state, &address, &outlet, &mut stopped, &mut on_up).await;
        outlet.borrow_mut().take();
        state.up.set(false);
        state.tell_wanted();
        let pause = match end {
            End::Stopped => break,
            End::Locked => {
                state.remembered();
                failures += 1;
                log.locked();
                REBUILD_BACKOFF.delay(failures)
            }
            End::Failed(error) => {
                if up_since.is_some_and(|since| state.now().since(since) >= STABLE_AFTER) {
                    failures = 0;
                }
                // Each address of a cluster once, before the first pause.
                match address.failed(error) {
                    Ok(()) => Duration::ZERO,
                    Err(error) => {
                        failures += 1;
                        log.lost(&error.to_string());
                        REBUILD_BACKOFF.delay(failures)
                    }
                }
            }
        };
        tokio::select! {
            _ = &mut stopped => break,
            () = tokio::time::sleep(with_jitter(pause)) => {}
        }
    }
    publishing.abort();
}

/// The lines about being up or not, each once in a row.
struct Log {
    state: Rc<State>,
    said: Said,
    locked: u32,
}

impl Log {
    fn say(&mut self, said: Said, level: Level, text: &str) {
        if std::mem::replace(&mut self.said, said) != said {
            self.state.log(level, &format!("Celery node {} {text}", self.state.settings.name));
        }
    }

    fn up(&mut self) {
        self.locked = 0;
        self.say(Said::Up, Level::Info, "is up");
    }

    fn lost(&mut self, cause: &str) {
        self.locked = 0;
        let text = match self.said {
            Said::Up => "has lost its connection",
            _ => "has no connection",
        };
        self.say(Said::Lost, Level::Warning, &format!("{text}, and tries again until it has one: {cause}"));
    }

    fn locked(&mut self) {
        self.locked += 1;
        if self.locked >= LOCKED_TRIES {
            self.say(
                Said::Locked,
                Level::Warning,
                "is not up, as another node of this virtual host has the same name: give this one its own with \
                 celery: { node: … }",
            );
        }
    }
}
