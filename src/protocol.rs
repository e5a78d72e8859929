//! In which form the messages of a queue are: ours, or Celery's.

/// The form of a queue's messages, and what follows from it for the queue itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Ours: the body is the payload.
    #[default]
    Asynctask,
    /// Celery's.
    Celery(Box<CeleryQueue>),
}

/// How Celery's producers declare a queue: they do so each time that they publish, and are refused where it has other arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CeleryQueue {
    /// The durable direct exchange that the queue is bound to, by its own name.
    pub exchange: String,
    /// The queue's type.
    pub declare_as: DeclareAs,
    /// Its number of priorities (`x-max-priority`), if it has any.
    pub max_priority: Option<u8>,
}

/// Type of a queue that does not exist yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeclareAs {
    /// Without any argument, as Celery does unless it is told otherwise.
    #[default]
    Classic,
    /// `x-queue-type: quorum`, as with `task_default_queue_type: quorum`.
    Quorum,
}

impl Protocol {
    /// What Celery knows of the queue, if it is one of Celery's.
    #[must_use]
    pub const fn celery(&self) -> Option<&CeleryQueue> {
        match self {
            Self::Asynctask => None,
            Self::Celery(queue) => Some(queue),
        }
    }

    /// Whether its messages are Celery's.
    #[must_use]
    pub const fn is_celery(&self) -> bool {
        matches!(self, Self::Celery(_))
    }
}

impl CeleryQueue {
    /// A queue with every setting at its default.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self { exchange: name.to_owned(), declare_as: DeclareAs::default(), max_priority: None }
    }
}

impl DeclareAs {
    /// The word used in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }
}
