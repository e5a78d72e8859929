//! Events of the `tracing` crate as log lines: `tracing::info!` in user code just works.

use tracing::{Event, Metadata, Subscriber, span, subscriber::Interest};

use super::lines::Lines;
use crate::logging::{Level, Text};

/// Sends events to `lines` from here on, unless the program has set up something of its own before.
pub(super) fn install(lines: Lines) {
    let _ = tracing::subscriber::set_global_default(TracingLines(lines));
}

/// Sends the events of `body` to `lines`, unless the program has set up something of its own.
pub(super) fn within<T>(lines: &Lines, body: impl FnOnce() -> T) -> T {
    if tracing::dispatcher::has_been_set() {
        return body();
    }
    tracing::subscriber::with_default(TracingLines(lines.clone()), body)
}

struct TracingLines(Lines);

impl Subscriber for TracingLines {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // Asked anew for each event: the level may change while the worker runs.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        level_of(metadata).is_some_and(|level| self.0.shows(level))
    }

    fn event(&self, event: &Event<'_>) {
        if let Some(level) = level_of(event.metadata()) {
            let mut text = Text::default();
            event.record(&mut text);
            self.0.write(level, &format_args!("{}{}", text.message, text.fields));
        }
    }

    // Spans are not shown.

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
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_message_and_its_fields() {
        struct Shown(std::sync::Mutex<String>);
        impl Subscriber for Shown {
            fn enabled(&self, _: &Metadata<'_>) -> bool {
                true
            }
            fn event(&self, event: &Event<'_>) {
                let mut text = Text::default();
                event.record(&mut text);
                *self.0.lock().unwrap() = format!("{:?} {}{}", level_of(event.metadata()), text.message, text.fields);
            }
            fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
                span::Id::from_u64(1)
            }
            fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
            fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
            fn enter(&self, _: &span::Id) {}
            fn exit(&self, _: &span::Id) {}
        }
        let shown = std::sync::Arc::new(Shown(std::sync::Mutex::default()));
        tracing::subscriber::with_default(std::sync::Arc::clone(&shown), || {
            tracing::warn!(count = 3, name = "x", "so {}", "it is");
        });
        assert_eq!(*shown.0.lock().unwrap(), r#"Some(Warning) so it is count=3 name="x""#);
    }
}
