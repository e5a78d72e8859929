//! Events of the `tracing` crate as log lines: of our own crate in the master, of user code in a worker.
//!
//! One subscriber serves both; a [`Sink`] takes the lines. Spans are not shown, nor are events of the level `TRACE`.

use std::fmt;

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

use crate::level::Level;

/// Takes the lines of events.
pub(crate) trait Sink: Send + Sync + 'static {
    /// Whether events of this target are lines here. The answer is the same for the whole life of the process.
    fn takes(&self, target: &str) -> bool;

    /// Whether a line of this level would be written now.
    fn shows(&self, level: Level) -> bool;

    /// Writes one line.
    fn write(&self, level: Level, message: &dyn fmt::Display);
}

/// Turns events into lines of its sink.
#[derive(Debug)]
pub(crate) struct EventSubscriber<S>(pub(crate) S);

impl<S: Sink> Subscriber for EventSubscriber<S> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // "Sometimes": the level can change. "Never" makes the events of the libraries below us cost nothing.
        if self.0.takes(metadata.target()) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.takes(metadata.target()) && level_of(metadata).is_some_and(|level| self.0.shows(level))
    }

    fn event(&self, event: &Event<'_>) {
        if self.enabled(event.metadata())
            && let Some(level) = level_of(event.metadata())
        {
            let mut text = Text::default();
            event.record(&mut text);
            self.0.write(level, &format_args!("{}{}", text.message, text.fields));
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

fn level_of(metadata: &Metadata<'_>) -> Option<Level> {
    Some(match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warning,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => return None,
    })
}

/// An event as text: its message, then its fields as ` key=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {field}={value:?}")
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shown(Arc<Mutex<Vec<String>>>);

    impl Sink for Shown {
        fn takes(&self, target: &str) -> bool {
            target != "other"
        }

        fn shows(&self, level: Level) -> bool {
            level <= Level::Info
        }

        fn write(&self, level: Level, message: &dyn fmt::Display) {
            self.0.lock().unwrap().push(format!("{level} {message}"));
        }
    }

    #[test]
    fn an_event_is_its_message_and_its_fields() {
        let shown = Shown::default();
        tracing::subscriber::with_default(EventSubscriber(shown.clone()), || {
            tracing::warn!(count = 3, name = "x", "so {}", "it is");
            tracing::info!(target: "other", "no");
            tracing::debug!("no");
            tracing::trace!("never");
        });
        assert_eq!(*shown.0.lock().unwrap(), [r#"WARNING so it is count=3 name="x""#]);
    }
}
