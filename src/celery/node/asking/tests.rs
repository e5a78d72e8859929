use std::{cell::Cell, sync::Arc};

use serde_json::json;
use tokio::sync::mpsc;

use super::*;
use crate::{
    celery::node::state::{EventsWanted, Settings},
    logging::Logger,
};

fn state() -> (Rc<State>, mpsc::UnboundedReceiver<Asked>) {
    let settings =
        Settings { name: "asynctask@vm".to_owned(), events: EventsWanted::Auto, works: true, passive: false };
    let (commands, asked) = mpsc::unbounded_channel();
    let (remembered, _) = oneshot::channel();
    (Rc::new(State::new(settings, Logger::quiet(), commands, Arc::default(), remembered)), asked)
}

fn on_a_thread<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

#[test]
fn requests_that_come_together_share_a_view_that_is_not_older_than_they_are() {
    on_a_thread(async {
        let (state, mut asked) = state();
        let views = Rc::new(Views::new(state));
        let made = Rc::new(Cell::new(0));
        let count = Rc::clone(&made);
        tokio::task::spawn_local(async move {
            while let Some(Asked { command, reply, .. }) = asked.recv().await {
                assert_eq!(command, Command::CeleryView {});
                count.set(count.get() + 1);
                let _ = reply.send(Answer::Done(json!({ "total": { "made": count.get() } })));
            }
        });
        let number = |seen: Seen| seen.unwrap().total["made"];
        // All are there before the first is made.
        let together = futures_util::future::join_all((0..50).map(|_| views.view())).await;
        assert!(together.into_iter().all(|seen| number(seen) == 1));
        assert_eq!(number(views.view().await), 2, "another one, as this came later");
        assert_eq!(made.get(), 2);
    });
}

#[test]
fn what_the_core_refuses_is_said_and_an_end_is_no_wait() {
    on_a_thread(async {
        let (state, mut asked) = state();
        let refuse = async {
            let Asked { by, reply, .. } = asked.recv().await.unwrap();
            assert!(by.contains("asynctask@vm"), "{by}");
            reply.send(Answer::refused("unknown task")).unwrap();
            drop(asked.recv().await.unwrap().reply);
        };
        let ask = async {
            let limit = || Command::CeleryRateLimit { task: "t".to_owned(), rate: "0".to_owned() };
            let refused = command(&state, limit()).await;
            (refused, command(&state, limit()).await)
        };
        let ((), (refused, ended)) = futures_util::future::join(refuse, ask).await;
        assert_eq!(refused, Err("unknown task".to_owned()));
        assert_eq!(ended, Err("the master is ending".to_owned()));
        drop(asked);
        assert_eq!(command(&state, Command::CeleryView {}).await, Err("the master is ending".to_owned()));
    });
}
