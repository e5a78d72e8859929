//! What a run of the master is made of: all settings resolved, all sockets bound.

use std::{cell::RefCell, rc::Rc, time::Duration};

use super::{core::event::Plan, page_keeper::PageProcess, queue_run::QueueRun, shell::settings_reader::Reader};
use crate::{
    celery::{Protocol, node},
    control::socket::Socket,
    jobs::definition::Pipeline,
    junit, metrics,
    schedule::Timer,
    systemd::Notifier,
    transport::Uri,
};

/// A run of the master, all settings resolved.
#[derive(Debug)]
pub struct RunConfig {
    /// What the core works from, but for the queues.
    pub plan: Plan,
    /// The queues.
    pub queues: Vec<QueueRun>,
    /// The transport.
    pub uri: Uri,
    /// Queues whose messages have another form than ours, be they worked or not.
    pub protocols: Vec<(String, Protocol)>,
    /// Never create queues.
    pub passive: bool,
    /// Separates schedules and jobs.
    pub application: String,
    /// The pipelines: with some, this master competes for the coordination of jobs.
    pub pipelines: Vec<Pipeline>,
    /// The schedules, if this master may become their scheduler.
    pub timer: Option<Timer>,
    /// What is in force, for whoever asks: the merged settings with secrets masked, and where they were read.
    pub settings: serde_json::Value,
    /// The process of the page, if one is to be kept.
    pub page: Option<PageProcess>,
    /// Reads the settings again, where there are some.
    pub reader: Option<Reader>,
    /// The run ends with 81 after this long.
    pub halt_timeout: Option<Duration>,
    /// The service manager, if it is to be notified.
    pub notifier: Option<Notifier>,
    /// The control socket, bound already.
    pub control: Option<Socket>,
    /// The address of the metrics, bound already.
    pub metrics: Option<metrics::Listener>,
    /// How Celery's tools are to see this master, on RabbitMQ.
    pub celery: Option<node::Settings>,
    /// Collects the ends of tasks, for the report of the run.
    pub report: Option<Rc<RefCell<junit::Report>>>,
}
