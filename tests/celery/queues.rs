//! Queues with all the arguments that Celery's producers declare, who declare them with each message: whoever comes first,
//! nobody is refused.

use super::application::{Application, Kind, More, Workers};

const WORKERS: &str = "  prioritised_early: { worker: shop, protocol: celery, max_priority: 10 }
  prioritised_late: { worker: shop, protocol: celery, max_priority: 10 }
  quorum_early: { worker: shop, protocol: celery, declare_as: quorum }
  quorum_late: { worker: shop, protocol: celery, declare_as: quorum }
  orders_early: { worker: shop, protocol: celery, exchange: orders }
  orders_late: { worker: shop, protocol: celery, exchange: orders }
  untold_early: { worker: shop, protocol: celery }
  plain_late: { worker: shop, protocol: celery }
";

#[test]
fn whoever_declares_a_queue_first_nobody_is_refused() {
    if Workers::of_this_run() == Workers::Celerys {
        return;
    }
    // `celery` itself: early, and without arguments.
    let Some(application) = Application::new(vec![Kind::shop(1)]) else { return };
    application.configure(&More { workers: WORKERS, ..More::default() });
    application.scenarios_with("shop", "queues.py", &["-k", "before"]);
    application.start(&[]);
    application.scenarios_with("shop", "queues.py", &["-k", "not before"]);
    let log = application.logs();
    for word in ["PRECONDITION_FAILED", "unavailable"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
}
