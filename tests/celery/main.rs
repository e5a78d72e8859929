//! A Celery application, unmodified, its queues worked by `asynctask workers`: real producers (Python, `scenarios/`), a real
//! RabbitMQ, the application in `shop/`, a Django project in `warehouse/`.
//!
//! | What is shown | Where |
//! | --- | --- |
//! | results, exceptions, chains, groups, links, errbacks, retries, requests, delays, expiry, limits, compression, the first protocol, messages that are turned away | `scenarios/tasks.py` |
//! | chords, nested canvases, replaced tasks, over Redis and in a folder; a member that dies of a signal | `scenarios/canvas.py` |
//! | pickle, allowed and refused | `scenarios/content_types.py` |
//! | a Django project | `scenarios/django_project.py` |
//! | kinds that are no Celery applications | `scenarios/any_kind.py` |
//! | schedules | `scenarios/schedules.py` |
//! | delays survive a kill -9 of the master | `delays` |
//! | queues of all arguments, whoever declares them first | `queues` |
//! | `celery status`, `inspect`, `control`, over the application's own client | `scenarios/remote_control.py` |
//! | results of tasks that are revoked before they come | `scenarios/revoked.py` |
//! | events, Flower | `scenarios/monitors.py` |
//! | the node that Celery's tools see: a worker of Celery's beside it, lost connections, restarts, who may only look | `node` |
//! | messages that nobody can read, requests of remote control that nobody should have sent | `hostile` |
//! | workers, master and broker killed while chains are done | `storm` |
//! | Celery's own worker before, beside and after a master; beat; commands that speak with no worker | `beside` |
//! | settings in the place of options of Celery's worker | `options` |
//! | a part of Celery's own integration tests; all of them by `suite/run.py` | `suite` |
//! | the example project, as its page says it, and the tests that the page about Celery names | `example` |
//!
//! The packages are installed into the target folder at the first run (`environment.py`); where that cannot be done, all is
//! left out. `ASYNCTASK_CELERY_WORKER=celery` lets Celery's own worker work the queues instead: so a scenario is proven to be
//! right. What only asynctask has is skipped then. `ASYNCTASK_CELERY_SEED=1,2,3` and `ASYNCTASK_CELERY_CHAINS=2000` make it
//! other storms, and longer ones.

#[path = "../support/mod.rs"]
mod support;

mod application;
mod beside;
mod delays;
mod example;
mod hostile;
mod module;
mod node;
mod options;
mod queues;
mod redis;
mod scenarios;
mod storm;
mod suite;
mod watchdog;
