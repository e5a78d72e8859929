//! What Celery's tools see of this master: a node, which begins with the run, or with the settings that bring the first queue of
//! Celery's, and ends with the run. A run without it is better than none.

use tokio::sync::mpsc;

use crate::{
    celery::{
        event::TaskEvent,
        node::{Node, Settings},
    },
    control::server::Asked,
    logging::{Level, Logger, MASTER},
    transport::Uri,
};

/// The node, if there is one, and what one is started with.
pub(in crate::master) struct Celery {
    node: Option<Node>,
    uri: Uri,
    commands: mpsc::UnboundedSender<Asked>,
    logger: Logger,
}

impl Celery {
    /// Without a node. `commands` leads to the loop.
    pub(in crate::master) fn new(uri: &Uri, commands: &mpsc::UnboundedSender<Asked>, logger: &Logger) -> Self {
        Self { node: None, uri: uri.clone(), commands: commands.clone(), logger: logger.clone() }
    }

    /// Starts the node if the settings have one, unless it runs.
    pub(in crate::master) fn start(&mut self, settings: Option<Settings>) {
        let (Some(settings), Uri::Amqp(address), None) = (settings, &self.uri, &self.node) else { return };
        match Node::start(settings, address, self.commands.clone(), self.logger.clone()) {
            Ok(node) => self.node = Some(node),
            Err(error) => {
                let text = format!("Celery's tools will not see this master: {error}");
                self.logger.line(Level::Warning, MASTER, &text);
            }
        }
    }

    /// Waits, for two seconds at most, until the loop was sent what was revoked in an earlier run.
    pub(in crate::master) async fn remembers(&mut self) {
        if let Some(node) = &mut self.node {
            node.remembers().await;
        }
    }

    /// Something happened to a task.
    pub(super) fn tell(&self, event: Box<TaskEvent>) {
        if let Some(node) = &self.node {
            node.tell(event);
        }
    }

    /// What its monitors see in a heartbeat, which waits for nobody: tasks in hand, and tasks since the start.
    pub(super) fn count(&self, active: u64, processed: u64) {
        if let Some(node) = &self.node {
            node.count(active, processed);
        }
    }

    /// Ends the node, in two seconds at most.
    pub(super) async fn close(&mut self) {
        if let Some(node) = self.node.take() {
            node.close().await;
        }
    }
}
