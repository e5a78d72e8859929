//! The look that is made once a second while there is a session for work: for what no notification told, masters that died, locks that
//! are free, upkeep.

use std::{rc::Rc, time::Duration};

use super::{actor::Actor, attach::channel, wake};
use crate::transport::{Event, postgres::connect::session::Session};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks where nothing is heard of notifications.
const LOOK_UNHEARD: Duration = Duration::from_millis(200);
/// How long a survey's answer holds while other masters hold tasks.
pub(super) const SURVEY_AGAIN: Duration = Duration::from_millis(500);
const WAITS: &str = "UPDATE @.node SET waits = $2 WHERE owner = $1";

impl Actor {
    /// Makes the look that is due.
    pub(super) async fn look(&mut self) {
        let every = if self.address.listens { LOOK_EVERY } else { LOOK_UNHEARD };
        self.look_at = self.clock.now().at + every;
        let Some(session) = self.work.session() else { return };
        self.looks += 1;
        self.claimer.recheck_all();
        if let Some(ledger) = &mut self.ledger {
            ledger.is_told = true;
        }
        self.try_lease().await;
        self.try_ledger().await;
        if !self.is_master {
            return;
        }
        self.judge_others(&session).await;
        self.claimer.holds_back &= self.judge.is_about_to_judge(self.clock.now().at);
        self.tell_stopped(&session).await;
        if self.waits && !std::mem::take(&mut self.was_idle) && self.claimer.has_room() {
            self.set_waits(&session, false).await;
        }
        self.keep_house(&session).await;
    }

    async fn judge_others(&mut self, session: &Rc<Session>) {
        let (now, grace, owner) = (self.clock.now().at, self.address.grace, self.claimer.owner);
        let mut judge = std::mem::take(&mut self.judge);
        let looked = self.over_work(session, judge.look(session, owner, now, grace)).await;
        // What was learned over a session that is gone counts for nothing: a new one waits.
        self.judge = judge;
        let Some(Ok(dead)) = looked else { return };
        if !dead.is_empty() {
            self.claimer.recheck_all();
            self.wake.members();
        }
        for one in dead {
            if let Some(text) = one.told() {
                self.tell(Event::Warning(text));
            }
        }
    }

    /// Tells others whether we wait for tasks, and sends what is to be sent. Called after each turn.
    pub(super) async fn tell_others(&mut self, session: &Rc<Session>) {
        let now = self.clock.now().at;
        if self.is_master && self.claimer.has_room() && !self.claimer.has_work(now) {
            self.was_idle = true;
            if !self.waits {
                self.set_waits(session, true).await;
                // Whoever stored a task before did not see that we wait.
                self.claimer.recheck_all();
            }
        }
        if let Some(sql) = self.wake.take(now, &channel(&self.address.schema)) {
            let _ = self.over_work(session, wake::send(session, &sql)).await;
        }
    }

    /// Sends what is to be sent where there is no session for work, as of a command.
    pub(super) fn tell_others_beside(&mut self) {
        if let Some(sql) = self.wake.take(self.clock.now().at, &channel(&self.address.schema)) {
            let side = Rc::clone(&self.side);
            tokio::task::spawn_local(async move {
                // Whoever misses it looks within a second.
                let _ = side.ask(async |session| wake::send(session, &sql).await).await;
            });
        }
    }

    async fn set_waits(&mut self, session: &Rc<Session>, waits: bool) {
        let owner = self.claimer.owner;
        self.waits = waits;
        let set = async { session.run(WAITS, &[&owner, &waits]).await.map(drop) };
        let _ = self.over_work(session, set).await;
    }
}
